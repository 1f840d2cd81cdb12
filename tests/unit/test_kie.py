"""KIE's wire format: errors inside HTTP 200, records that disagree with each other, callbacks that prove only an id."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from aws_lambda_powertools.utilities.parameters.base import DEFAULT_PROVIDERS

from shared.core.errors import Unavailable
from shared.core.settings import PROVIDERS, settings
from shared.providers import http, kie
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    Failure,
    Gone,
    InvalidInput,
    KeyRefused,
    ModelGone,
    OperatorNeeded,
    Output,
    Prediction,
    ProviderError,
    Silent,
    Submission,
    Throttled,
    Unreachable,
    Unsearchable,
)
from shared.providers.signatures import BadSignature
from tests.unit.helpers import ENVIRONMENT

BASE = "https://api.kie.ai"
KEY = "kie_a-key-for-tests-0123456789"
SIGNING_KEY = "kie-test-hmac-key"
WEBHOOK = "https://receiver.lambda-url.us-east-1.on.aws/kie?job=job_00000000000000000000000001"
MARKET, VEO, SUNO = "market:kling-3.0/video", "veo:veo3_fast", "suno:V4_5"
TASK = "task_kling-3_1765183463848"
URL = "https://tempfile.aiquickdraw.com/x.mp4"
NOW = 1_700_000_000
Json = dict[str, Any]
Seen = list[httpx.Request]

SETTINGS = {
    **ENVIRONMENT,
    **{f"{name.upper()}_BASE_URL": f"https://{name}.example" for name in PROVIDERS},
    "KIE_BASE_URL": BASE,
    "GENERATE_TIMEOUT": "2",
    "JOBS_IN_FLIGHT": "4",
}


@pytest.fixture(scope="module")
def secrets_manager() -> Iterator[tuple[str, dict[str, str]]]:
    """AWS Secrets Manager on loopback: its URL, and the secrets that it has."""
    kept: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = json.loads(self.rfile.read(int(self.headers["content-length"])))["SecretId"]
            found = {"Name": name, "SecretString": kept.get(name)}
            data = json.dumps(found if name in kept else {"__type": "ResourceNotFoundException"}).encode()
            self.send_response(200 if name in kept else 400)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kept
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, secrets_manager: tuple[str, dict[str, str]]) -> Iterator[dict[str, str]]:
    """The secrets; a test changes them before anything has read them."""
    url, secrets = secrets_manager
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    for name, value in {"DEFAULT_REGION": "us-east-1", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    secrets.clear()
    secrets["atelier/kie"] = json.dumps({"api_keys": [KEY], "webhook_secret": SIGNING_KEY})
    providers = dict(DEFAULT_PROVIDERS)
    DEFAULT_PROVIDERS.clear()  # The client of another module's tests asks another server.
    settings.cache_clear()
    yield secrets
    settings.cache_clear()
    DEFAULT_PROVIDERS.clear()
    DEFAULT_PROVIDERS.update(providers)


def provider(answer: Callable[[httpx.Request], httpx.Response], seen: Seen | None = None) -> Connection:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return answer(request)

    headers = {"authorization": f"Bearer {KEY}"}
    return http.connect(BASE, headers, timeout=2, transport=httpx.MockTransport(handle))


def says(body: Any, status: int = 200, seen: Seen | None = None, **options: Any) -> Connection:
    content = body if isinstance(body, str) else json.dumps(body)
    return provider(lambda _: httpx.Response(status, text=content, **options), seen)


def envelope(data: Any, code: Any = 200, message: str = "success") -> Json:
    return {"code": code, "msg": message, "data": data}


def market(**changes: Any) -> Json:
    return {
        "taskId": TASK,
        "model": "kling-3.0/video",
        "state": "success",
        "param": '{"model":"kling-3.0/video","callBackUrl":"https://a.example","input":{"prompt":"…"}}',
        "resultJson": json.dumps({"resultUrls": [URL]}),
        "failCode": None,
        "failMsg": None,
        "costTime": 61000,
        "createTime": 1765183463848,
        "updateTime": 1765183524848,
        "completeTime": 1765183524848,
        "progress": 100,
        "creditsConsumed": 120,
        **changes,
    }


def veo(**changes: Any) -> Json:
    return {
        "taskId": "veo_task_abcdef123456",
        "paramJson": '{"prompt":"…"}',
        "completeTime": "2025-06-06 10:30:00",
        "createTime": "2025-06-06 10:25:00",
        "response": {"taskId": "veo_task_abcdef123456", "resultUrls": [URL], "originUrls": [], "resolution": "1080p"},
        "successFlag": 1,
        "fallbackFlag": False,
        "errorCode": None,
        "errorMessage": "",
        **changes,
    }


def track(name: str, audio: str | None = None) -> Json:
    return {
        "id": "8551",
        "audioUrl": f"https://a.example/{name}.mp3" if audio is None else audio,
        "streamAudioUrl": f"https://a.example/{name}-stream",
        "imageUrl": f"https://a.example/{name}.jpeg",
        "duration": 198.44,
    }


def suno(**changes: Any) -> Json:
    return {
        "taskId": "5c79",
        "parentMusicId": "",
        "param": "{}",
        "response": {"taskId": "5c79", "sunoData": [track("a"), track("b")]},
        "status": "SUCCESS",
        "type": "GENERATE",
        "errorCode": None,
        "errorMessage": None,
        **changes,
    }


def of_market(**changes: Any) -> Prediction:
    return kie.fetch(says(envelope(market(**changes))), MARKET, TASK)


def of_veo(**changes: Any) -> Prediction:
    return kie.fetch(says(envelope(veo(**changes))), VEO, "veo_task_abcdef123456")


def of_suno(**changes: Any) -> Prediction:
    return kie.fetch(says(envelope(suno(**changes))), SUNO, "5c79")


# Creating


def submission(model: str, **fields: Any) -> Submission:
    return Submission("job_00000000000000000000000001", model, fields, WEBHOOK)


def test_a_market_task_has_its_input_beside_the_callback() -> None:
    seen: Seen = []

    made = kie.submit(says(envelope({"taskId": TASK}), seen=seen), submission(MARKET, prompt="a", duration="10"))

    assert made == Prediction(TASK, "starting")
    assert str(seen[0].url) == f"{BASE}/api/v1/jobs/createTask"
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert seen[0].headers["user-agent"]
    assert json.loads(seen[0].content) == {
        "model": "kling-3.0/video",
        "callBackUrl": WEBHOOK,
        "input": {"prompt": "a", "duration": "10"},
    }


@pytest.mark.parametrize(
    ("model", "path", "name"), [(VEO, "/api/v1/veo/generate", "veo3_fast"), (SUNO, "/api/v1/generate", "V4_5")]
)
def test_veo_and_suno_have_their_fields_at_the_top(model: str, path: str, name: str) -> None:
    seen: Seen = []

    made = kie.submit(says(envelope({"taskId": "5c79"}), seen=seen), submission(model, prompt="calm piano"))

    assert made.id == "5c79"
    assert seen[0].url.path == path
    assert json.loads(seen[0].content) == {"prompt": "calm piano", "model": name, "callBackUrl": WEBHOOK}


REFUSALS: list[tuple[int, str, type[ProviderError]]] = [
    (401, "You do not have access permissions", KeyRefused),
    (402, "Credits insufficient: your current balance isn't enough to run this request.", KeyRefused),
    (404, "Not found", OperatorNeeded),
    (433, "Sub-key usage exceeded", KeyRefused),
    (505, "Feature disabled", OperatorNeeded),
    (429, "Your call frequency is too high. Please try again later.", Throttled),
    (455, "The service is being maintained. Please try again later.", Throttled),
    (400, "Bad request", InvalidInput),
    (422, "Please enter callBackUrl", InvalidInput),
    (531, "Malformed lyrics", InvalidInput),
    (400, "Your content was flagged as violating content policies.", ContentRefused),
    (408, "Upstream took too long", Ambiguous),
    (500, "Server exception", Ambiguous),
    (501, "Generation failed", Ambiguous),
    (799, "Something new", Ambiguous),
]


@pytest.mark.parametrize("model", [MARKET, VEO, SUNO])
@pytest.mark.parametrize(("code", "message", "error"), REFUSALS)
def test_a_code_inside_http_200_says_what_became_of_a_create(
    code: int, message: str, error: type[ProviderError], model: str
) -> None:
    with pytest.raises(error) as raised:
        kie.submit(says(envelope(None, code, f"{message} ({KEY})")), submission(model, prompt="a"))

    assert type(raised.value) is error
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"code": 401, "msg": "You do not have access permissions"}, KeyRefused),
        (403, "error code: 1010", KeyRefused),
        (429, {"code": 429, "msg": "Too many"}, Throttled),
        (429, "", Throttled),
        (400, {"code": 422, "msg": "Bad field"}, InvalidInput),
        (422, {"code": 200, "msg": "Bad field"}, InvalidInput),
        (408, "", Ambiguous),
        (418, "", Ambiguous),
        (302, "", Ambiguous),
        (500, {"code": 402, "msg": "no credits"}, Ambiguous),
        (502, "<html>Bad Gateway</html>", Ambiguous),
        (200, "<html>Bad Gateway</html>", Ambiguous),
        (200, "[]", Ambiguous),
        (200, {}, Ambiguous),
        (200, {"code": None, "data": {"taskId": TASK}}, Ambiguous),
        (200, {"code": 200, "data": None}, Ambiguous),
        (200, {"code": 200, "data": {}}, Ambiguous),
        (200, {"code": 200, "data": [TASK]}, Ambiguous),
        (200, {"code": 200, "data": {"taskId": "../other"}}, Ambiguous),
    ],
)
def test_a_status_and_a_body_say_what_became_of_a_create(status: int, body: Any, error: type[ProviderError]) -> None:
    with pytest.raises(error) as raised:
        kie.submit(says(body, status), submission(MARKET))

    assert type(raised.value) is error


def test_a_code_in_a_string_is_a_code() -> None:
    assert kie.submit(says(envelope({"taskId": TASK}, "200")), submission(MARKET)).id == TASK
    with pytest.raises(Throttled):
        kie.submit(says(envelope(None, "429")), submission(MARKET))


def test_a_throttled_create_says_when_to_try_again() -> None:
    with pytest.raises(Throttled) as raised:
        kie.submit(says(envelope(None, 429), headers={"retry-after": "7"}), submission(MARKET))

    assert raised.value.retry_after == 7


@pytest.mark.parametrize(
    ("broken", "error"), [(httpx.ConnectError("no"), Unreachable), (httpx.ReadTimeout("slow"), Ambiguous)]
)
def test_a_create_without_an_answer_is_ambiguous_only_if_it_was_sent(
    broken: Exception, error: type[ProviderError]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise broken

    with pytest.raises(error):
        kie.submit(provider(fail), submission(MARKET))


def test_our_account_is_not_the_callers_business() -> None:
    with pytest.raises(OperatorNeeded) as raised:
        kie.submit(says(envelope(None, 402, "Credits insufficient")), submission(MARKET))

    assert "redits" not in raised.value.failure.detail


# Asking


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (MARKET, "/api/v1/jobs/recordInfo"),
        (VEO, "/api/v1/veo/record-info"),
        (SUNO, "/api/v1/generate/record-info"),
    ],
)
def test_every_family_has_its_own_record(model: str, path: str) -> None:
    seen: Seen = []

    with pytest.raises(Silent):
        kie.fetch(says(envelope(None), seen=seen), model, TASK)

    assert str(seen[0].url) == f"{BASE}{path}?taskId={TASK}"


def test_a_market_success_has_its_files_and_what_it_cost() -> None:
    found = of_market()

    assert found == Prediction(TASK, "succeeded", outputs=(Output(URL),), cost_usd=0.6)
    assert found.units is None


@pytest.mark.parametrize(
    "result",
    [
        "",
        None,
        "<html><body>upstream error</body></html>",
        "{}",
        "[]",
        "7",
        '{"resultUrls":[]}',
        '{"resultUrls":null}',
        '{"resultUrls":["not a url"]}',
        '{"resultObject":{}}',
        {},
        7,
    ],
)
def test_a_market_success_without_files_has_none(result: Any) -> None:
    found = of_market(resultJson=result)

    assert found.status == "succeeded"
    assert found.outputs == ()
    assert found.data is None


def test_market_files_come_in_several_shapes() -> None:
    one = (Output(URL),)
    assert of_market(resultJson=json.dumps({"resultUrls": URL})).outputs == one
    assert of_market(resultJson={"resultUrls": [URL]}).outputs == one
    assert of_market(resultJson=json.dumps({"resultUrls": json.dumps([URL])})).outputs == one
    assert of_market(resultJson=json.dumps({"resultUrls": [URL], "resultWaterMarkUrls": [f"{URL}2"]})).outputs == one
    stems = {"vocals": f"{URL}1", "other": f"{URL}2", "seconds": 3}
    assert of_market(resultJson=json.dumps({"resultObject": stems})).outputs == (
        Output(f"{URL}1", role="vocals"),
        Output(f"{URL}2", role="other"),
    )


@pytest.mark.parametrize("state", ["waiting", "queuing", "generating"])
def test_a_market_task_is_under_way(state: str) -> None:
    found = of_market(state=state, resultJson="", progress=40, creditsConsumed=None)

    assert found == Prediction(TASK, "processing", progress=40)


@pytest.mark.parametrize("progress", [None, "much", -1, 101, True])
def test_a_progress_that_is_none_is_not_told(progress: Any) -> None:
    assert of_market(state="generating", progress=progress).progress is None


def test_a_failed_task_is_read_from_an_envelope_that_failed() -> None:
    data = {"taskId": TASK, "state": "fail", "failCode": "500", "failMsg": "Internal server error", "resultJson": None}

    found = kie.fetch(says(envelope(data, 501, "Playground task failed.")), MARKET, TASK)

    assert found == Prediction(TASK, "failed", failure=Failure("provider_failed", "Internal server error"))


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"failCode": 422, "failMsg": "File fetch failed"}, Failure("provider_failed", "File fetch failed")),
        (
            {"failCode": 400, "failMsg": "Your content was flagged."},
            Failure("content_refused", "Your content was flagged."),
        ),
        ({"failCode": 500, "failMsg": None}, Failure("provider_failed", "The provider gave no reason but code 500.")),
    ],
)
def test_a_market_failure_has_a_reason(changes: Json, failure: Failure) -> None:
    assert of_market(state="fail", **changes).failure == failure


def test_a_failure_without_words_has_its_code() -> None:
    found = of_veo(successFlag=2, errorCode=500, response=None)

    assert found.failure == Failure("provider_failed", "The provider gave no reason but code 500.")
    assert of_veo(successFlag=3).failure == Failure("provider_failed", "The provider gave no reason.")


@pytest.mark.parametrize("urls", [[URL], json.dumps([URL]), URL])
@pytest.mark.parametrize("flag", [1, "1"])
def test_a_veo_success_has_its_files(urls: Any, flag: Any) -> None:
    assert of_veo(successFlag=flag, response={"resultUrls": urls}) == Prediction(
        "veo_task_abcdef123456", "succeeded", outputs=(Output(URL),)
    )


@pytest.mark.parametrize("urls", [[URL], json.dumps([URL]), URL])
@pytest.mark.parametrize("response", [None, "", {}, {"resultUrls": []}])
def test_a_veo_record_that_is_written_like_a_callback_has_its_files(urls: Any, response: Any) -> None:
    found = of_veo(response=response, info={"resultUrls": urls, "originUrls": [], "resolution": "1080p"})

    assert found == Prediction("veo_task_abcdef123456", "succeeded", outputs=(Output(URL),))


def test_a_veo_file_that_is_named_twice_is_one() -> None:
    assert of_veo(info=json.dumps({"resultUrls": [URL]})).outputs == (Output(URL),)


@pytest.mark.parametrize("response", [None, "", [], {}, {"resultUrls": "<html>"}, {"resultUrls": []}])
def test_a_veo_success_without_files_has_none(response: Any) -> None:
    found = of_veo(response=response)

    assert (found.status, found.outputs) == ("succeeded", ())


@pytest.mark.parametrize("model", ["", "veo3_fast", "luma:ray"])
def test_a_model_of_no_known_family_is_gone(model: str) -> None:
    connection = says(envelope(veo()))

    with pytest.raises(ModelGone):
        kie.submit(connection, Submission("job_1", model, {}, WEBHOOK))
    with pytest.raises(ModelGone):
        kie.fetch(connection, model, TASK)


def test_veo_flags_say_how_far_it_is() -> None:
    assert of_veo(successFlag=0, response=None).status == "processing"
    refused = of_veo(successFlag=2, errorCode=400, errorMessage="Blocked by safety filters")
    assert refused.failure == Failure("content_refused", "Blocked by safety filters")
    assert refused.outputs == ()
    failed = of_veo(successFlag=3, errorCode="501", errorMessage="upstream")
    assert failed.failure == Failure("provider_failed", "upstream")
    assert of_veo(creditsConsumed="60").cost_usd == 0.3


def test_a_suno_success_has_the_audio_of_every_track() -> None:
    expected = (Output("https://a.example/a.mp3"), Output("https://a.example/b.mp3"))

    assert of_suno() == Prediction("5c79", "succeeded", outputs=expected)
    assert of_suno(status="CALLBACK_EXCEPTION", errorMessage="callback").outputs == expected
    assert of_suno(response={"sunoData": [track("a", ""), track("b"), None, 7]}).outputs == expected[1:]


@pytest.mark.parametrize("status", ["PENDING", "TEXT_SUCCESS", "FIRST_SUCCESS"])
def test_a_suno_task_is_under_way_though_it_has_a_track(status: str) -> None:
    assert of_suno(status=status) == Prediction("5c79", "processing")


@pytest.mark.parametrize("response", [None, {}, {"sunoData": None}, {"sunoData": []}, {"sunoData": "x"}, "{"])
def test_a_suno_success_without_tracks_has_none_and_a_lost_callback_is_waited_for(response: Any) -> None:
    assert (of_suno(response=response).status, of_suno(response=response).outputs) == ("succeeded", ())
    assert of_suno(status="CALLBACK_EXCEPTION", response=response).status == "processing"


def test_suno_failures_have_reasons() -> None:
    refused = of_suno(status="SENSITIVE_WORD_ERROR", errorMessage="Contains an artist's name")
    assert refused.status == "failed"
    assert refused.failure == Failure("content_refused", "Contains an artist's name")
    for status in ("CREATE_TASK_FAILED", "GENERATE_AUDIO_FAILED"):
        failed = of_suno(status=status, errorMessage="Internal error", errorCode=500)
        assert (failed.status, failed.outputs) == ("failed", ())
        assert failed.failure == Failure("provider_failed", "Internal error")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, envelope(None, 404, "Task not found"), Gone),
        (404, envelope(None, 404, "Task not found"), Gone),
        (200, envelope(None), Silent),
        (404, "<html>", OperatorNeeded),
        (200, envelope(None, 401), KeyRefused),
        (200, envelope(None, 402), KeyRefused),
        (200, envelope(None, 429), Throttled),
        (200, envelope(None, 455), Throttled),
        (200, envelope(None, 422, "taskId is missing"), InvalidInput),
        (200, envelope(None, 408), Silent),
        (200, envelope(None, 500), Silent),
        (200, envelope(None, 799), Silent),
        (200, envelope({}), Silent),
        (200, envelope([]), Silent),
        (200, envelope(market(state="strange")), Silent),
        (200, envelope(market(state=["success"])), Silent),
        (200, envelope(market(taskId="task_of_another")), Silent),
        (200, "<html>", Silent),
        (502, "<html>", Silent),
    ],
)
def test_a_question_without_a_record_has_a_reason(status: int, body: Any, error: type[ProviderError]) -> None:
    with pytest.raises(error) as raised:
        kie.fetch(says(body, status), MARKET, TASK)

    assert type(raised.value) is error


def test_a_task_that_failed_without_a_record_has_failed() -> None:
    found = kie.fetch(says(envelope(None, 501, "Generation failed")), VEO, "veo_task_1")

    assert found == Prediction("veo_task_1", "failed", failure=Failure("provider_failed", "Generation failed"))


def test_a_question_without_an_answer_is_silent() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    with pytest.raises(Silent):
        kie.fetch(provider(fail), MARKET, TASK)


def test_the_words_of_a_failure_show_no_key() -> None:
    found = of_market(state="fail", failMsg=f"Bearer {KEY} has failed")

    assert found.failure is not None
    assert KEY not in found.failure.detail


def test_what_kie_cannot_do_is_not_tried() -> None:
    seen: Seen = []

    assert kie.cancel(says({}, seen=seen), MARKET, TASK) is None  # type: ignore[func-returns-value]
    with pytest.raises(Unsearchable):
        kie.find(says({}, seen=seen), MARKET, "job_1", 0)
    assert seen == []


def test_a_connection_is_kept_per_key() -> None:
    kie.connection.cache_clear()
    try:
        assert kie.connection(KEY) is kie.connection(KEY)
        assert kie.connection(KEY).http.base_url == BASE
        with pytest.raises(OperatorNeeded) as raised:
            kie.connection(f"{KEY}\n")
    finally:
        kie.connection.cache_clear()
    assert KEY not in str(raised.value)


# Callbacks


def signed(task_id: str, timestamp: Any = NOW, key: str = SIGNING_KEY) -> dict[str, str]:
    digest = hmac.digest(key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    return {"x-webhook-timestamp": str(timestamp), "x-webhook-signature": base64.b64encode(digest).decode()}


VECTOR = {
    "x-webhook-timestamp": "1700000000",
    "x-webhook-signature": "MjPrFrIuFK6IU/u+vx0iuhuuDbdTnXM8RFrEvhG1e0c=",
}


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "data": {"taskId": "task_12345678"}},
        {"code": 200, "data": {"task_id": "task_12345678", "callbackType": "complete", "data": []}},
        {"code": 501, "msg": "failed", "data": None, "taskId": "task_12345678"},
        {"task_id": "task_12345678"},
        {"data": {"callbackType": "text"}, "task_id": "task_12345678"},
    ],
)
def test_the_vector_proves_the_task_and_nothing_else(body: Json) -> None:
    notice = kie.parse_webhook(VECTOR, json.dumps(body).encode(), NOW)

    assert notice.prediction_id == "task_12345678"
    assert notice.prediction is None


@pytest.mark.parametrize("late", [-300, 0, 300])
def test_a_callback_may_be_five_minutes_away(late: int) -> None:
    body = json.dumps(envelope(market())).encode()

    assert kie.parse_webhook(signed(TASK), body, NOW + late).prediction_id == TASK


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-webhook-timestamp": str(NOW)},
        {"x-webhook-signature": signed(TASK)["x-webhook-signature"]},
        signed(TASK, NOW - 301),
        signed(TASK, NOW + 301),
        signed(TASK, "now"),
        signed(TASK, "-1700000000"),
        signed(TASK, f"{NOW}.0"),
        signed(TASK, "9" * 5000),
        signed("task_of_another"),
        signed(TASK, key="another key"),
        signed(TASK) | {"x-webhook-timestamp": str(NOW + 1)},
        signed(TASK) | {"x-webhook-signature": ""},
        signed(TASK) | {"x-webhook-signature": "not base64"},
        signed(TASK) | {"x-webhook-signature": "\u00e9\ud800"},
    ],
)
def test_a_callback_that_is_not_proved_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        kie.parse_webhook(headers, json.dumps(envelope(market())).encode(), NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"task"',
        b"{}",
        b"[" * 100_000,
        b'{"data":{"taskId":7}}',
        b'{"data":{"taskId":{"a":1}}}',
        b'{"data":{"taskId":"../x"}}',
        b'{"data":["taskId"]}',
        json.dumps({"data": {"taskId": "\ud800"}}).encode(),
    ],
)
def test_a_callback_without_a_task_is_refused(body: bytes) -> None:
    with pytest.raises(BadSignature):
        kie.parse_webhook(signed("None"), body, NOW)


@pytest.mark.parametrize("document", [{"api_keys": [KEY]}, {"webhook_secret": ""}, {"webhook_secret": 7}])
def test_without_a_signing_key_nothing_is_believed(kept: dict[str, str], document: Json) -> None:
    kept["atelier/kie"] = json.dumps(document)

    with pytest.raises(Silent):
        kie.parse_webhook(signed(TASK, key=""), json.dumps(envelope(market())).encode(), NOW)


def test_without_a_secret_nothing_is_believed(kept: dict[str, str]) -> None:
    kept.clear()

    with pytest.raises(Unavailable):
        kie.parse_webhook(signed(TASK), json.dumps(envelope(market())).encode(), NOW)
