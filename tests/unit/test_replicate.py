"""Replicate's wire format: every answer it can give has one meaning, and a create is never repeated blindly."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.providers import http, reading, replicate, signatures
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    Failure,
    Gone,
    InvalidInput,
    KeyRefused,
    OperatorNeeded,
    Output,
    ProviderError,
    Silent,
    Submission,
    Throttled,
    Unreachable,
)
from shared.providers.signatures import BadSignature
from tests.unit.helpers import REPLICATE_KEY, WEBHOOK_SECRET, Loopback

BASE = "https://api.replicate.com/v1"
JOB = "job_00000000000000000000000001"
WEBHOOK = f"https://receiver.lambda-url.us-east-1.on.aws/replicate?job={JOB}"
MODEL = "black-forest-labs/flux-schnell"
ID = "gm3qorzdhgbfurvjtvhg6dckhu"
URL = "https://replicate.delivery/xezq/out-0.png"
VERSION = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa"
NOW = 1_790_848_800.0
Seen = list[httpx.Request]


def prediction(**changes: Any) -> dict[str, Any]:
    """A prediction object with everything that Replicate puts into one."""
    return {
        "id": ID,
        "model": "black-forest-labs/flux-schnell",
        "version": "hidden",
        "input": {"prompt": "a lighthouse at dusk", "aspect_ratio": "16:9"},
        "output": None,
        "error": None,
        "logs": "",
        "status": "starting",
        "source": "api",
        "data_removed": False,
        "created_at": "2026-10-01T10:00:00.123Z",
        "started_at": None,
        "completed_at": None,
        "deadline": "2026-10-01T10:10:00.123Z",
        "metrics": {},
        "webhook": WEBHOOK,
        "webhook_events_filter": ["start", "completed"],
        "urls": {
            "get": f"{BASE}/predictions/{ID}",
            "cancel": f"{BASE}/predictions/{ID}/cancel",
            "web": f"https://replicate.com/p/{ID}",
        },
        **changes,
    }


def speaking(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Connection, Seen]:
    """A connection to a Replicate that answers so, and the requests it has seen."""
    seen: Seen = []

    def receive(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(request)

    headers = {"authorization": f"Bearer {REPLICATE_KEY}"}
    return http.connect(BASE, headers, timeout=1, transport=httpx.MockTransport(receive)), seen


def saying(status: int, body: Any = None, **options: Any) -> tuple[Connection, Seen]:
    return speaking(lambda _: httpx.Response(status, json=body, **options))


def failing(error: type[httpx.RequestError]) -> Connection:
    def receive(request: httpx.Request) -> httpx.Response:
        raise error("as the test wants it", request=request)

    return speaking(receive)[0]


def submission(model: str = MODEL) -> Submission:
    return Submission(JOB, model, {"prompt": "a lighthouse at dusk", "num_outputs": 1}, WEBHOOK)


# Create


@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_official_model_is_created_under_its_name(status: int) -> None:
    connection, seen = saying(status, prediction())

    made = replicate.submit(connection, submission())

    assert (made.id, made.status, made.ended) == (ID, "starting", False)
    assert seen[0].url == f"{BASE}/models/black-forest-labs/flux-schnell/predictions"
    assert seen[0].headers["authorization"] == f"Bearer {REPLICATE_KEY}"
    assert json.loads(seen[0].content) == {
        "input": {"prompt": "a lighthouse at dusk", "num_outputs": 1},
        "webhook": WEBHOOK,
        "webhook_events_filter": ["start", "completed"],
    }


@pytest.mark.parametrize("model", [VERSION, f"owner/name:{VERSION}"])
def test_a_version_is_created_among_the_predictions(model: str) -> None:
    connection, seen = saying(201, prediction())

    replicate.submit(connection, submission(model))

    assert seen[0].url == f"{BASE}/predictions"
    assert json.loads(seen[0].content)["version"] == model


def test_a_create_that_has_ended_already_says_so() -> None:
    connection, _ = saying(201, prediction(status="succeeded", output=[URL]))

    assert replicate.submit(connection, submission()).outputs == (Output(URL),)


@pytest.mark.parametrize(
    ("status", "detail", "error"),
    [
        (400, "bad", InvalidInput),
        (401, "Unauthenticated", KeyRefused),
        (402, "Insufficient credit", KeyRefused),
        (403, "Forbidden", KeyRefused),
        (404, "Not found.", OperatorNeeded),
        (422, "input.aspect_ratio must be one of …", InvalidInput),
        (422, "The prompt was flagged as sensitive", ContentRefused),
        (422, "NSFW content detected", ContentRefused),
        (429, "Request was throttled.", Throttled),
        (408, "timeout", Ambiguous),
        (500, "Internal server error", Ambiguous),
        (503, "unavailable", Ambiguous),
        (301, "moved", Ambiguous),
        (204, "nothing", Ambiguous),
    ],
)
def test_every_refusal_of_a_create_has_one_meaning(status: int, detail: str, error: type[ProviderError]) -> None:
    connection, seen = saying(status, {"detail": detail, "status": status, "title": "It did not work"})

    with pytest.raises(ProviderError) as raised:
        replicate.submit(connection, submission())

    assert type(raised.value) is error
    assert len(seen) == 1, "a create is never repeated by the adapter"


def test_what_is_wrong_with_our_account_is_not_told_to_the_caller() -> None:
    connection, _ = saying(402, {"detail": "Insufficient credit: r8_abc has $0.00"})

    with pytest.raises(OperatorNeeded) as raised:
        replicate.submit(connection, submission())

    failure = raised.value.failure
    assert failure == Failure("provider_unavailable", "The provider cannot be used at the moment.")


@pytest.mark.parametrize(
    ("headers", "detail", "expected"),
    [
        ({"retry-after": "7"}, "Request was throttled.", 7.0),
        ({"retry-after": "7"}, "Request was throttled. Your rate limit resets in ~30s.", 7.0),
        ({}, "Request was throttled. Your rate limit resets in ~30s.", 30.0),
        ({}, "Request was throttled. Your rate limit resets in 5 s.", 5.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "Request was throttled.", None),
        ({"retry-after": "-1"}, "Request was throttled.", None),
        ({}, "Request was throttled.", None),
    ],
)
def test_a_throttled_create_says_when_to_come_back(
    headers: dict[str, str], detail: str, expected: float | None
) -> None:
    connection, _ = saying(429, {"detail": detail}, headers=headers)

    with pytest.raises(Throttled) as throttled:
        replicate.submit(connection, submission())

    assert throttled.value.retry_after == expected


def test_a_throttle_without_a_body_is_still_one() -> None:
    connection, _ = speaking(lambda _: httpx.Response(429, html="<h1>slow down</h1>"))

    with pytest.raises(Throttled):
        replicate.submit(connection, submission())


def test_an_html_error_page_is_ambiguous() -> None:
    connection, _ = speaking(lambda _: httpx.Response(502, html="<html><h1>502 Bad Gateway</h1></html>"))

    with pytest.raises(Ambiguous):
        replicate.submit(connection, submission())


@pytest.mark.parametrize("body", [[], "x", None, {}, {"id": ID}, {"id": ID, "status": "pondering"}, {"id": 7}])
def test_a_success_that_is_no_prediction_is_ambiguous(body: Any) -> None:
    connection, _ = saying(201, body)

    with pytest.raises(Ambiguous):
        replicate.submit(connection, submission())


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError])
def test_a_create_without_an_answer_is_ambiguous(error: type[httpx.RequestError]) -> None:
    with pytest.raises(Ambiguous):
        replicate.submit(failing(error), submission())


def test_a_create_whose_answer_does_not_decode_is_ambiguous() -> None:
    broken = gzip.compress(b"{}")[:-9] + b"rubbish"
    connection, _ = speaking(lambda _: httpx.Response(201, headers={"content-encoding": "gzip"}, stream=Once(broken)))

    with pytest.raises(Ambiguous):
        replicate.submit(connection, submission())


class Once(httpx.SyncByteStream):
    """A body that is decoded only when it is read, as from a socket."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Any:
        yield self.data


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
def test_a_create_that_was_never_sent_is_safe_to_repeat(error: type[httpx.RequestError]) -> None:
    with pytest.raises(Unreachable):
        replicate.submit(failing(error), submission())


# Fetch and cancel


def test_a_prediction_is_asked_for_by_its_id() -> None:
    done = prediction(status="succeeded", output=[URL], metrics={"predict_time": 1.9, "total_time": 2.4})
    connection, seen = saying(200, done)

    found = replicate.fetch(connection, MODEL, ID)

    assert (found.status, found.outputs, found.units) == ("succeeded", (Output(URL),), None)
    assert (seen[0].method, seen[0].url) == ("GET", f"{BASE}/predictions/{ID}")


def test_a_prediction_is_canceled_by_its_id() -> None:
    connection, seen = saying(200, prediction(status="canceled"))

    assert replicate.cancel(connection, MODEL, ID).failure == Failure(
        "provider_canceled", "The provider has stopped it."
    )
    assert (seen[0].method, seen[0].url) == ("POST", f"{BASE}/predictions/{ID}/cancel")


@pytest.mark.parametrize(
    ("status", "error"), [(404, Gone), (429, Throttled), (401, KeyRefused), (500, Silent), (302, Silent)]
)
def test_every_refusal_of_a_question_has_one_meaning(status: int, error: type[ProviderError]) -> None:
    connection, _ = saying(status, {"detail": "no"})

    with pytest.raises(ProviderError) as raised:
        replicate.fetch(connection, MODEL, ID)

    assert type(raised.value) is error


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_a_question_without_an_answer_is_silent(error: type[httpx.RequestError]) -> None:
    with pytest.raises(Silent):
        replicate.fetch(failing(error), MODEL, ID)


def test_a_redirect_is_not_followed_with_the_key() -> None:
    connection, seen = saying(302, headers={"location": "https://elsewhere.example/"})

    with pytest.raises(Silent):
        replicate.fetch(connection, MODEL, ID)

    assert len(seen) == 1


# The prediction object


@pytest.mark.parametrize(
    ("told", "status", "ended"),
    [
        ("starting", "starting", False),
        ("processing", "processing", False),
        ("succeeded", "succeeded", True),
        ("failed", "failed", True),
        ("canceled", "canceled", True),
        ("aborted", "canceled", True),
    ],
)
def test_every_status_of_replicate_is_known(told: str, status: str, ended: bool) -> None:
    found = replicate.parse(prediction(status=told))

    assert (found.status, found.ended) == (status, ended)


def test_aborted_says_that_it_never_started() -> None:
    expected = Failure("provider_canceled", "The provider has not started it in time.")

    assert replicate.parse(prediction(status="aborted")).failure == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (URL, [(URL, "")]),
        ([URL, URL + "?2"], [(URL, ""), (URL + "?2", "")]),
        ({"vocals": URL, "other": URL + "?2", "drums": None}, [(URL, "vocals"), (URL + "?2", "other")]),
        ({"image": URL, "score": 0.5}, [(URL, "image")]),
        (None, []),
        ([], []),
        ("", []),
        (7, []),
        (["some", " text"], []),
        ([None, URL, 3, {"url": URL}], [(URL, "")]),
        (["ftp://replicate.delivery/x", "data:image/png;base64,AAAA"], []),
        ([URL + "x" * 3000], []),
        (["https://replicate.delivery/a b", "https://replicate.delivery/\ud800"], []),
        ([URL] * 50, [(URL, "")] * reading.MOST_OUTPUTS),
    ],
)
def test_every_shape_of_output_is_read(output: Any, expected: list[tuple[str, str]]) -> None:
    found = replicate.parse(prediction(status="succeeded", output=output))

    assert [(told.url, told.role) for told in found.outputs] == expected


@pytest.mark.parametrize(
    ("output", "data"),
    [
        ({"segments": [{"text": "Hello", "start": 0.0}], "detected_language": "en"}, "output"),
        (["some", " text"], "output"),
        ("Hello", "output"),
        (URL, None),
        ([], None),
        ({}, None),
        (None, None),
    ],
)
def test_a_result_that_is_no_file_is_handed_on_as_it_is(output: Any, data: str | None) -> None:
    expected = output if data == "output" else None

    assert replicate.parse(prediction(status="succeeded", output=output)).data == expected


@pytest.mark.parametrize(
    ("status", "logs", "expected"),
    [
        ("processing", " 10%|█         | 1/10\n 40%|████      | 4/10 [00:04<00:06]\n", 40),
        ("processing", "step 7/28", 25),
        ("processing", "100%|██████████| 28/28", 100),
        ("processing", "loading weights, 1.5 GB", None),
        ("processing", "250%", 100),
        ("processing", "see https://example.com/2/3/4", None),
        ("processing", "", None),
        ("processing", None, None),
        ("processing", 7, None),
        ("succeeded", "100%", None),
    ],
)
def test_progress_is_the_last_that_the_log_tells(status: str, logs: Any, expected: int | None) -> None:
    assert replicate.parse(prediction(status=status, logs=logs)).progress == expected


def test_what_replicate_has_removed_is_gone() -> None:
    connection, _ = saying(200, prediction(status="succeeded", output=None, data_removed=True))

    with pytest.raises(Gone):
        replicate.fetch(connection, MODEL, ID)


def test_an_output_before_the_end_is_none() -> None:
    assert replicate.parse(prediction(status="processing", output=[URL])).outputs == ()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("NSFW content detected. Try running it again, or try a different prompt.", "content_refused"),
        ("Your request was flagged by our safety system", "content_refused"),
        ("CUDA out of memory", "provider_failed"),
        ("unsafety", "provider_failed"),
        (None, "provider_failed"),
        ({"detail": "x"}, "provider_failed"),
        ("x" * 10_000, "provider_failed"),
    ],
)
def test_a_failure_is_told_apart_from_a_refusal_by_its_text(error: Any, code: str) -> None:
    failure = replicate.parse(prediction(status="failed", error=error)).failure

    assert failure is not None
    assert failure.code == code
    assert 0 < len(failure.detail) <= 500


@pytest.mark.parametrize("changed", [{"id": "../x"}, {"id": ""}, {"id": None}, {"status": None}, {"status": "done"}])
def test_what_is_no_prediction_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no prediction"):
        replicate.parse(prediction(**changed))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from(["id", "status", "output", "error", "logs", "webhook"]), JSON))
def test_whatever_is_in_it_a_prediction_parses_or_is_refused(changes: dict[str, Any]) -> None:
    try:
        replicate.parse(prediction(**{"status": "succeeded", **changes}))
    except ValueError as error:
        assert str(error) == "no prediction"  # noqa: PT017 Most examples raise nothing.


# Find


def listed(number: int, *, job: str | None = None, created_at: str = "2026-10-01T10:00:00.123Z") -> dict[str, Any]:
    webhook = f"https://receiver.lambda-url.us-east-1.on.aws/replicate?job={job}" if job else None
    return prediction(id=f"prediction{number}", webhook=webhook, created_at=created_at)


def paged(*pages: list[dict[str, Any]], host: str = "https://api.replicate.com") -> tuple[Connection, Seen]:
    """A Replicate with these pages of predictions."""

    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("cursor", "0"))
        following = f"{host}/v1/predictions?cursor={number + 1}" if number + 1 < len(pages) else None
        return httpx.Response(200, json={"next": following, "previous": None, "results": pages[number]})

    return speaking(answer)


def test_a_prediction_is_found_by_the_job_in_its_webhook() -> None:
    connection, seen = paged([listed(3), listed(2, job=JOB), listed(1, job="job_other")])

    found = replicate.find(connection, MODEL, JOB, NOW)

    assert found is not None
    assert found.id == "prediction2"
    assert seen[0].url.params["created_after"] == "2026-10-01T10:00:00.000Z"


def test_a_prediction_is_found_on_a_later_page() -> None:
    connection, seen = paged([listed(3)], [listed(2)], [listed(1, job=JOB)])

    found = replicate.find(connection, MODEL, JOB, NOW - 60)

    assert found is not None
    assert found.id == "prediction1"
    assert len(seen) == 3


def test_of_two_predictions_of_a_job_the_oldest_is_its_own() -> None:
    connection, _ = paged([listed(3, job=JOB)], [listed(2), listed(1, job=JOB)])

    found = replicate.find(connection, MODEL, JOB, NOW - 60)

    assert found is not None
    assert found.id == "prediction1"


def test_nothing_found_is_none() -> None:
    connection, _ = paged([listed(2)], [listed(1, job="job_other")])

    assert replicate.find(connection, MODEL, JOB, NOW - 60) is None


def test_pages_from_before_the_job_are_not_turned() -> None:
    connection, seen = paged([listed(2, created_at="2020-01-01T00:00:00Z")], [listed(1, job=JOB)])

    assert replicate.find(connection, MODEL, JOB, NOW) is None
    assert len(seen) == 1


@pytest.mark.parametrize("host", ["https://evil.example", "http://169.254.169.254", "//evil.example"])
def test_the_key_never_follows_next_to_another_host(host: str) -> None:
    connection, seen = paged([listed(2)], [listed(1, job=JOB)], host=host)

    replicate.find(connection, MODEL, JOB, NOW - 60)

    assert {request.url.host for request in seen} == {"api.replicate.com"}
    assert {request.url.path for request in seen} == {"/v1/predictions"}


def test_an_endless_list_is_no_answer() -> None:
    connection, seen = paged(*([listed(number)] for number in range(50)))

    with pytest.raises(Silent):
        replicate.find(connection, MODEL, JOB, NOW - 60)

    assert len(seen) == replicate.PAGES_TO_SEARCH


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, {"detail": "x"}, Silent),
        (429, {"detail": "Request was throttled."}, Throttled),
        (401, {"detail": "x"}, KeyRefused),
        (200, [], Silent),
        (200, {"results": [{**prediction(), "status": "pondering"}]}, Silent),
    ],
)
def test_a_search_without_a_clear_answer_finds_neither_yes_nor_no(
    status: int, body: Any, error: type[ProviderError]
) -> None:
    connection, _ = saying(status, body)

    with pytest.raises(ProviderError) as raised:
        replicate.find(connection, MODEL, JOB, NOW)

    assert type(raised.value) is error


@pytest.mark.parametrize("results", [None, [], [None, 3, "x"], [{"webhook": 7}]])
def test_a_list_with_nothing_usable_is_a_list_without_the_job(results: Any) -> None:
    connection, _ = saying(200, {"results": results, "next": None})

    assert replicate.find(connection, MODEL, JOB, NOW) is None


# Webhooks


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, now: float = NOW) -> dict[str, str]:
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signatures.sign(secret, "msg_1", int(now), body),
    }


DONE = json.dumps(prediction(status="succeeded", output=[URL])).encode()
OTHER_SECRET = "whsec_" + "b3RoZXIgc2VjcmV0IG90aGVyIHNlY3JldCE="


def test_a_signed_webhook_tells_of_its_prediction(cloud: Loopback) -> None:
    told = replicate.parse_webhook(signed(DONE), DONE, NOW)

    assert told.prediction_id == ID
    assert told.prediction is not None
    assert (told.prediction.id, told.prediction.status) == (ID, "succeeded")
    assert told.prediction.outputs == (Output(URL),)


def test_a_webhook_with_an_old_and_a_new_signature_is_believed(cloud: Loopback) -> None:
    headers = signed(DONE)
    headers["webhook-signature"] = (
        f"{signed(DONE, secret=OTHER_SECRET)['webhook-signature']} " + (headers["webhook-signature"])
    )

    assert replicate.parse_webhook(headers, DONE, NOW).prediction_id == ID


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-id": "msg_1", "webhook-timestamp": str(int(NOW))},
        signed(DONE, now=NOW - 301),
        signed(DONE, now=NOW + 301),
        signed(DONE, secret=OTHER_SECRET),
        signed(DONE + b" "),
        {**signed(DONE), "webhook-timestamp": "soon"},
        {**signed(DONE), "webhook-signature": "v1,forged"},
    ],
    ids=["missing", "unsigned", "stale", "future", "wrong secret", "wrong body", "malformed", "forged"],
)
def test_a_webhook_with_any_flaw_is_refused(cloud: Loopback, headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        replicate.parse_webhook(headers, DONE, NOW)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"id": "../x", "status": "failed"}']
)
def test_a_signed_webhook_that_is_no_prediction_is_refused(cloud: Loopback, body: bytes) -> None:
    with pytest.raises(BadSignature):
        replicate.parse_webhook(signed(body), body, NOW)


@pytest.mark.parametrize("error", ["NSFW content detected.", "Content policy violation"])
def test_a_webhook_of_a_refusal_says_so(cloud: Loopback, error: str) -> None:
    body = json.dumps(prediction(status="failed", error=error)).encode()

    told = replicate.parse_webhook(signed(body), body, NOW).prediction

    assert told is not None
    assert told.failure == Failure("content_refused", error)


@pytest.fixture
def asked(cloud: Loopback, environment: pytest.MonkeyPatch) -> Loopback:
    """Replicate on loopback, and no webhook_secret configured: Replicate is asked for its own."""
    cloud.keeps_secrets({"atelier/replicate": json.dumps({"api_keys": [REPLICATE_KEY]})})
    cloud.says("/webhooks/default/secret", {"key": WEBHOOK_SECRET})
    environment.setenv("REPLICATE_BASE_URL", cloud.url)
    return cloud


def questions(server: Loopback) -> int:
    return sum(name == "/webhooks/default/secret" for name, _ in server.seen)


def test_replicates_own_secret_is_asked_for_once(asked: Loopback) -> None:
    for _ in range(3):
        replicate.parse_webhook(signed(DONE), DONE, NOW)

    assert questions(asked) == 1


def test_a_rotated_secret_is_asked_for_again_but_forgeries_do_not_ask_each_time(
    asked: Loopback, environment: pytest.MonkeyPatch
) -> None:
    now = replicate.datetime.now().timestamp()
    replicate.parse_webhook(signed(DONE, now=now), DONE, now)
    asked.says("/webhooks/default/secret", {"key": OTHER_SECRET})

    with pytest.raises(BadSignature):
        replicate.parse_webhook(signed(DONE, secret=OTHER_SECRET, now=now), DONE, now)
    later = now + replicate.ASK_AGAIN_AFTER_S + 1
    told = replicate.parse_webhook(signed(DONE, secret=OTHER_SECRET, now=later), DONE, later)

    assert told.prediction_id == ID
    assert questions(asked) == 2


@pytest.mark.parametrize(("status", "body"), [(500, {}), (200, {}), (200, {"key": ""}), (401, {"detail": "no"})])
def test_without_a_secret_no_webhook_is_believed(asked: Loopback, status: int, body: Any) -> None:
    asked.says("/webhooks/default/secret", body, status=status)

    with pytest.raises(ProviderError):
        replicate.parse_webhook(signed(DONE), DONE, NOW)


# Keys


def test_a_connection_carries_its_key_and_is_kept() -> None:
    assert replicate.connection(REPLICATE_KEY).http.headers["authorization"] == f"Bearer {REPLICATE_KEY}"
    assert replicate.connection(REPLICATE_KEY) is replicate.connection(REPLICATE_KEY)
    assert replicate.connection("r8_another") is not replicate.connection(REPLICATE_KEY)


@pytest.mark.parametrize("key", ["r8_with\nnewline", "r8_ü", "", "r8_with\0"])
def test_a_key_that_fits_no_header_is_never_quoted(key: str) -> None:
    with pytest.raises(OperatorNeeded) as raised:
        replicate.connection(key)

    assert str(raised.value) == "the configured key is malformed"


@pytest.mark.parametrize("status", [400, 403, 422, 429, 500])
def test_an_error_that_quotes_our_key_does_not_show_it(status: int) -> None:
    connection, _ = saying(status, {"detail": f"the token {REPLICATE_KEY} (Bearer {REPLICATE_KEY}) will not do"})

    for call in (lambda: replicate.submit(connection, submission()), lambda: replicate.fetch(connection, MODEL, ID)):
        with pytest.raises(ProviderError) as raised:
            call()
        assert REPLICATE_KEY not in f"{raised.value!r} {raised.value} {raised.value.failure}"


def test_a_failure_that_quotes_our_key_does_not_show_it() -> None:
    connection, _ = saying(200, prediction(status="failed", error=f"cannot log in as {REPLICATE_KEY}"))

    assert REPLICATE_KEY not in repr(replicate.fetch(connection, MODEL, ID))


@pytest.mark.parametrize(
    "secret",
    [
        "Bearer abc.def-ghi",
        "Basic dXNlcjpwYXNzd29yZA==",
        "sk-proj-abc***def",
        "sk_0123456789abcdef",
        "r8_0123456789",
        "AIzaSyA0123456789",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "80e732af-660e-45cd-bd63-580e4f2a94cc:0123456789abcdef",
        "https://host.example/?key=0123456789",
        "https://host.example/?a=b&X-Amz-Signature=0123456789",
        '"api_key": "0123456789"',
        "token: 0123456789",
    ],
)
def test_what_looks_like_a_credential_is_masked(secret: str) -> None:
    masked = http.detail(f"cannot use {secret}, sorry")

    assert secret not in masked
    assert "0123456789" not in masked
    assert masked.startswith("cannot use ")
    assert masked.endswith(", sorry")


@pytest.mark.parametrize("text", ["task_kling-3_1765183463848 has failed", "The keyboard: a monkey=1", "risk-free"])
def test_what_looks_like_none_is_left_alone(text: str) -> None:
    assert http.detail(text) == text


def test_a_detail_is_one_line_that_any_database_takes() -> None:
    assert http.detail("two\nlines \ud800") == "two lines ?"
    assert len(http.detail("x" * 10_000)) == http.LONGEST_DETAIL
    assert http.detail(None, "nothing") == "nothing"
