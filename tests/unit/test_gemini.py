"""Gemini's answers about frames on the documented wire format, behind an injected transport."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from shared.core import settings
from shared.providers import gemini, http
from shared.providers.gemini import Analysis
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    InvalidInput,
    KeyRefused,
    OperatorNeeded,
    ProviderError,
    Throttled,
    Unreachable,
)
from tests.unit.helpers import ENVIRONMENT

KEY = "AIzaSyAverysecretkey0123456789"
FRAMES = [b"\xff\xd8one", b"\xff\xd8two"]
SCHEMA = {"type": "object", "properties": {"segments": {"type": "array", "items": {"type": "object"}}}}
DATA = {"segments": [{"start": 0, "end": 1.5, "label": "a ``` fence"}]}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}
UNKNOWN_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


class Chunked(httpx.SyncByteStream):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("PROVIDER_TIMEOUT", "LOOKUP_GRACE", "TIME_SCALE", "JOBS_IN_FLIGHT"):
        monkeypatch.setenv(name, "1")
    for name in settings.PROVIDERS:
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", f"https://{name}.test/v1beta")
    monkeypatch.setenv("GENERATE_TIMEOUT", "240")
    settings.settings.cache_clear()
    gemini.connection.cache_clear()
    yield
    settings.settings.cache_clear()
    gemini.connection.cache_clear()


def connect(handler: Callable[[httpx.Request], httpx.Response]) -> http.Connection:
    return http.connect(
        "https://gemini.test/v1beta", {"x-goog-api-key": KEY}, timeout=5, transport=httpx.MockTransport(handler)
    )


def analysed(response: httpx.Response) -> Analysis:
    return gemini.analyse(connect(lambda _: response), "gemini-3-flash", FRAMES, "Score them.", SCHEMA)


def told(*texts: str, reason: str = "STOP", **usage: int) -> httpx.Response:
    parts = [{"text": text} for text in texts]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": 0}
    counts = {"promptTokenCount": 520, "candidatesTokenCount": 40, "totalTokenCount": 560} | usage
    return httpx.Response(200, json={"candidates": [candidate], "usageMetadata": counts})


def refused(status: int, name: str, *details: dict[str, Any], message: str = "It is wrong.") -> httpx.Response:
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return httpx.Response(status, json={"error": error})


def test_a_connection_has_the_key_the_base_url_and_the_long_timeout_and_is_kept() -> None:
    connection = gemini.connection(KEY)

    assert connection is gemini.connection(KEY)
    assert connection.http.headers["x-goog-api-key"] == KEY
    assert str(connection.http.base_url) == "https://gemini.test/v1beta/"
    assert connection.http.timeout.read == 240


def test_frames_are_asked_about_as_documented() -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return told(json.dumps(DATA))

    gemini.analyse(connect(handler), "gemini-3-flash", FRAMES, "Score them.", SCHEMA)

    assert (asked[0].method, asked[0].url.path) == ("POST", "/v1beta/models/gemini-3-flash:generateContent")
    assert asked[0].headers["x-goog-api-key"] == KEY
    assert KEY not in str(asked[0].url)
    parts = [{"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(frame).decode()}} for frame in FRAMES]
    assert json.loads(asked[0].content) == {
        "contents": [{"role": "user", "parts": [*parts, {"text": "Score them."}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": SCHEMA},
    }


def test_an_answer_is_its_json_and_what_it_has_cost() -> None:
    assert analysed(told(json.dumps(DATA))) == Analysis(DATA, prompt_tokens=520, output_tokens=40)


def test_what_was_thought_is_billed_and_no_part_of_the_answer() -> None:
    candidate = {"content": {"parts": [{"text": "Hm, {", "thought": True}, {"text": json.dumps(DATA)}]}}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 30}

    found = analysed(httpx.Response(200, json={"candidates": [candidate], "usageMetadata": usage}))

    assert found == Analysis(DATA, prompt_tokens=1, output_tokens=32)


@pytest.mark.parametrize(
    "texts",
    [
        [json.dumps(DATA, indent=2)],
        [f"```json\n{json.dumps(DATA)}\n```"],
        [f"\n```JSON\r\n{json.dumps(DATA, indent=2)}\r\n```\n"],
        [f"```{json.dumps(DATA)}```"],
        [json.dumps(DATA)[:9], json.dumps(DATA)[9:]],
    ],
)
def test_json_is_read_in_fences_and_in_parts(texts: list[str]) -> None:
    assert analysed(told(*texts)).data == DATA


@pytest.mark.parametrize("usage", [None, [], {}, {"promptTokenCount": "many", "candidatesTokenCount": -1}])
def test_tokens_that_are_not_told_are_none(usage: Any) -> None:
    candidate = {"content": {"parts": [{"text": "{}"}]}, "finishReason": "STOP"}

    found = analysed(httpx.Response(200, json={"candidates": [candidate], "usageMetadata": usage}))

    assert found == Analysis({}, prompt_tokens=0, output_tokens=0)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, json={"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}),
        httpx.Response(200, json={"candidates": [], "promptFeedback": {"blockReason": "OTHER"}}),
        httpx.Response(200, json={"candidates": [{"finishReason": "SAFETY", "index": 0}]}),
        told('{"segm', reason="PROHIBITED_CONTENT"),
        told("", reason="RECITATION"),
        told("", reason="BLOCKLIST"),
        told("", reason="SPII"),
    ],
)
def test_a_blocked_question_and_a_blocked_answer_are_refusals(response: httpx.Response) -> None:
    with pytest.raises(ContentRefused):
        analysed(response)


@pytest.mark.parametrize(
    "response",
    [
        told("{not json"),
        told(""),
        told("null"),
        told('{"segments": [', reason="MAX_TOKENS"),
        httpx.Response(200, json={"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}),
        httpx.Response(200, json={"candidates": []}),
        httpx.Response(200, json={"candidates": "none"}),
        httpx.Response(200, json={"candidates": [{"content": {"parts": [1, {"text": None}]}, "finishReason": []}]}),
        httpx.Response(200, json={}),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b""),
        httpx.Response(200, content=b"\xff\xfe{"),
        httpx.Response(200, html="<html>Not what was asked for</html>"),
        httpx.Response(200, content=b" " * (gemini.LARGEST_ANSWER + 1)),
    ],
)
def test_an_answer_that_cannot_be_read_may_be_paid_for(response: httpx.Response) -> None:
    with pytest.raises(Ambiguous):
        analysed(response)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (refused(400, "INVALID_ARGUMENT"), InvalidInput),
        (refused(400, "FAILED_PRECONDITION"), InvalidInput),
        (httpx.Response(413, html="<html>Too large</html>"), InvalidInput),
        (httpx.Response(400, json=[{"error": {}}]), InvalidInput),
        (refused(400, "INVALID_ARGUMENT", UNKNOWN_KEY, message=f"API key not valid: {KEY}"), KeyRefused),
        (refused(401, "UNAUTHENTICATED", UNKNOWN_KEY), KeyRefused),
        (refused(403, "PERMISSION_DENIED"), KeyRefused),
        (refused(404, "NOT_FOUND"), OperatorNeeded),
        (refused(429, "RESOURCE_EXHAUSTED", RETRY), Throttled),
        (httpx.Response(429, html="<html>slow down</html>"), Throttled),
        (httpx.Response(408), Ambiguous),
        (refused(500, "INTERNAL"), Ambiguous),
        (refused(503, "UNAVAILABLE"), Ambiguous),
        (httpx.Response(302, headers={"location": "https://elsewhere.test/"}), Ambiguous),
    ],
)
def test_every_refusal_has_its_class(response: httpx.Response, expected: type[ProviderError]) -> None:
    with pytest.raises(expected) as raised:
        analysed(response)

    assert type(raised.value) is expected
    assert KEY not in f"{raised.value} {raised.value.failure}"


def test_a_refusal_says_what_gemini_has_said_without_the_key() -> None:
    with pytest.raises(InvalidInput) as raised:
        analysed(refused(400, "INVALID_ARGUMENT", message=f"Unable to process input image with {KEY}."))

    assert raised.value.detail == "Unable to process input image with ***."


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([UNKNOWN_KEY | {"reason": "RATE_LIMIT_EXCEEDED"}, RETRY], {}, 1.5),
        ([RETRY], {"retry-after": "7"}, 7.0),
        ([RETRY | {"retryDelay": "soon"}], {}, None),
        ([], {}, None),
    ],
)
def test_a_throttled_call_says_how_long_to_wait(
    details: list[dict[str, Any]], headers: dict[str, str], seconds: float | None
) -> None:
    content = refused(429, "RESOURCE_EXHAUSTED", *details).read()

    with pytest.raises(Throttled) as raised:
        analysed(httpx.Response(429, headers=headers, content=content))

    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (httpx.ConnectError, Unreachable),
        (httpx.ConnectTimeout, Unreachable),
        (httpx.ReadTimeout, Ambiguous),
        (httpx.RemoteProtocolError, Ambiguous),
    ],
)
def test_silence_is_told_apart_by_what_was_sent(
    failure: type[httpx.RequestError], expected: type[ProviderError]
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise failure(f"with {KEY}", request=request)

    with pytest.raises(expected) as raised:
        gemini.analyse(connect(handler), "gemini-3-flash", FRAMES, "Score them.", SCHEMA)

    assert KEY not in str(raised.value)


def test_an_answer_that_breaks_off_is_ambiguous() -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"candidates": ['
        raise httpx.ReadTimeout(f"with {KEY}")

    with pytest.raises(Ambiguous) as raised:
        analysed(httpx.Response(200, stream=Chunked(chunks())))

    assert KEY not in str(raised.value)
