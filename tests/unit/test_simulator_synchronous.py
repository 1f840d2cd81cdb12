"""The simulated OpenAI, ElevenLabs and Gemini: one call, one answer, as in PROVIDERS.md, 4, 5 and 7."""

import base64
import json
import threading
import time
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from shared.media.probe import measure
from tests.unit.test_simulator_common import SPEECH, Provider, calls, eventually, origin, probed, provider, web

__all__ = ["origin"]

TTS = "/openai/v1/audio/speech"
IMAGES = "/openai/v1/images/generations"
VOICE = "/elevenlabs/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb"
MUSIC = "/elevenlabs/v1/music"
GENERATE = "/gemini/v1beta/models/gemini-2.5-flash:generateContent"
TEXT = "The lighthouse keeper climbed the stairs one last time."
RAW = {"pcm": ("-f", "s16le", "-ar", "24000", "-ac", "1")}


@pytest.fixture
def openai(origin: str) -> Provider:
    return provider(origin, "openai")


@pytest.fixture
def eleven(origin: str) -> Provider:
    return provider(origin, "elevenlabs")


@pytest.fixture
def gemini(origin: str) -> Provider:
    return provider(origin, "gemini")


def say(caller: Provider, text: str, **more: Any) -> httpx.Response:
    return caller.post(TTS, SPEECH | {"input": text} | more)


def draw(caller: Provider, prompt: str, **more: Any) -> httpx.Response:
    return caller.post(IMAGES, {"model": "gpt-image-1", "prompt": prompt, "size": "256x128"} | more)


# OpenAI


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("mp3", "audio/mpeg"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("flac", "audio/flac"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
    ],
)
def test_speech_in_every_format(openai: Provider, kind: str, media_type: str) -> None:
    answer = say(openai, f"{TEXT}[sim delay=0]", response_format=kind)

    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-request-id"].startswith("req_")
    assert probed(answer.content, *RAW.get(kind, ()))[0] == pytest.approx(len(TEXT) / 14, abs=0.15)


def test_speech_as_events(openai: Provider) -> None:
    answer = say(openai, "hello [sim delay=0 cost=55]", stream_format="sse")

    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert probed(sound)[0] == pytest.approx(0.5, abs=0.1)
    assert (events[-1]["type"], events[-1]["usage"]["output_tokens"]) == ("speech.audio.done", 55)


def test_pictures_are_base64(openai: Provider) -> None:
    answer = draw(openai, "a boat [sim delay=0]", n=2, output_format="jpeg", quality="low").json()

    pictures = [Image.open(BytesIO(base64.b64decode(item["b64_json"]))) for item in answer["data"]]
    assert [(picture.format, picture.size) for picture in pictures] == [("JPEG", (256, 128))] * 2
    assert (answer["output_format"], answer["quality"], answer["size"]) == ("jpeg", "low", "256x128")
    assert answer["usage"]["output_tokens"] == 2 * 272
    assert answer["usage"]["total_tokens"] == answer["usage"]["input_tokens"] + 544


def test_a_large_picture_and_its_cost(openai: Provider) -> None:
    answer = draw(openai, "a boat [sim delay=0 bytes=5MB cost=9999]").json()

    content = base64.b64decode(answer["data"][0]["b64_json"])
    assert len(content) == 5_000_000
    assert Image.open(BytesIO(content)).size == (256, 128)
    assert answer["usage"]["output_tokens"] == 9999


def test_dall_e_may_answer_with_a_url(openai: Provider) -> None:
    answer = draw(openai, "a boat [sim delay=0]", model="dall-e-3", response_format="url").json()

    assert web.get(answer["data"][0]["url"]).headers["content-type"] == "image/png"
    assert answer["data"][0]["revised_prompt"] == "a boat"


def test_the_video_api_has_ended(openai: Provider) -> None:
    for answer in (
        openai.post("/openai/v1/videos", {}),
        openai.get("/openai/v1/videos/video_123"),
        openai.get("/openai/v1/videos/video_123/content"),
    ):
        assert answer.status_code == 404
        assert "shut down" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("create=429", 429, "rate_limit_exceeded"),
        ("create=402", 429, "insufficient_quota"),
        ("create=busy", 503, None),
        ("create=500", 500, None),
        ("outcome=refused", 400, "moderation_blocked"),
        ("outcome=failed", 400, "generation_failed"),
    ],
)
def test_openai_says_no(openai: Provider, origin: str, word: str, status: int, code: str | None) -> None:
    prompt = f"no {word} [sim {word} times=1 delay=0]"

    answers = [draw(openai, prompt) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, 200]
    assert answers[0].json()["error"]["code"] == code
    assert set(answers[0].json()["error"]) == {"message", "type", "param", "code"}
    assert calls(origin, f"no {word}")["billed_count"] == 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"voice": "bob"}, "voice"),
        ({"input": ""}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"response_format": "ogg"}, "response_format"),
        ({"speed": 9}, "speed"),
        ({"model": "tts-9"}, "model"),
        ({"input": "[sim webhook=lost]"}, "input"),
        ({"input": "[sim cost=1]"}, "input"),
    ],
)
def test_bad_speech_names_its_parameter(openai: Provider, change: dict[str, Any], param: str) -> None:
    answer = say(openai, "hello", **change)

    assert answer.status_code == (404 if param == "model" else 400)
    assert answer.json()["error"]["param"] == param


# One call and what becomes of it


def test_a_call_takes_its_time_and_is_billed_once(openai: Provider, origin: str) -> None:
    started = time.monotonic()
    say(openai, "slowly now [sim delay=0.3]")

    found = calls(origin, "slowly now")
    assert time.monotonic() - started >= 0.3
    assert (found["call_count"], found["billed_count"]) == (1, 1)
    call = found["calls"][0]
    assert (call["provider"], call["model"], call["outcome"]) == ("openai", SPEECH["model"], "ok")


def test_a_call_dropped_after_the_work_is_billed(openai: Provider, origin: str) -> None:
    with pytest.raises(httpx.TransportError):
        say(openai, "dropped [sim create=drop-after-accept delay=0]")

    assert calls(origin, "dropped")["billed_count"] == 1


def test_a_refused_connection_and_a_hung_call_are_not_billed(openai: Provider, origin: str) -> None:
    with pytest.raises(httpx.TransportError):
        say(openai, "unbilled 1 [sim create=refuse]")
    with pytest.raises(httpx.ReadTimeout):
        openai.post(TTS, SPEECH | {"input": "unbilled 2 [sim create=hang]"}, timeout=0.2)

    assert (calls(origin, "unbilled")["call_count"], calls(origin, "unbilled")["billed_count"]) == (2, 0)


def test_a_gateway_page(openai: Provider) -> None:
    answer = say(openai, "[sim create=502html]")

    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")


def test_speech_that_goes_wrong_on_the_way(openai: Provider) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        say(openai, "[sim output=truncated delay=0]")
    page = say(openai, "[sim output=wrong-type delay=0]")
    empty = say(openai, "[sim output=empty delay=0]")

    assert page.headers["content-type"] == "audio/mpeg"
    assert page.content.startswith(b"<!doctype html>")
    assert (empty.status_code, empty.content) == (200, b"")


def test_pictures_that_go_wrong_on_the_way(openai: Provider) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        draw(openai, "[sim output=truncated delay=0]")

    assert draw(openai, "[sim output=empty delay=0]").json()["data"] == []
    assert draw(openai, "[sim output=notjson delay=0]").text.startswith("<!doctype")


def test_a_large_wav_goes_on_in_silence(openai: Provider) -> None:
    answer = say(openai, f"{TEXT}[sim bytes=3MB delay=0]", response_format="wav")

    assert len(answer.content) == 3_000_000
    assert not any(answer.content[-2_000_000:])
    assert probed(answer.content)[0] == pytest.approx(3_000_000 / 2 / 24_000, abs=0.1)
    assert measure(BytesIO(answer.content), "audio/wav").duration_s == pytest.approx(62.5, abs=0.1)


def test_a_large_speech_is_streamed(openai: Provider) -> None:
    received = 0
    body = SPEECH | {"input": "[sim bytes=40MB delay=0]"}
    with web.stream("POST", f"{openai.origin}{TTS}", json=body, headers=openai.headers) as answer:
        for chunk in answer.iter_raw():
            received += len(chunk)

    assert received == 40_000_000


# ElevenLabs


@pytest.mark.parametrize(
    ("wanted", "media_type", "raw"),
    [
        (None, "audio/mpeg", ()),
        ("mp3_22050_32", "audio/mpeg", ()),
        ("opus_48000_64", "audio/ogg", ()),
        ("wav_16000", "audio/wav", ()),
        ("pcm_16000", "audio/pcm", ("-f", "s16le", "-ar", "16000", "-ac", "1")),
        ("ulaw_8000", "audio/basic", ("-f", "mulaw", "-ar", "8000", "-ac", "1")),
    ],
)
def test_a_voice_in_every_format(eleven: Provider, wanted: str | None, media_type: str, raw: tuple[str, ...]) -> None:
    query = {"output_format": wanted} if wanted else {}

    answer = eleven.post(VOICE, {"text": f"{TEXT}[sim delay=0]"}, params=query)

    assert answer.headers["content-type"] == media_type
    assert probed(answer.content, *raw)[0] == pytest.approx(len(TEXT) / 14, abs=0.15)
    assert answer.headers["character-cost"] == str(len(TEXT))
    assert answer.headers["request-id"]
    assert (answer.headers["current-concurrent-requests"], answer.headers["maximum-concurrent-requests"]) == ("1", "15")


def test_concurrent_calls_of_a_key_are_counted(eleven: Provider) -> None:
    slow = threading.Thread(target=lambda: eleven.post(VOICE, {"text": "slow [sim delay=0.4]"}, key="el_count"))
    slow.start()
    eventually(lambda: calls(eleven.origin, "slow [sim delay=0.4]")["call_count"])

    answer = eleven.post(VOICE, {"text": "quick [sim delay=0]"}, key="el_count")
    slow.join()

    assert answer.headers["current-concurrent-requests"] == "2"


def test_a_voice_with_times(eleven: Provider) -> None:
    answer = eleven.post(f"{VOICE}/with-timestamps", {"text": "Hi there [sim delay=0]"}).json()

    assert answer["alignment"]["characters"] == list("Hi there")
    ends = answer["alignment"]["character_end_times_seconds"]
    assert probed(base64.b64decode(answer["audio_base64"]))[0] == pytest.approx(ends[-1], abs=0.1)


def test_music_lasts_as_long_as_asked(eleven: Provider) -> None:
    answer = eleven.post(MUSIC, {"prompt": "calm [sim delay=0 cost=7]", "music_length_ms": 3000})

    assert probed(answer.content)[0] == pytest.approx(3, abs=0.1)
    assert answer.headers["character-cost"] == "7"


@pytest.mark.parametrize(
    ("word", "status", "name"),
    [
        ("create=429", 429, "too_many_concurrent_requests"),
        ("create=busy", 429, "system_busy"),
        ("create=402", 401, "quota_exceeded"),
        ("create=500", 500, "internal_server_error"),
        ("outcome=refused", 400, "content_against_policy"),
        ("outcome=failed", 400, "generation_failed"),
    ],
)
def test_elevenlabs_says_no(eleven: Provider, word: str, status: int, name: str) -> None:
    answers = [eleven.post(VOICE, {"text": f"{word} [sim {word} times=1 delay=0]"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, 200]
    assert answers[0].json()["detail"]["status"] == name


def test_bad_requests_at_elevenlabs(eleven: Provider) -> None:
    long = eleven.post(VOICE, {"text": "x" * 10_001})
    fast = eleven.post(VOICE, {"text": "x" * 10_001 + "[sim create=500]", "model_id": "eleven_flash_v2_5"})
    voice = eleven.post("/elevenlabs/v1/text-to-speech/missing", {"text": "x"})
    both = eleven.post(MUSIC, {"prompt": "x", "composition_plan": {}})
    short = eleven.post(MUSIC, {"prompt": "x", "music_length_ms": 100})

    assert (long.status_code, long.json()["detail"]["status"]) == (400, "max_character_limit_exceeded")
    assert fast.status_code == 500
    assert voice.json()["detail"]["status"] == "voice_not_found"
    assert isinstance(both.json()["detail"], list)
    assert (both.status_code, short.status_code) == (422, 422)


# Gemini


def frame(shade: int) -> dict[str, Any]:
    encoded = BytesIO()
    Image.new("RGB", (32, 18), (shade, shade, shade)).save(encoded, "JPEG")
    return {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(encoded.getvalue()).decode()}}


def ask(caller: Provider, parts: list[dict[str, Any]], **config: Any) -> httpx.Response:
    config = {"responseMimeType": "application/json"} | config
    return caller.post(GENERATE, {"contents": [{"role": "user", "parts": parts}], "generationConfig": config})


def said(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["candidates"][0]["content"]["parts"][0]["text"])


def labelled(*times: float) -> list[dict[str, Any]]:
    return [part for at in times for part in ({"text": f"Frame at {at} s"}, frame(int(at)))]


def test_frames_are_answered_with_scored_segments(gemini: Provider) -> None:
    answer = ask(gemini, [{"text": "Score the shots [sim delay=0]"}, *labelled(0.0, 2.5, 7.0)])

    segments = said(answer)["segments"]
    assert [(segment["start"], segment["end"]) for segment in segments] == [(0, 2.5), (2.5, 7), (7, 11.5)]
    assert all(0 <= segment["score"] <= 1 and segment["description"] for segment in segments)
    usage = answer.json()["usageMetadata"]
    assert usage["promptTokenCount"] >= 3 * 258
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert answer.json()["candidates"][0]["finishReason"] == "STOP"


def test_the_answer_has_the_shape_that_was_asked_for(gemini: Provider) -> None:
    item = {
        "type": "OBJECT",
        "properties": {
            "start_s": {"type": "NUMBER"},
            "end_s": {"type": "NUMBER"},
            "score": {"type": "INTEGER", "minimum": 1, "maximum": 10},
            "kind": {"type": "STRING", "enum": ["wide", "close"]},
            "frame": {"type": "INTEGER"},
        },
    }
    schema = {"type": "ARRAY", "items": item}

    parts = [{"text": "Score [sim delay=0]"}, *labelled(0.0, 4.0)]
    shots = said(ask(gemini, parts, responseSchema=schema))

    assert [(shot["start_s"], shot["end_s"], shot["frame"]) for shot in shots] == [(0, 4, 0), (4, 8, 1)]
    assert all(1 <= shot["score"] <= 10 and shot["kind"] in ("wide", "close") for shot in shots)
    assert said(ask(gemini, parts, responseSchema=schema)) == shots


def test_a_file_is_fetched_and_its_length_decides(gemini: Provider, openai: Provider, origin: str) -> None:
    made = provider(origin, "replicate").post(
        "/replicate/v1/models/a/veo/predictions",
        {"input": {"prompt": "[sim delay=0]", "duration": 10}},
        headers={"prefer": "wait"},
    )
    file = {"fileData": {"mimeType": "video/mp4", "fileUri": made.json()["output"]}}
    missing = {"fileData": {"mimeType": "video/mp4", "fileUri": "http://127.0.0.1:9/x.mp4"}}

    segments = said(ask(gemini, [file, {"text": "Score [sim delay=0]"}]))["segments"]
    refused = ask(gemini, [missing, {"text": "Score"}])

    assert [(segment["start"], segment["end"]) for segment in segments] == [(0, 5), (5, 10)]
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("word", "status", "name"),
    [
        ("create=429", 429, "RESOURCE_EXHAUSTED"),
        ("create=402", 429, "RESOURCE_EXHAUSTED"),
        ("create=busy", 503, "UNAVAILABLE"),
        ("create=500", 500, "INTERNAL"),
        ("outcome=failed", 400, "FAILED_PRECONDITION"),
    ],
)
def test_gemini_says_no(gemini: Provider, origin: str, word: str, status: int, name: str) -> None:
    answers = [ask(gemini, [{"text": f"no: {word} [sim {word} times=1 delay=0]"}]) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, 200]
    assert (answers[0].json()["error"]["code"], answers[0].json()["error"]["status"]) == (status, name)
    assert calls(origin, f"no: {word}")["billed_count"] == 1


def test_gemini_refuses_or_says_something_else(gemini: Provider) -> None:
    blocked = ask(gemini, [{"text": "[sim outcome=refused delay=0]"}])
    broken = ask(gemini, [{"text": "[sim output=notjson delay=0]"}])
    empty = ask(gemini, [{"text": "[sim output=empty delay=0]"}])
    costly = ask(gemini, [{"text": "[sim cost=500 delay=0]"}])
    prose = ask(gemini, [{"text": "Describe [sim delay=0]"}], responseMimeType="text/plain")

    assert blocked.json()["promptFeedback"] == {"blockReason": "SAFETY"}
    assert "candidates" not in blocked.json()
    with pytest.raises(json.JSONDecodeError):
        said(broken)
    assert "parts" not in empty.json()["candidates"][0]["content"]
    assert costly.json()["usageMetadata"]["candidatesTokenCount"] == 500
    assert "shots" in prose.json()["candidates"][0]["content"]["parts"][0]["text"]


@pytest.mark.parametrize(
    "body",
    [{}, {"contents": []}, {"contents": [{"parts": [{"inlineData": {"mimeType": "image/jpeg", "data": "AAAA"}}]}]}],
)
def test_what_gemini_cannot_read(gemini: Provider, body: dict[str, Any]) -> None:
    answer = gemini.post(GENERATE, body)

    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_call_that_never_ends_is_billed(openai: Provider, origin: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        openai.post(TTS, SPEECH | {"input": "endless [sim outcome=never delay=0]"}, timeout=0.2)

    assert calls(origin, "endless")["billed_count"] == 1
