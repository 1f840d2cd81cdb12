"""ElevenLabs' speech and music on the documented wire format, behind an injected transport."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from shared.core import settings
from shared.providers import elevenlabs, http
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    InvalidInput,
    KeyRefused,
    ModelGone,
    OperatorNeeded,
    ProviderError,
    Submission,
    Throttled,
    Unreachable,
)
from tests.unit.helpers import ENVIRONMENT

KEY = "3f9a0c17d2b84e65a1f0c9d8e7b6a543"
VOICE = "JBFqnCBsd6RMkjVDRZzb"
SPEECH = Submission(
    "job_1",
    "speech:eleven_multilingual_v2",
    {"output_format": "mp3_44100_128", "text": "Hello", "voice": VOICE, "voice_settings": {"speed": 1.1}, "seed": 7},
)
MUSIC = Submission(
    "job_2", "music:music_v1", {"prompt": "a slow waltz", "music_length_ms": 30000, "force_instrumental": True}
)
HEADERS = {
    "content-type": "audio/mpeg",
    "request-id": "a1B2c3D4",
    "character-cost": "5",
    "current-concurrent-requests": "1",
    "maximum-concurrent-requests": "15",
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
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", f"https://{name}.test")
    monkeypatch.setenv("GENERATE_TIMEOUT", "240")
    settings.settings.cache_clear()
    elevenlabs.connection.cache_clear()
    yield
    settings.settings.cache_clear()
    elevenlabs.connection.cache_clear()


def connect(handler: Callable[[httpx.Request], httpx.Response]) -> http.Connection:
    return http.connect(
        "https://elevenlabs.test", {"xi-api-key": KEY}, timeout=5, transport=httpx.MockTransport(handler)
    )


def answered(submission: Submission, response: httpx.Response) -> list[bytes]:
    with elevenlabs.generate(connect(lambda _: response), submission) as generation:
        return [b"".join(file.chunks) for file in generation.files]


def asked(submission: Submission) -> httpx.Request:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=b"ID3")

    with elevenlabs.generate(connect(handler), submission):
        return requests[0]


def refused(status: int, name: str, message: str = "It is wrong.") -> httpx.Response:
    return httpx.Response(status, json={"detail": {"status": name, "message": message}})


def test_a_connection_has_the_key_the_base_url_and_the_long_timeout_and_is_kept() -> None:
    connection = elevenlabs.connection(KEY)

    assert connection is elevenlabs.connection(KEY)
    assert connection.http.headers["xi-api-key"] == KEY
    assert connection.http.base_url.host == "elevenlabs.test"
    assert connection.http.timeout.read == 240


def test_speech_is_asked_for_as_documented() -> None:
    request = asked(SPEECH)

    assert (request.method, request.url.path) == ("POST", f"/v1/text-to-speech/{VOICE}")
    assert dict(request.url.params) == {"output_format": "mp3_44100_128"}
    assert request.headers["xi-api-key"] == KEY
    assert json.loads(request.content) == {
        "text": "Hello",
        "model_id": "eleven_multilingual_v2",
        "voice_settings": {"speed": 1.1},
        "seed": 7,
    }
    assert SPEECH.input["voice"] == VOICE


def test_music_is_asked_for_as_documented() -> None:
    request = asked(MUSIC)

    assert (request.method, request.url.path) == ("POST", "/v1/music")
    assert dict(request.url.params) == {"output_format": "mp3_44100_128"}
    assert json.loads(request.content) == {"model_id": "music_v1", **MUSIC.input}


def test_speech_streams_and_says_what_it_has_cost() -> None:
    response = httpx.Response(200, headers=HEADERS, stream=Chunked(iter([b"ID3", b"", b"sound"])))

    with elevenlabs.generate(connect(lambda _: response), SPEECH) as generation:
        files = [b"".join(file.chunks) for file in generation.files]

    assert files == [b"ID3sound"]
    assert (generation.request_id, generation.units, generation.cost_usd) == ("a1B2c3D4", 5.0, None)


def test_what_music_costs_in_characters_is_not_what_it_is_sold_by() -> None:
    with elevenlabs.generate(connect(lambda _: httpx.Response(200, headers=HEADERS)), MUSIC) as generation:
        assert (generation.request_id, generation.units) == ("a1B2c3D4", None)


@pytest.mark.parametrize("cost", [{}, {"character-cost": "free"}, {"character-cost": "nan"}, {"character-cost": "-1"}])
def test_a_cost_that_is_no_number_is_not_told(cost: dict[str, str]) -> None:
    headers = cost | {"request-id": "a b"}

    with elevenlabs.generate(connect(lambda _: httpx.Response(200, headers=headers)), SPEECH) as generation:
        assert (generation.request_id, generation.units) == (None, None)


@pytest.mark.parametrize("voice", ["", "../music", "a/b", "a?b", "é", "a b", None, {"id": "a"}])
def test_a_voice_that_is_no_name_is_refused_before_anything_is_sent(voice: Any) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        pytest.fail(f"sent to {request.url}")

    submission = Submission("job_1", SPEECH.model, {**SPEECH.input, "voice": voice})

    with pytest.raises(InvalidInput), elevenlabs.generate(connect(handler), submission):
        pass


COMPLAINTS = {"detail": [{"loc": ["body", "text"], "msg": "field required", "type": "value_error"}]}
CASES = [
    (refused(400, "max_character_limit_exceeded"), InvalidInput),
    (refused(400, "voice_not_found"), InvalidInput),
    (refused(404, "voice_not_found"), InvalidInput),
    (refused(400, "some_new_name"), InvalidInput),
    (httpx.Response(422, json=COMPLAINTS), InvalidInput),
    (httpx.Response(400, json={"detail": "Plain words."}), InvalidInput),
    (httpx.Response(400, html="<html>Bad Request</html>"), InvalidInput),
    (refused(401, "invalid_api_key", f"Invalid API key {KEY}"), KeyRefused),
    (refused(400, "invalid_api_key"), KeyRefused),
    (refused(401, "quota_exceeded"), KeyRefused),
    (refused(400, "quota_exceeded"), KeyRefused),
    (refused(429, "quota_exceeded"), KeyRefused),
    (refused(402, "payment_required"), KeyRefused),
    (refused(403, "forbidden"), KeyRefused),
    (refused(404, "model_not_found"), OperatorNeeded),
    (refused(400, "content_against_policy"), ContentRefused),
    (refused(400, "bad_prompt"), ContentRefused),
    (refused(400, "new_name", "Your text was flagged."), ContentRefused),
    (refused(429, "too_many_concurrent_requests"), Throttled),
    (refused(429, "system_busy"), Throttled),
    (refused(400, "system_busy"), Throttled),
    (refused(425, "too_early"), Throttled),
    (httpx.Response(429, html="<html>slow down</html>"), Throttled),
    (httpx.Response(408), Ambiguous),
    (refused(500, "internal_server_error"), Ambiguous),
    (httpx.Response(502, html="<html>Bad Gateway</html>"), Ambiguous),
    (httpx.Response(302, headers={"location": "https://elsewhere.test/"}), Ambiguous),
]


@pytest.mark.parametrize(("response", "expected"), CASES)
@pytest.mark.parametrize("submission", [SPEECH, MUSIC])
def test_every_refusal_has_its_class(
    response: httpx.Response, expected: type[ProviderError], submission: Submission
) -> None:
    fresh = httpx.Response(response.status_code, headers=response.headers, content=response.read())

    with pytest.raises(expected) as raised:
        answered(submission, fresh)

    assert type(raised.value) is expected
    assert KEY not in f"{raised.value} {raised.value.failure}"


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (httpx.Response(422, json=COMPLAINTS), "body.text: field required"),
        (refused(400, "voice_not_found", f"No such voice\nfor {KEY}."), "No such voice for ***."),
        (httpx.Response(400, json={"detail": {"status": "odd"}}), "odd"),
        (httpx.Response(400, json={"detail": [1, {"msg": "bad"}]}), "bad"),
        (httpx.Response(400, json={}), "status 400"),
    ],
)
def test_a_refusal_says_what_elevenlabs_has_said_without_the_key(response: httpx.Response, detail: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        answered(SPEECH, response)

    assert raised.value.detail == detail


def test_a_throttled_call_says_how_long_to_wait() -> None:
    content = refused(429, "too_many_concurrent_requests").read()

    with pytest.raises(Throttled) as raised:
        answered(SPEECH, httpx.Response(429, headers={"retry-after": "1"}, content=content))

    assert raised.value.retry_after == 1.0


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

    with pytest.raises(expected) as raised, elevenlabs.generate(connect(handler), MUSIC):
        pass

    assert KEY not in str(raised.value)


@pytest.mark.parametrize("failure", [httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_a_sound_that_breaks_off_is_ambiguous(failure: type[httpx.RequestError]) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"ID3"
        raise failure(f"with {KEY}")

    with pytest.raises(Ambiguous) as raised:
        answered(SPEECH, httpx.Response(200, stream=Chunked(chunks())))

    assert KEY not in str(raised.value)


def test_a_model_of_no_known_kind_is_gone() -> None:
    with pytest.raises(ModelGone):
        asked(Submission("job_1", "dubbing:v1", {}))
