"""fal's wire format: three statuses for every end, results in many shapes, webhooks that anybody can check."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.core.settings import PROVIDERS, settings
from shared.providers import fal, http
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

BASE = "https://queue.fal.run"
KEY = "11111111-2222-3333-4444-555555555555:0123456789abcdef0123456789abcdef"
MODEL = "fal-ai/flux/dev"
WEBHOOK = "https://receiver.lambda-url.us-east-1.on.aws/fal?job=job_00000000000000000000000001"
ID = "80e732af-660e-45cd-bd63-580e4f2a94cc"
REQUEST = f"/fal-ai/flux/requests/{ID}"
URL = "https://v3b.fal.media/files/b/x.png"
NOW = 1_700_000_000
DAY = 86_400
Json = dict[str, Any]
Seen = list[httpx.Request]

SETTINGS = {
    **ENVIRONMENT,
    **{f"{name.upper()}_BASE_URL": f"https://{name}.example" for name in PROVIDERS},
    "FAL_BASE_URL": BASE,
    "GENERATE_TIMEOUT": "2",
    "JOBS_IN_FLIGHT": "4",
}


@dataclass
class KeyServer:
    """Publishes fal's keys on loopback; `asked` has the headers of every question."""

    url: str = ""
    status: int = 200
    body: Any = None
    asked: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def publisher() -> Iterator[KeyServer]:
    told = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append({name.lower(): value for name, value in self.headers.items()})
            data = told.body.encode() if isinstance(told.body, str) else json.dumps(told.body).encode()
            self.send_response(told.status if self.path == "/.well-known/jwks.json" else 404)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{listening.server_address[1]}/.well-known/jwks.json"
    yield told
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture(autouse=True)
def key_server(monkeypatch: pytest.MonkeyPatch, publisher: KeyServer) -> Iterator[KeyServer]:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FAL_JWKS_URL", publisher.url)
    publisher.status, publisher.body = 200, {"keys": [jwk(OTHER), {**JWK, "use": "sig"}]}
    publisher.asked.clear()
    forget()
    yield publisher
    forget()


def forget() -> None:
    settings.cache_clear()
    fal.connection.cache_clear()
    fal._key_server.cache_clear()
    fal._known.clear()
    fal._asked.clear()


def provider(answer: Callable[[httpx.Request], httpx.Response], seen: Seen | None = None) -> Connection:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return answer(request)

    headers = {"authorization": f"Key {KEY}"}
    return http.connect(BASE, headers, timeout=2, transport=httpx.MockTransport(handle))


def response(body: Any, status: int = 200, **headers: str) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(
        status, text=content, headers={name.replace("_", "-"): told for name, told in headers.items()}
    )


def says(body: Any, status: int = 200, seen: Seen | None = None, **headers: str) -> Connection:
    return provider(lambda _: response(body, status, **headers), seen)


def completed(result: Any, status: int = 200, **headers: str) -> Connection:
    """A provider whose request is completed, and whose result URL gives `result`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/status"):
            done = {
                "status": "COMPLETED",
                "logs": [],
                "metrics": {"inference_time": 3.71},
                "response_url": "https://evil",
            }
            return response(done)
        assert request.url.path == REQUEST
        return response(result, status, **headers)

    return provider(answer)


def result_of(result: Any) -> Prediction:
    return fal.fetch(completed(result), MODEL, ID)


ACCEPTED = {
    "request_id": ID,
    "gateway_request_id": "another",
    "status": "IN_QUEUE",
    "queue_position": 0,
    "response_url": f"https://evil.example{REQUEST}",
    "status_url": f"https://evil.example{REQUEST}/status",
    "cancel_url": f"https://evil.example{REQUEST}/cancel",
}
INVALID = {"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "value_error.missing"}]}
POLICY = {"detail": [{"loc": ["body", "prompt"], "msg": "Not allowed.", "type": "content_policy_violation"}]}
LOCKED = {"detail": "User is locked. Reason: Exhausted balance. Top up your balance.", "error_type": "forbidden"}


# Creating


def submission(**fields: Any) -> Submission:
    return Submission("job_00000000000000000000000001", MODEL, fields, WEBHOOK)


def test_a_request_goes_to_the_whole_path_with_its_webhook() -> None:
    seen: Seen = []

    made = fal.submit(says(ACCEPTED, seen=seen), submission(prompt="a", image_size="landscape_16_9"))

    assert made == Prediction(ID, "starting")
    assert seen[0].url.path == "/fal-ai/flux/dev"
    assert dict(seen[0].url.params) == {"fal_webhook": WEBHOOK}
    assert b"fal_webhook=https%3A%2F%2F" in seen[0].url.query
    assert seen[0].headers["authorization"] == f"Key {KEY}"
    assert json.loads(seen[0].content) == {"prompt": "a", "image_size": "landscape_16_9"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": f"Authentication is required, not {KEY}"}, KeyRefused),
        (402, {"detail": f"Pay, {KEY}"}, KeyRefused),
        (403, LOCKED, KeyRefused),
        (403, {"detail": f"{KEY} may not"}, KeyRefused),
        (404, {"detail": "Application 'x' not found"}, OperatorNeeded),
        (429, {"detail": "Too many requests."}, Throttled),
        (429, "", Throttled),
        (422, INVALID, InvalidInput),
        (400, {"detail": f"Bad {KEY}"}, InvalidInput),
        (413, "<html>", InvalidInput),
        (422, POLICY, ContentRefused),
        (422, {"detail": "No.", "error_type": "content_policy_violation"}, ContentRefused),
        (400, {"detail": "Blocked by the safety checker"}, ContentRefused),
        (408, "", Ambiguous),
        (500, {"detail": "Internal Server Error"}, Ambiguous),
        (502, "<html>", Ambiguous),
        (504, {"detail": "timeout"}, Ambiguous),
        (302, "", Ambiguous),
        (200, "<html>", Ambiguous),
        (200, {}, Ambiguous),
        (200, [], Ambiguous),
        (200, {"request_id": None, "gateway_request_id": ID}, Ambiguous),
        (200, {"request_id": "../x"}, Ambiguous),
    ],
)
def test_every_answer_to_a_create_has_one_meaning(status: int, body: Any, error: type[ProviderError]) -> None:
    with pytest.raises(error) as raised:
        fal.submit(says(body, status), submission())

    assert type(raised.value) is error
    assert KEY not in str(raised.value)
    assert KEY.split(":")[1] not in raised.value.failure.detail


def test_a_refusal_may_be_told_in_a_header() -> None:
    with pytest.raises(ContentRefused):
        fal.submit(says({"detail": "No."}, 422, x_fal_error_type="content_policy_violation"), submission())


def test_an_invalid_input_says_which_field() -> None:
    more = {"loc": ["body", "loras", 0, "path"], "msg": "no such file", "type": "value_error"}
    body = {"detail": [*INVALID["detail"], more, "strange", {}]}

    with pytest.raises(InvalidInput) as raised:
        fal.submit(says(body, 422), submission())

    assert raised.value.detail.startswith("prompt: field required; loras.0.path: no such file")


def test_a_throttled_create_says_when_to_try_again() -> None:
    with pytest.raises(Throttled) as raised:
        fal.submit(says({"detail": "Too many"}, 429, retry_after="3"), submission())

    assert raised.value.retry_after == 3


@pytest.mark.parametrize(
    ("broken", "error"), [(httpx.ConnectError("no"), Unreachable), (httpx.ReadTimeout("slow"), Ambiguous)]
)
def test_a_create_without_an_answer_is_ambiguous_only_if_it_was_sent(
    broken: Exception, error: type[ProviderError]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise broken

    with pytest.raises(error):
        fal.submit(provider(fail), submission())


# Asking


def test_questions_go_to_the_app_without_its_sub_path_and_to_no_other_host() -> None:
    seen: Seen = []
    queued = {"status": "IN_QUEUE", "queue_position": 2, "response_url": "https://evil.example/"}

    found = fal.fetch(says(queued, 202, seen), MODEL, ID)

    assert found == Prediction(ID, "starting")
    assert str(seen[0].url) == f"{BASE}{REQUEST}/status?logs=1"
    assert all(request.url.host == "queue.fal.run" for request in seen)


@pytest.mark.parametrize(
    ("logs", "progress"),
    [
        ([{"timestamp": "2026-08-01T10:00:00Z", "level": "INFO", "message": "step 7/28", "source": "USER"}], 25),
        ([{"message": "10%"}, {"message": "55%|#####"}, {"message": None}, 7], 55),
        ([], None),
        (None, None),
        ("50%", None),
    ],
)
def test_a_request_that_runs_has_the_progress_of_its_log(logs: Any, progress: int | None) -> None:
    found = fal.fetch(says({"status": "IN_PROGRESS", "logs": logs}, 202), MODEL, ID)

    assert found == Prediction(ID, "processing", progress=progress)


def test_an_image_result_has_its_files() -> None:
    file = {"url": URL, "width": 1024, "height": 768, "content_type": "image/png"}
    result = {
        "images": [file, {"url": f"{URL}2"}],
        "seed": 42,
        "has_nsfw_concepts": [False],
        "timings": {},
        "prompt": "a",
    }

    assert result_of(result) == Prediction(ID, "succeeded", outputs=(Output(URL), Output(f"{URL}2")))


@pytest.mark.parametrize(
    "result",
    [
        {"image": {"url": URL}, "seed": 1},
        {"video": {"url": URL, "file_size": None}, "seed": 1},
        {"audio": {"url": URL}, "duration_ms": 3000},
        {"audio_url": URL},
        {"audio_url": {"url": URL}},
        {"audio_file": {"url": URL}},
        {"images": [URL]},
        {"images": [], "image": {"url": URL}},
        {"vocals": {"url": URL}, "other": None},
        {"video": {"url": URL}, "thumbnail": {"url": f"{URL}2"}},
    ],
)
def test_a_result_of_one_file_needs_no_role(result: Json) -> None:
    assert result_of(result).outputs == (Output(URL),)


def test_stems_are_told_apart_by_their_names() -> None:
    result = {"vocals": {"url": f"{URL}1"}, "other": {"url": f"{URL}2"}, "drums": None, "timings": {"inference": 1}}

    assert result_of(result).outputs == (Output(f"{URL}1", role="vocals"), Output(f"{URL}2", role="other"))


def test_a_transcript_comes_inline() -> None:
    result = {"text": "hello", "chunks": [{"timestamp": [0, 1], "text": "hello"}], "inferred_languages": ["en"]}

    found = result_of(result)

    assert (found.status, found.outputs) == ("succeeded", ())
    assert found.data == result


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"images": [], "seed": 1},
        {"images": None},
        {"video": None},
        {"images": [{}, {"url": 7}, None]},
        {"image": {"url": "data:image/png;base64,AA"}},
        "not JSON serializable",
        "[]",
        "7",
    ],
)
def test_a_result_without_files_has_none(result: Any) -> None:
    found = result_of(result)

    assert (found.status, found.outputs, found.data) == ("succeeded", (), None)


@pytest.mark.parametrize(
    ("told", "failure"),
    [
        (
            {"error": "Runner disconnected", "error_type": "runner_disconnected"},
            Failure("provider_failed", "Runner disconnected"),
        ),
        ({"error_type": "request_timeout"}, Failure("provider_failed", "request_timeout")),
        (
            {"error": "Not allowed.", "error_type": "content_policy_violation"},
            Failure("content_refused", "Not allowed."),
        ),
        ({"error": "Flagged as NSFW"}, Failure("content_refused", "Flagged as NSFW")),
    ],
)
def test_a_completed_request_may_have_failed(told: Json, failure: Failure) -> None:
    found = fal.fetch(says({"status": "COMPLETED", **told}), MODEL, ID)

    assert found == Prediction(ID, "failed", failure=failure)


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (422, INVALID, Failure("invalid_input", "prompt: field required")),
        (422, POLICY, Failure("content_refused", "prompt: Not allowed.")),
        (400, {"detail": "Bad"}, Failure("provider_failed", "Bad")),
        (
            500,
            {"detail": "Runner died", "error_type": "runner_disconnected"},
            Failure("provider_failed", "Runner died"),
        ),
        (504, {"error_type": "startup_timeout"}, Failure("provider_failed", "startup_timeout")),
        (422, {"detail": f"{KEY} is bad"}, Failure("provider_failed", "*** is bad")),
    ],
)
def test_the_result_url_may_say_that_a_request_has_failed(status: int, body: Json, failure: Failure) -> None:
    assert fal.fetch(completed(body, status), MODEL, ID) == Prediction(ID, "failed", failure=failure)


def test_a_failure_may_have_its_type_in_a_header() -> None:
    found = fal.fetch(completed("<html>", 500, x_fal_error_type="runner_connection_timeout"), MODEL, ID)

    assert found.failure == Failure("provider_failed", "runner_connection_timeout")


def test_a_request_that_was_canceled_while_it_ran_is_canceled() -> None:
    told = {"detail": "Request was cancelled by the client", "error_type": "client_cancelled"}

    found = fal.fetch(completed(told, 499), MODEL, ID)

    assert found.status == "canceled"
    assert found.failure == Failure("provider_canceled", "Request was cancelled by the client")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": "no"}, KeyRefused),
        (403, LOCKED, KeyRefused),
        (404, {"detail": "Request not found", "error_type": "not_found"}, Gone),
        (408, {"detail": "slow"}, Silent),
        (429, {"detail": "Too many"}, Throttled),
        (502, "<html>", Silent),
        (503, {}, Silent),
        (307, "", Silent),
    ],
)
def test_what_is_about_our_asking_is_no_failure_of_the_request(
    status: int, body: Any, error: type[ProviderError]
) -> None:
    for connection in (says(body, status), completed(body, status)):
        with pytest.raises(error) as raised:
            fal.fetch(connection, MODEL, ID)
        assert type(raised.value) is error
        assert KEY not in str(raised.value)


def test_a_result_that_is_not_there_yet_is_no_failure() -> None:
    told = {"detail": "Request is still in progress", "error_type": "request_in_progress"}

    with pytest.raises(Silent):
        fal.fetch(completed(told, 400), MODEL, ID)


@pytest.mark.parametrize("body", ["<html>", "[]", {}, {"status": "FAILED"}, {"status": ["COMPLETED"]}])
def test_a_status_that_is_none_says_nothing(body: Any) -> None:
    with pytest.raises(Silent):
        fal.fetch(says(body), MODEL, ID)


def test_a_question_without_an_answer_is_silent() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    with pytest.raises(Silent):
        fal.fetch(provider(fail), MODEL, ID)


# Canceling


def test_what_waits_is_canceled_at_once() -> None:
    seen: Seen = []

    found = fal.cancel(says({"status": "OK"}, seen=seen), MODEL, ID)

    assert found.status == "canceled"
    assert found.failure == Failure("provider_canceled", "The provider has stopped it.")
    assert (seen[0].method, str(seen[0].url)) == ("PUT", f"{BASE}{REQUEST}/cancel")


def test_what_runs_is_asked_to_stop() -> None:
    assert fal.cancel(says({"status": "CANCELLATION_REQUESTED"}, 202), MODEL, ID) == Prediction(ID, "processing")


@pytest.mark.parametrize("status", [200, 400])
def test_what_is_completed_is_what_it_has_become(status: int) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            return response({"status": "ALREADY_COMPLETED"}, status)
        return response({"status": "COMPLETED"} if request.url.path.endswith("/status") else {"video": {"url": URL}})

    assert fal.cancel(provider(answer), MODEL, ID) == Prediction(ID, "succeeded", outputs=(Output(URL),))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"status": "NOT_FOUND"}, Gone),
        (200, {"status": "NOT_FOUND"}, Gone),
        (404, "<html>", Silent),
        (403, LOCKED, KeyRefused),
        (429, {}, Throttled),
        (500, {}, Silent),
        (200, {}, Silent),
        (200, "<html>", Silent),
        (200, {"status": "SOON"}, Silent),
    ],
)
def test_a_cancel_may_be_refused(status: int, body: Any, error: type[ProviderError]) -> None:
    with pytest.raises(error) as raised:
        fal.cancel(says(body, status), MODEL, ID)

    assert type(raised.value) is error


def test_requests_cannot_be_looked_up() -> None:
    seen: Seen = []

    with pytest.raises(Unsearchable):
        fal.find(says({}, seen=seen), MODEL, "job_1", 0)
    assert seen == []


def test_a_connection_is_kept_per_key() -> None:
    assert fal.connection(KEY) is fal.connection(KEY)
    assert fal.connection(KEY).http.base_url == BASE
    with pytest.raises(OperatorNeeded) as raised:
        fal.connection(f"{KEY}\n")
    assert KEY not in str(raised.value)


# Webhooks

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
JWK = {"kty": "OKP", "crv": "Ed25519", "x": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}
VECTOR_BODY = b'{"request_id":"123e4567-e89b-12d3-a456-426614174000","status":"OK","payload":{}}'
VECTOR = {
    "x-fal-webhook-request-id": "123e4567-e89b-12d3-a456-426614174000",
    "x-fal-webhook-user-id": "user_test",
    "x-fal-webhook-timestamp": "1700000000",
    "x-fal-webhook-signature": "4b0fece768f51b8fa4b4b1006bd2d2369ac589ba0be16217c86dc2af2e5f6b1e"
    "3b1aad9c9a2c0162a9d6740950cd7fa28e5e873e2e3c97bd8e7b924852ca2d0a",
}


def jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).decode().rstrip("=")}


def signed(body: bytes, timestamp: Any = NOW, key: Ed25519PrivateKey = SIGNER) -> dict[str, str]:
    lines = [ID, "user_test", str(timestamp), hashlib.sha256(body).hexdigest()]
    return {
        "x-fal-webhook-request-id": ID,
        "x-fal-webhook-user-id": "user_test",
        "x-fal-webhook-timestamp": str(timestamp),
        "x-fal-webhook-signature": key.sign("\n".join(lines).encode()).hex(),
    }


def told(**fields: Any) -> bytes:
    return json.dumps({"request_id": ID, "gateway_request_id": "another", **fields}).encode()


def receive(body: bytes) -> Prediction | None:
    notice = fal.parse_webhook(signed(body), body, NOW)
    assert notice.prediction_id == ID
    assert notice.prediction is None or notice.prediction.id == ID
    return notice.prediction


def test_the_vector_is_accepted_by_the_second_of_two_keys() -> None:
    notice = fal.parse_webhook(VECTOR, VECTOR_BODY, NOW)

    assert notice.prediction_id == "123e4567-e89b-12d3-a456-426614174000"
    assert notice.prediction == Prediction(notice.prediction_id, "succeeded")
    assert jwk(SIGNER) == JWK


def test_a_webhook_brings_the_result() -> None:
    assert receive(told(status="OK", payload={"images": [{"url": URL}], "seed": 1})) == Prediction(
        ID, "succeeded", outputs=(Output(URL),)
    )
    transcript = receive(told(status="OK", payload={"text": "hello", "chunks": []}))
    assert transcript is not None
    assert transcript.data == {"text": "hello", "chunks": []}


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": None, "payload_error": "Response payload is not JSON serializable…"},
        {"payload": None},
        {},
        {"payload": [URL]},
        {"payload": {"images": [{"url": URL}]}, "payload_error": "cut short"},
    ],
)
def test_a_webhook_without_the_result_makes_us_ask(fields: Json) -> None:
    assert receive(told(status="OK", **fields)) is None


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        (
            {"error": "Invalid status code: 422", "payload": INVALID},
            Failure("invalid_input", "prompt: field required"),
        ),
        (
            {"error": "Invalid status code: 422", "payload": POLICY},
            Failure("content_refused", "prompt: Not allowed."),
        ),
        ({"error": "Runner disconnected", "payload": None}, Failure("provider_failed", "Runner disconnected")),
        ({}, Failure("provider_failed", "The provider gave no reason.")),
    ],
)
def test_a_webhook_tells_of_a_failure(fields: Json, failure: Failure) -> None:
    assert receive(told(status="ERROR", **fields)) == Prediction(ID, "failed", failure=failure)


def test_a_webhook_of_a_canceled_request_is_no_failure() -> None:
    words = "Request was cancelled by the client"

    assert receive(told(status="ERROR", error=words, payload={"detail": words})) is None
    known = receive(told(status="ERROR", error=words, error_type="client_cancelled"))
    assert known is not None
    assert known.status == "canceled"


@pytest.mark.parametrize("late", [-300, 300])
def test_a_webhook_may_be_five_minutes_away(late: int) -> None:
    assert fal.parse_webhook(VECTOR, VECTOR_BODY, NOW + late).prediction is not None


@pytest.mark.parametrize("late", [-301, 301])
def test_a_webhook_of_another_time_is_refused(late: int) -> None:
    with pytest.raises(BadSignature):
        fal.parse_webhook(VECTOR, VECTOR_BODY, NOW + late)


@pytest.mark.parametrize("name", list(VECTOR))
@pytest.mark.parametrize("value", [None, "", "x", "\u00e9\ud800", "0" * 128, "9" * 5000, "1700000001"])
def test_every_header_is_needed_as_it_was(name: str, value: str | None) -> None:
    headers = {**VECTOR, name: value} if value is not None else {key: VECTOR[key] for key in VECTOR if key != name}

    with pytest.raises(BadSignature):
        fal.parse_webhook(headers, VECTOR_BODY, NOW)


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(BadSignature):
        fal.parse_webhook(VECTOR, VECTOR_BODY.replace(b"{}", b'{"video":{"url":"https://evil.example/x"}}'), NOW)


def test_malformed_headers_cost_no_question(key_server: KeyServer) -> None:
    with pytest.raises(BadSignature):
        fal.parse_webhook({}, VECTOR_BODY, NOW)

    assert key_server.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b"[" * 100_000,
        told(status="OK", request_id=7, payload={}),
        told(status="OK", request_id="../x", payload={}),
        told(status="COMPLETED"),
        told(status=["OK"]),
        json.dumps({"gateway_request_id": ID, "status": "OK", "payload": {}}).encode(),
    ],
)
def test_what_is_signed_and_no_result_is_refused(body: bytes) -> None:
    with pytest.raises(BadSignature):
        fal.parse_webhook(signed(body), body, NOW)


def test_public_keys_are_asked_for_once_a_day_and_without_our_key(key_server: KeyServer) -> None:
    for later in (0, 300, DAY - 1):
        fal.parse_webhook(signed(VECTOR_BODY, NOW + later), VECTOR_BODY, NOW + later)
    assert len(key_server.asked) == 1
    assert "authorization" not in key_server.asked[0]

    fal.parse_webhook(signed(VECTOR_BODY, NOW + DAY), VECTOR_BODY, NOW + DAY)
    assert len(key_server.asked) == 2


def test_a_new_key_is_found_and_forgeries_cost_a_question_a_minute(key_server: KeyServer) -> None:
    key_server.body = {"keys": [jwk(OTHER)]}
    forged = signed(VECTOR_BODY)
    for _ in range(3):
        with pytest.raises(BadSignature):
            fal.parse_webhook(forged, VECTOR_BODY, NOW)
    assert len(key_server.asked) == 1

    key_server.body = {"keys": [JWK]}
    assert fal.parse_webhook(forged, VECTOR_BODY, NOW + 60).prediction is not None
    assert len(key_server.asked) == 2


def test_a_key_server_that_is_down_says_nothing_and_known_keys_stay_known(key_server: KeyServer) -> None:
    fal.parse_webhook(VECTOR, VECTOR_BODY, NOW)
    key_server.status = 503

    with pytest.raises(Silent):
        fal.parse_webhook(signed(VECTOR_BODY, key=Ed25519PrivateKey.generate()), VECTOR_BODY, NOW + 60)
    assert fal.parse_webhook(VECTOR, VECTOR_BODY, NOW + 61).prediction is not None


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        [],
        {},
        {"keys": None},
        {"keys": []},
        {"keys": [None, 7, {}, {**JWK, "kty": "RSA"}, {**JWK, "crv": "X25519"}, {**JWK, "x": "AA"}, {**JWK, "x": "é"}]},
        {"keys": [{"kty": "OKP", "crv": "Ed25519"}]},
    ],
)
def test_without_public_keys_nothing_is_believed(key_server: KeyServer, body: Any) -> None:
    key_server.body = body

    for _ in range(2):
        with pytest.raises(Silent):
            fal.parse_webhook(VECTOR, VECTOR_BODY, NOW)
    assert len(key_server.asked) == 1

    key_server.body = {"keys": [JWK]}
    assert fal.parse_webhook(VECTOR, VECTOR_BODY, NOW + 60).prediction is not None


def test_an_unreachable_key_server_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_JWKS_URL", "http://127.0.0.1:9/.well-known/jwks.json")
    settings.cache_clear()

    with pytest.raises(Silent):
        fal.parse_webhook(VECTOR, VECTOR_BODY, NOW)
