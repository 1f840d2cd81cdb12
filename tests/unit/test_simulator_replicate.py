"""The simulated Replicate over real HTTP, with a receiver that can be told how to answer."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.simulator.app import Settings, create_app
from local.simulator.server import serving

TOKEN = {"authorization": "Bearer r8_test"}
FLUX = "/models/black-forest-labs/flux-schnell/predictions"
LATE_AFTER = 0.6
TERMINAL = {"succeeded", "failed", "canceled", "aborted"}
numbers = count()
# One client for what needs no token: making one costs tens of milliseconds.
web = httpx.Client(timeout=5)


@dataclass
class Receiver:
    """`answer` may also look at what the provider knows at that moment."""

    url: str = ""
    answer: Callable[[dict[str, Any]], int] = lambda _: 200
    seen: list[tuple[httpx.Headers, bytes]] = field(default_factory=list)

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append((httpx.Headers(request.headers.raw), body))
        status_code = await asyncio.to_thread(self.answer, httpx.Response(200, content=body).json())
        return Response(status_code=status_code)

    @property
    def statuses(self) -> list[str]:
        return [httpx.Response(200, content=body).json()["status"] for _, body in self.seen]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    settings = Settings(late_after=LATE_AFTER, retry_pauses=(0.02, 0.02, 0.02))
    with serving(create_app(settings)) as address:
        yield address


@pytest.fixture(scope="module")
def api(origin: str) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=f"{origin}/replicate/v1", headers=TOKEN, timeout=5, limits=limits) as client:
        yield client


@pytest.fixture(scope="module")
def receivers() -> Iterator[dict[str, Receiver]]:
    """Receivers by path, all behind one server; the key `origin` holds its address."""
    known: dict[str, Receiver] = {}

    async def receive(request: Request) -> Response:
        return await known[request.path_params["name"]](request)

    with serving(Starlette(routes=[Route("/{name}", receive, methods=["POST"])])) as address:
        known["origin"] = Receiver(url=address)
        yield known


@pytest.fixture
def receiver(receivers: dict[str, Receiver]) -> Receiver:
    name = f"hook{next(numbers)}"
    receivers[name] = Receiver(url=f"{receivers['origin'].url}/{name}?job=job_{name}")
    return receivers[name]


def create(api: httpx.Client, prompt: str, to: Receiver | None = None, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    path = more.pop("path", FLUX)
    body = {"input": {"prompt": prompt, **more.pop("input", {})}, **more}
    if to is not None:
        body = {"webhook": to.url, "webhook_events_filter": ["start", "completed"]} | body
    return api.post(path, json=body, headers=headers)


def created(api: httpx.Client, prompt: str, to: Receiver | None = None, **more: Any) -> dict[str, Any]:
    answer = create(api, prompt, to, **more)
    assert answer.status_code == 201, answer.text
    prediction: dict[str, Any] = answer.json()
    return prediction


def ended(api: httpx.Client, prediction: dict[str, Any]) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(f"/predictions/{prediction['id']}").json()
        return found if found["status"] in TERMINAL else None

    return eventually(look)


def eventually[Found](look: Callable[[], Found | None]) -> Found:
    give_up = time.monotonic() + 4
    while not (found := look()):
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)
    return found


def inspected(origin: str, to: Receiver) -> dict[str, Any]:
    answer = web.get(f"{origin}/_sim/predictions", params={"webhook_contains": to.url})
    found: dict[str, Any] = answer.json()
    return found


def output_of(api: httpx.Client, prompt: str, **more: Any) -> str:
    url: str = ended(api, created(api, f"{prompt} [sim delay=0]", **more))["output"][0]
    return url


# Creating and reading


def test_a_prediction_goes_from_starting_through_processing_to_succeeded(api: httpx.Client) -> None:
    first = created(api, "a lighthouse [sim delay=0.25]", input={"aspect_ratio": "16:9"})
    eventually(lambda: api.get(f"/predictions/{first['id']}").json()["status"] == "processing")
    last = ended(api, first)

    assert re.fullmatch(r"[a-z2-7]{26}", first["id"])
    assert (first["status"], first["output"], first["metrics"]) == ("starting", None, {})
    assert (first["model"], first["version"]) == ("black-forest-labs/flux-schnell", "hidden")
    assert first["urls"]["cancel"] == f"{api.base_url}predictions/{first['id']}/cancel"
    assert (last["status"], last["error"]) == ("succeeded", None)
    assert 0.2 < last["metrics"]["predict_time"] + 0.06 < last["metrics"]["total_time"] + 0.06 < 0.6
    for name in ("created_at", "started_at", "completed_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", last[name])


def test_the_picture_is_real_and_sized_as_asked(api: httpx.Client) -> None:
    last = ended(api, created(api, "a boat [sim delay=0]", input={"aspect_ratio": "9:16", "num_outputs": 3}))

    contents = [web.get(url) for url in last["output"]]

    assert len({answer.content for answer in contents}) == 3
    for answer in contents:
        assert answer.headers["content-type"] == "image/png"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert Image.open(BytesIO(answer.content)).size == (432, 768)


def test_a_range_and_a_head_of_a_picture(api: httpx.Client) -> None:
    url = output_of(api, "a boat")
    whole = web.get(url).content

    part = web.get(url, headers={"range": "bytes=8-15"})
    tail = web.get(url, headers={"range": "bytes=-5"})
    beyond = web.get(url, headers={"range": f"bytes={len(whole)}-"})
    head = web.head(url)

    assert (part.status_code, part.content) == (206, whole[8:16])
    assert part.headers["content-range"] == f"bytes 8-15/{len(whole)}"
    assert tail.content == whole[-5:]
    assert beyond.status_code == 416
    assert (head.headers["content-length"], head.content) == (str(len(whole)), b"")


@pytest.mark.parametrize(("model", "kind"), [("flux-1.1-pro", str), ("flux-schnell", list), ("any-portrait", list)])
def test_some_models_answer_with_one_url(api: httpx.Client, model: str, kind: type) -> None:
    path = f"/models/owner/{model}/predictions"

    last = ended(api, created(api, "a boat [sim delay=0]", path=path, input={"output_format": "webp"}))

    assert isinstance(last["output"], kind)
    assert ".webp" in str(last["output"])


@pytest.mark.parametrize(
    ("version", "model", "shown"),
    [
        ("owner/name", "owner/name", "hidden"),
        ("owner/name:" + "a1" * 32, "owner/name", "a1" * 32),
        ("a1" * 32, "simulated/model", "a1" * 32),
    ],
)
def test_a_prediction_by_version(api: httpx.Client, version: str, model: str, shown: str) -> None:
    prediction = created(api, "a boat", path="/predictions", version=version)

    assert (prediction["model"], prediction["version"]) == (model, shown)


def test_a_prediction_by_deployment(api: httpx.Client) -> None:
    assert created(api, "a boat", path="/deployments/acme/art/predictions")["deployment"] == "acme/art"


def test_the_api_is_also_at_the_root(origin: str) -> None:
    answer = web.post(f"{origin}/v1{FLUX}", json={"input": {"prompt": "a boat"}}, headers=TOKEN)

    assert answer.json()["urls"]["get"] == f"{origin}/v1/predictions/{answer.json()['id']}"


def test_prefer_wait_answers_when_it_is_done_or_the_wait_is_over(api: httpx.Client) -> None:
    done = created(api, "a boat [sim delay=0.1]", headers={"prefer": "wait"})
    not_yet = created(api, "a boat [sim delay=9]", headers={"prefer": "wait=1"})

    assert (done["status"], not_yet["status"]) == ("succeeded", "processing")


@pytest.mark.parametrize("outcome", ["failed", "canceled", "aborted"])
def test_another_outcome(api: httpx.Client, outcome: str) -> None:
    last = ended(api, created(api, f"a boat [sim delay=0.05 outcome={outcome}]"))

    assert (last["status"], last["output"]) == (outcome, None)
    assert isinstance(last["error"], str) == (outcome == "failed")
    assert (last["started_at"] is None) == (outcome == "aborted")


def test_a_hundred_creates_at_once(api: httpx.Client, origin: str, receiver: Receiver) -> None:
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda n: created(api, f"boat {n} [sim delay=0.2]", receiver), range(100)))

    assert len({answer["id"] for answer in answers}) == 100
    eventually(lambda: receiver.statuses.count("succeeded") == 100)
    assert inspected(origin, receiver)["prediction_count"] == 100


# Refusals


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer sk-1"}, {"authorization": "Token r8_1"}])
@pytest.mark.parametrize("path", ["/predictions", "/predictions/abc", "/webhooks/default/secret"])
def test_no_token_no_answer(origin: str, header: dict[str, str], path: str) -> None:
    answer = web.get(f"{origin}/replicate/v1{path}", headers=header)

    assert answer.status_code == 401
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        (FLUX, "no json", "JSON"),
        (FLUX, "[]", "object"),
        (FLUX, "{}", "input"),
        (FLUX, '{"input": "a boat"}', "input"),
        (FLUX, '{"input": {"prompt": 7}}', "prompt"),
        (FLUX, '{"input": {"prompt": "a [sim webhook=maybe]"}}', "webhook=maybe"),
        (FLUX, '{"input": {"num_outputs": 5}}', "num_outputs"),
        (FLUX, '{"input": {"aspect_ratio": "wide"}}', "aspect_ratio"),
        (FLUX, '{"input": {"width": 99999, "height": 9}}', "width"),
        (FLUX, '{"input": {}, "webhook": "http://example.com/"}', "webhook"),
        (FLUX, '{"input": {}, "webhook": "ftp://127.0.0.1/"}', "webhook"),
        (FLUX, '{"input": {}, "webhook": 7}', "webhook"),
        (FLUX, '{"input": {}, "webhook_events_filter": ["end"]}', "webhook_events_filter"),
        ("/predictions", '{"input": {}}', "version"),
        ("/predictions", '{"input": {}, "version": "nonsense"}', "version"),
    ],
)
def test_a_bad_create_is_422_and_says_why(api: httpx.Client, path: str, content: str, named: str) -> None:
    answer = api.post(path, content=content)

    assert answer.status_code == 422
    assert named in answer.json()["detail"]


def test_an_unknown_prediction_is_404(api: httpx.Client) -> None:
    assert api.get("/predictions/abc").status_code == 404
    assert api.post("/predictions/abc/cancel").status_code == 404


# Create faults


@pytest.mark.parametrize(
    ("fault", "status_code", "content_type"),
    [("429", 429, "application/json"), ("500", 500, "application/json"), ("502html", 502, "text/html; charset=utf-8")],
)
def test_an_error_answer_creates_nothing_and_ends_after_its_count(
    api: httpx.Client, origin: str, receiver: Receiver, fault: str, status_code: int, content_type: str
) -> None:
    prompt = f"a boat [sim create={fault} times=2 delay=0]"

    answers = [create(api, prompt, receiver) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [status_code, status_code, 201]
    assert answers[0].headers["content-type"] == content_type
    found = inspected(origin, receiver)
    assert (found["create_count"], found["prediction_count"]) == (3, 1)
    if fault == "429":
        assert answers[0].headers["retry-after"] == "1"
        assert answers[0].json() == {"detail": "Request was throttled. Your rate limit resets in ~1s."}


def test_a_create_fault_without_a_count_stays(api: httpx.Client) -> None:
    assert {create(api, "a boat [sim create=500]").status_code for _ in range(4)} == {500}


def test_a_refused_create_is_closed_and_creates_nothing(api: httpx.Client, origin: str, receiver: Receiver) -> None:
    with pytest.raises(httpx.TransportError):
        create(api, "a boat [sim create=refuse]", receiver)

    found = inspected(origin, receiver)
    assert (found["create_count"], found["prediction_count"]) == (1, 0)


def test_a_create_dropped_after_it_was_accepted_runs_and_can_be_found(
    api: httpx.Client, origin: str, receiver: Receiver
) -> None:
    with pytest.raises(httpx.TransportError):
        create(api, "a boat [sim create=drop-after-accept delay=0.1]", receiver)

    listed = [item for item in api.get("/predictions").json()["results"] if item.get("webhook") == receiver.url]
    assert len(listed) == 1
    eventually(lambda: receiver.statuses == ["processing", "succeeded"])
    assert inspected(origin, receiver)["prediction_count"] == 1


def test_a_hung_create_is_never_answered(api: httpx.Client, origin: str, receiver: Receiver) -> None:
    with pytest.raises(httpx.ReadTimeout):
        body = {"input": {"prompt": "a boat [sim create=hang]"}, "webhook": receiver.url}
        api.post(FLUX, json=body, timeout=0.3)

    assert inspected(origin, receiver)["prediction_count"] == 0


# Output faults


def test_a_missing_output(api: httpx.Client) -> None:
    assert web.get(output_of(api, "[sim output=404]")).status_code == 404


def test_a_truncated_output(api: httpx.Client) -> None:
    url = output_of(api, "[sim output=truncated times=1]")

    received = 0
    with pytest.raises(httpx.RemoteProtocolError), web.stream("GET", url) as answer:
        for chunk in answer.iter_bytes():
            received += len(chunk)

    whole = web.get(url)
    assert int(answer.headers["content-length"]) == len(whole.content)
    assert received == len(whole.content) // 2


def test_an_output_of_the_wrong_type(api: httpx.Client) -> None:
    answer = web.get(output_of(api, "[sim output=wrong-type]"))

    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"<!doctype html>")


def test_an_endless_output(api: httpx.Client) -> None:
    received = 0
    with web.stream("GET", output_of(api, "[sim output=too-big]")) as answer:
        for chunk in answer.iter_bytes():
            if received == 0:
                assert chunk.startswith(b"\x89PNG")
            received += len(chunk)
            if received > 20_000_000:
                break

    assert "content-length" not in answer.headers


def test_an_output_that_redirects_to_a_private_address(api: httpx.Client) -> None:
    answer = web.get(output_of(api, "[sim output=redirect-private]"), follow_redirects=False)

    assert answer.status_code == 302
    assert answer.headers["location"] == "http://169.254.169.254/latest/meta-data/"


def test_output_faults_are_counted_by_file(api: httpx.Client, origin: str, receiver: Receiver) -> None:
    prediction = created(api, "[sim delay=0 output=404 times=1]", receiver, input={"num_outputs": 2})
    first, second = ended(api, prediction)["output"]

    statuses = [web.get(url).status_code for url in (first, first, second, second, second)]

    assert statuses == [404, 200, 404, 200, 200]
    assert inspected(origin, receiver)["predictions"][0]["downloads"] == [2, 3]


# Webhooks


def test_webhooks_carry_the_prediction_and_verify(api: httpx.Client, receiver: Receiver) -> None:
    secret = api.get("/webhooks/default/secret").json()["key"]

    prediction = created(api, "a boat [sim delay=0.1]", receiver)
    eventually(lambda: len(receiver.seen) == 2)

    bodies = [standardwebhooks.Webhook(secret).verify(body, dict(headers)) for headers, body in receiver.seen]
    assert receiver.statuses == ["processing", "succeeded"]
    assert bodies[-1] == api.get(f"/predictions/{prediction['id']}").json()
    assert bodies[-1]["webhook_events_filter"] == ["start", "completed"]


@pytest.mark.parametrize(
    ("events", "statuses"),
    [(["completed"], ["succeeded"]), (["start"], ["processing"]), (None, ["processing", "succeeded"]), ([], [])],
)
def test_only_what_was_asked_for_is_sent(
    api: httpx.Client, receiver: Receiver, events: list[str] | None, statuses: list[str]
) -> None:
    body = {"input": {"prompt": "a boat [sim delay=0.05]"}, "webhook": receiver.url}
    prediction = api.post(FLUX, json=body if events is None else body | {"webhook_events_filter": events}).json()

    ended(api, prediction)
    time.sleep(0.15)

    assert receiver.statuses == statuses


def test_an_early_webhook_is_answered_before_the_create(api: httpx.Client, receiver: Receiver) -> None:
    answered = threading.Event()

    def slow(_: dict[str, Any]) -> int:
        time.sleep(0.2)
        answered.set()
        return 200

    receiver.answer = slow
    prediction = created(api, "a boat [sim webhook=early delay=60]", receiver)

    assert answered.is_set()
    assert receiver.statuses == ["succeeded"]
    assert prediction["status"] == "starting"
    assert api.get(f"/predictions/{prediction['id']}").json()["status"] == "succeeded"


def test_an_early_webhook_nobody_wants_is_retried_after_the_create(api: httpx.Client, receiver: Receiver) -> None:
    answers = iter([404, 200])
    receiver.answer = lambda _: next(answers)

    created(api, "a boat [sim webhook=early]", receiver)

    eventually(lambda: receiver.statuses == ["succeeded", "succeeded"])


def test_a_webhook_delivered_twice_has_one_id(api: httpx.Client, receiver: Receiver) -> None:
    created(api, "a boat [sim webhook=twice delay=0.05]", receiver)
    eventually(lambda: len(receiver.seen) == 3)

    assert receiver.statuses == ["processing", "succeeded", "succeeded"]
    ids = [headers["webhook-id"] for headers, _ in receiver.seen]
    assert ids[0] != ids[1] == ids[2]


def test_reordered_webhooks_bring_the_past_last(api: httpx.Client, receiver: Receiver) -> None:
    created(api, "a boat [sim webhook=reordered delay=0.05]", receiver)

    eventually(lambda: receiver.statuses == ["succeeded", "processing"])


def test_a_lost_webhook_never_comes_although_the_prediction_succeeded(
    api: httpx.Client, origin: str, receiver: Receiver
) -> None:
    assert ended(api, created(api, "a boat [sim webhook=lost delay=0.05]", receiver))["status"] == "succeeded"
    time.sleep(0.2)

    assert receiver.seen == []
    log = inspected(origin, receiver)["predictions"][0]["deliveries"]
    assert [(line["event"], line["fault"]) for line in log] == [("start", "lost"), ("completed", "lost")]


def test_a_late_webhook_comes_long_after_the_end(api: httpx.Client, receiver: Receiver) -> None:
    started = time.monotonic()
    prediction = created(api, "a boat [sim webhook=late delay=0.05]", receiver)
    ended(api, prediction)
    known_after = time.monotonic() - started
    eventually(lambda: "succeeded" in receiver.statuses)

    assert known_after < LATE_AFTER - 0.1
    assert time.monotonic() - started >= LATE_AFTER - 0.01


def test_the_log_shows_refusals_and_retries(api: httpx.Client, origin: str, receiver: Receiver) -> None:
    answers = iter([503, 500, 401, 200])
    receiver.answer = lambda _: next(answers)

    created(api, "a boat [sim delay=0.05]", receiver)
    eventually(lambda: len(receiver.seen) == 4)
    eventually(lambda: len(inspected(origin, receiver)["predictions"][0]["deliveries"]) == 4)

    log = inspected(origin, receiver)["predictions"][0]["deliveries"]
    assert [(line["event"], line["attempt"], line["status_code"]) for line in log] == [
        ("start", 1, 503),
        ("completed", 1, 500),
        ("completed", 2, 401),
        ("completed", 3, 200),
    ]


# Cancel and deadline


def test_a_running_prediction_is_canceled(api: httpx.Client, origin: str, receiver: Receiver) -> None:
    prediction = created(api, "a boat [sim outcome=never delay=0.05]", receiver)
    eventually(lambda: receiver.statuses == ["processing"])

    answer = api.post(f"/predictions/{prediction['id']}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    eventually(lambda: receiver.statuses == ["processing", "canceled"])
    assert inspected(origin, receiver)["predictions"][0]["cancel_requests"] == 1


def test_a_cancel_can_be_ignored(api: httpx.Client) -> None:
    prediction = created(api, "a boat [sim cancel=ignored delay=0.2]")
    eventually(lambda: api.get(f"/predictions/{prediction['id']}").json()["status"] == "processing")

    answer = api.post(f"/predictions/{prediction['id']}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "processing")
    assert ended(api, prediction)["status"] == "succeeded"


def test_a_cancel_after_the_end_changes_nothing(api: httpx.Client) -> None:
    last = ended(api, created(api, "a boat [sim delay=0]"))

    assert api.post(f"/predictions/{last['id']}/cancel").json() == last


@pytest.mark.parametrize(
    ("directives", "status"), [("delay=0.1 outcome=never", "canceled"), ("delay=60 outcome=aborted", "aborted")]
)
def test_a_deadline_ends_what_still_runs(api: httpx.Client, receiver: Receiver, directives: str, status: str) -> None:
    prediction = created(api, f"a boat [sim {directives}]", receiver, headers={"cancel-after": "0.2s"})

    last = ended(api, prediction)

    assert last["status"] == status
    assert last["deadline"] == prediction["deadline"]
    assert last["completed_at"] >= last["deadline"]
    eventually(lambda: receiver.statuses[-1:] == [status])


@pytest.mark.parametrize("duration", ["soon", "", "0s", "10", "-1m"])
def test_a_deadline_that_is_no_duration_is_refused(api: httpx.Client, duration: str) -> None:
    assert create(api, "a boat", headers={"cancel-after": duration}).status_code == 422


# The list


def test_the_list_is_newest_first_in_pages_of_a_hundred(api: httpx.Client) -> None:
    ids = [created(api, f"boat {n} [sim outcome=never]")["id"] for n in range(205)]
    first = api.get("/predictions").json()
    created(api, "made while the pages are read")

    second = web.get(first["next"], headers=TOKEN).json()
    third = web.get(second["next"], headers=TOKEN).json()

    listed = [item["id"] for page in (first, second, third) for item in page["results"]]
    assert len(first["results"]) == len(second["results"]) == 100
    assert listed[:205] == ids[::-1]


def test_the_list_by_time_includes_the_start_and_excludes_the_end(api: httpx.Client) -> None:
    made = []
    for number in range(4):
        made.append(created(api, f"boat {number}"))
        time.sleep(0.01)

    query = {"created_after": made[1]["created_at"], "created_before": made[3]["created_at"]}
    page = api.get("/predictions", params=query).json()

    assert [item["id"] for item in page["results"]] == [made[2]["id"], made[1]["id"]]
    assert page["next"] is None
    assert all(later["created_at"] > earlier["created_at"] for earlier, later in pairwise(made))


@pytest.mark.parametrize("query", [{"created_after": "yesterday"}, {"cursor": "????"}])
def test_a_list_that_cannot_be_understood_is_422(api: httpx.Client, query: dict[str, str]) -> None:
    assert api.get("/predictions", params=query).status_code == 422


# The process


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_promptly_whatever_hangs(end: signal.Signals) -> None:
    arguments = [sys.executable, "-m", "local.simulator", "--webhook-secret", "whsec_c2VjcmV0"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(arguments, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            match = re.fullmatch(r"simulator ready (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
            assert match is not None
            with httpx.Client(base_url=f"{match[1]}/v1", headers=TOKEN) as api, ThreadPoolExecutor(1) as pool:
                assert api.get("/webhooks/default/secret").json() == {"key": "whsec_c2VjcmV0"}
                created(api, "[sim webhook=late delay=0]", Receiver(url="http://127.0.0.1:9/?job=1"))
                created(api, "[sim delay=0]", Receiver(url="http://127.0.0.1:9/?job=2"))
                hung = pool.submit(create, api, "[sim create=hang]")
                time.sleep(0.2)

                asked = time.monotonic()
                process.send_signal(end)

                assert process.wait(5) == 0
                assert time.monotonic() - asked < 2
                assert isinstance(hung.exception(), httpx.TransportError)
        finally:
            process.kill()
