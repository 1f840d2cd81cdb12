"""OpenAI's speech and images on the documented wire format, behind an injected transport."""

import base64
import json
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import settings
from shared.providers import http, openai
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    File,
    Generation,
    InvalidInput,
    KeyRefused,
    ModelGone,
    OperatorNeeded,
    Output,
    ProviderError,
    Submission,
    Throttled,
    Unreachable,
)
from tests.unit.helpers import ENVIRONMENT

KEY = "sk-proj-averysecretkey0123456789"
SPEECH = Submission("job_1", "speech:gpt-4o-mini-tts", {"input": "Hello", "voice": "coral", "response_format": "mp3"})
IMAGES = Submission(
    "job_2",
    "images:gpt-image-1",
    {"prompt": "a lighthouse", "size": "1024x1024", "n": 2, "quality": "medium", "output_format": "png"},
)
FIRST, SECOND = b"\x89PNG" + bytes(range(256)), b"\xff\xfe\xfd" * 21 + b"!"
# Every way of writing an answer that a parser must not trip over, around two images.
TOLD = {
    "created": 1760000000,
    "background": 'opaque,"b64_json":"no',
    "data": [
        {"b64_json": base64.b64encode(FIRST).decode(), "revised_prompt": 'a "light\\house\\\\"'},
        {"revised_prompt": "b64_json", "b64_json": base64.b64encode(SECOND).decode()},
    ],
    "usage": {"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106},
}


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
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", f"https://{name}.test/v1/")
    monkeypatch.setenv("GENERATE_TIMEOUT", "240")
    settings.settings.cache_clear()
    openai.connection.cache_clear()
    yield
    settings.settings.cache_clear()
    openai.connection.cache_clear()


def connect(handler: Callable[[httpx.Request], httpx.Response]) -> http.Connection:
    headers = {"authorization": f"Bearer {KEY}"}
    return http.connect("https://openai.test/v1", headers, timeout=5, transport=httpx.MockTransport(handler))


def contents(generation: Generation) -> list[bytes]:
    return [b"".join(file.chunks) for file in generation.files if isinstance(file, File)]


def answered(submission: Submission, response: httpx.Response) -> list[bytes]:
    with openai.generate(connect(lambda _: response), submission) as generation:
        return contents(generation)


def refused(status: int, **error: Any) -> httpx.Response:
    body = {"message": "It is wrong.", "type": "invalid_request_error", "param": None, "code": None} | error
    return httpx.Response(status, json={"error": body})


def decoded(text: bytes, *cuts: int) -> list[bytes]:
    edges = [0, *sorted(cuts), len(text)]
    pieces = (text[start:end] for start, end in pairwise(edges))
    return contents(Generation(openai.images(pieces)))


def test_a_connection_has_the_key_the_base_url_and_the_long_timeout_and_is_kept() -> None:
    connection = openai.connection(KEY)

    assert connection is openai.connection(KEY)
    assert connection.http.headers["authorization"] == f"Bearer {KEY}"
    assert str(connection.http.base_url) == "https://openai.test/v1/"
    assert connection.http.timeout.read == 240


def test_speech_is_asked_for_as_documented_and_streams() -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        headers = {"content-type": "audio/mpeg", "x-request-id": "req_1"}
        return httpx.Response(200, headers=headers, stream=Chunked(iter([b"ID3", b"", b"sound"])))

    with openai.generate(connect(handler), SPEECH) as generation:
        files = contents(generation)

    assert files == [b"ID3sound"]
    assert (generation.request_id, generation.units, generation.cost_usd) == ("req_1", None, None)
    assert (asked[0].method, asked[0].url.path) == ("POST", "/v1/audio/speech")
    assert json.loads(asked[0].content) == {
        "model": "gpt-4o-mini-tts",
        "input": "Hello",
        "voice": "coral",
        "response_format": "mp3",
    }


def test_images_are_asked_for_as_documented_and_decoded_in_their_order() -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=TOLD)

    with openai.generate(connect(handler), IMAGES) as generation:
        files = contents(generation)

    assert files == [FIRST, SECOND]
    assert asked[0].url.path == "/v1/images/generations"
    assert json.loads(asked[0].content) == {"model": "gpt-image-1", **IMAGES.input}


@given(st.data())
def test_however_an_answer_is_cut_and_spaced_its_images_are_the_same(data: st.DataObject) -> None:
    indent = data.draw(st.sampled_from([None, 0, 3]))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t:\n ")]))
    text = json.dumps(TOLD, indent=indent, separators=separators).encode()
    if data.draw(st.booleans()):
        text = text.replace(b"/", b"\\/")

    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=60))

    assert decoded(text, *cuts) == [FIRST, SECOND]


def test_an_answer_that_comes_byte_by_byte_is_the_same() -> None:
    text = json.dumps(TOLD).encode()

    assert decoded(text, *range(len(text))) == [FIRST, SECOND]


@given(st.data())
def test_an_answer_that_ends_anywhere_too_early_is_ambiguous(data: st.DataObject) -> None:
    text = json.dumps(TOLD).encode()
    end = data.draw(st.integers(0, len(text) - 1))

    with pytest.raises(Ambiguous):
        decoded(text[:end], *data.draw(st.lists(st.integers(0, end), max_size=5)))


def test_an_image_that_is_not_read_to_its_end_is_passed_over() -> None:
    files = openai.images(iter([json.dumps(TOLD).encode()]))

    next(files)

    assert [b"".join(file.chunks) for file in files] == [SECOND]


@pytest.mark.parametrize(
    "document",
    [
        {"created": 1, "data": []},
        {"created": 1},
        {"data": [{"b64_json": None}]},
        {"data": [{"url": "file:///etc/hostname"}, {"url": None}, "https://files.test/1.png"]},
        {"data": {"url": "https://files.test/1.png"}},
    ],
)
def test_an_answer_without_images_has_no_files(document: dict[str, Any]) -> None:
    assert answered(IMAGES, httpx.Response(200, json=document)) == []


def test_images_that_are_only_named_follow_those_that_are_there() -> None:
    first, second = "https://files.test/1.png", "https://files.test/2.png"
    document = {
        "data": [
            {"url": first, "revised_prompt": "a lighthouse"},
            {"b64_json": base64.b64encode(FIRST).decode(), "url": "https://files.test/the-same.png"},
            {"b64_json": None, "url": second},
        ]
    }

    with openai.generate(connect(lambda _: httpx.Response(200, json=document)), IMAGES) as generation:
        files = [b"".join(file.chunks) if isinstance(file, File) else file for file in generation.files]

    assert files == [FIRST, Output(first), Output(second)]


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({"content-length": "8"}, 8),
        ({}, None),
        ({"content-length": "eight"}, None),
        ({"content-length": "28", "content-encoding": "gzip"}, None),
    ],
)
def test_speech_is_as_long_as_its_answer_announces(headers: dict[str, str], length: int | None) -> None:
    response = httpx.Response(200, headers=headers, stream=Chunked(iter([b"ID3", b"sound"])))

    with openai.generate(connect(lambda _: response), SPEECH) as generation:
        assert [file.length for file in generation.files if isinstance(file, File)] == [length]


@pytest.mark.parametrize("text", [b"QUJD*UJD", b"QUJDQ", b"QQ==QUJD", b"QUI", b"Q\\u0055JD", b"QUJD\\"])
def test_what_is_no_base64_is_ambiguous_however_it_is_cut(text: bytes) -> None:
    document = b'{"data": [{"b64_json": "' + text + b'"}]}'

    with pytest.raises(Ambiguous):
        decoded(document)
    for cut in range(len(document)):
        with pytest.raises(Ambiguous):
            decoded(document, cut)


@pytest.mark.parametrize(
    "content", [b"", b"<html>502 Bad Gateway</html>", b"[]", b"{not json", b'{"data": ["', b"\x00" * 5_000_000]
)
def test_what_is_no_answer_with_images_is_ambiguous(content: bytes) -> None:
    with pytest.raises(Ambiguous):
        answered(IMAGES, httpx.Response(200, content=content))


def test_a_large_image_is_never_held_whole() -> None:
    group = base64.b64encode(bytes(range(48)))
    repeated, times = group * 512, 40_000_000 // (len(group) * 512)

    def chunks() -> Iterator[bytes]:
        yield b'{"created": 1, "data": [{"b64_json": "'
        for _ in range(times):
            yield repeated
        yield b'"}]}'

    size, largest = 0, 0
    tracemalloc.start()
    with openai.generate(connect(lambda _: httpx.Response(200, stream=Chunked(chunks()))), IMAGES) as generation:
        for file in generation.files:
            for chunk in file.chunks:
                size, largest = size + len(chunk), max(largest, len(chunk))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size == times * 512 * 48
    assert largest <= openai.LARGEST_PIECE
    assert peak < 8_000_000


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (refused(400, param="voice"), InvalidInput),
        (refused(422), InvalidInput),
        (refused(400, code="moderation_blocked", type="image_generation_user_error"), ContentRefused),
        (refused(400, code="content_policy_violation"), ContentRefused),
        (refused(401, code="invalid_api_key", message=f"Incorrect API key provided: {KEY}"), KeyRefused),
        (refused(403), KeyRefused),
        (refused(404, code="model_not_found"), OperatorNeeded),
        (refused(429, code="insufficient_quota", type="insufficient_quota"), KeyRefused),
        (refused(400, code="billing_hard_limit_reached"), KeyRefused),
        (refused(429, code="rate_limit_exceeded", type="requests"), Throttled),
        (refused(409), Throttled),
        (refused(408), Ambiguous),
        (refused(500), Ambiguous),
        (refused(503), Ambiguous),
        (httpx.Response(502, html="<html>Bad Gateway</html>"), Ambiguous),
        (httpx.Response(302, headers={"location": "https://elsewhere.test/"}), Ambiguous),
        (httpx.Response(429, html="<html>slow down</html>"), Throttled),
        (httpx.Response(400, json={"error": "plain words"}), InvalidInput),
        (httpx.Response(400, json=["no object"]), InvalidInput),
    ],
)
@pytest.mark.parametrize("submission", [SPEECH, IMAGES])
def test_every_refusal_has_its_class(
    response: httpx.Response, expected: type[ProviderError], submission: Submission
) -> None:
    content = response.read()
    fresh = httpx.Response(response.status_code, headers=response.headers, content=content)

    with pytest.raises(expected) as raised:
        answered(submission, fresh)

    assert type(raised.value) is expected
    assert KEY not in f"{raised.value} {raised.value.failure}"


def test_a_refusal_says_what_openai_has_said_without_the_key() -> None:
    with pytest.raises(InvalidInput) as raised:
        answered(SPEECH, refused(400, message=f"Invalid value: 'x' (sent with {KEY})."))

    assert raised.value.detail == "Invalid value: 'x' (sent with ***)."


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "Fri, 20 Nov 2026 21:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_a_throttled_call_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    response = httpx.Response(429, headers=headers, json={"error": {"message": "Slow.", "code": "rate_limit_exceeded"}})

    with pytest.raises(Throttled) as raised:
        answered(SPEECH, response)

    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (httpx.ConnectError, Unreachable),
        (httpx.ConnectTimeout, Unreachable),
        (httpx.PoolTimeout, Unreachable),
        (httpx.ReadTimeout, Ambiguous),
        (httpx.WriteError, Ambiguous),
        (httpx.RemoteProtocolError, Ambiguous),
    ],
)
def test_silence_is_told_apart_by_what_was_sent(
    failure: type[httpx.RequestError], expected: type[ProviderError]
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise failure(f"with {KEY}", request=request)

    with pytest.raises(expected) as raised, openai.generate(connect(handler), SPEECH):
        pass

    assert KEY not in str(raised.value)


@pytest.mark.parametrize(("submission", "start"), [(SPEECH, b"ID3"), (IMAGES, b'{"data": [{"b64_json": "QUJD')])
@pytest.mark.parametrize("failure", [httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError])
def test_an_answer_that_breaks_off_is_ambiguous(
    submission: Submission, start: bytes, failure: type[httpx.RequestError]
) -> None:
    def chunks() -> Iterator[bytes]:
        yield start
        raise failure(f"with {KEY}")

    with pytest.raises(Ambiguous) as raised:
        answered(submission, httpx.Response(200, stream=Chunked(chunks())))

    assert KEY not in str(raised.value)


def test_a_strange_request_id_is_not_taken() -> None:
    response = httpx.Response(200, headers={"x-request-id": "a b"}, content=b"ID3")

    with openai.generate(connect(lambda _: response), SPEECH) as generation:
        assert generation.request_id is None


def test_a_model_of_no_known_kind_is_gone() -> None:
    with (
        pytest.raises(ModelGone),
        openai.generate(connect(lambda _: httpx.Response(200)), Submission("job_1", "videos:sora-2", {})),
    ):
        pass
