"""ElevenLabs' synchronous calls: speech and music."""

import base64
import re
import secrets
from collections.abc import Mapping
from typing import Any, Literal, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from local.simulator import directives
from local.simulator.api import Answers, Call, Refused, application, json_object, key_of
from local.simulator.calls import ABILITIES, Calls, understood
from local.simulator.content import content
from local.simulator.directives import Directives
from local.simulator.outputs import faulty, flowing
from local.simulator.recordings import Sound, SoundFormat, seed_of, spoken_seconds
from local.simulator.studio import Studio

# Not enforced: what the plan called Business allows.
MOST_AT_ONCE = 15
ALL_ABILITIES = {**ABILITIES, "cost": frozenset[str]()}
FORMAT = re.compile(
    r"(mp3)_(22050|24000|44100|48000)_(\d{2,3})|(opus)_(48000)_(32|64|96|128|192)"
    r"|(pcm|wav)_(8000|16000|22050|24000|32000|44100|48000)|(ulaw|alaw)_(8000)"
)
DEFAULT_FORMAT = "mp3_44100_128"
LONGEST_TEXT = 10_000
LONGEST_TEXT_OF_FAST_MODELS = 40_000
MUSIC_LENGTHS_MS = range(3_000, 600_001)
MUSIC_FORMATS = {"music_v1": "mp3_44100_128", "music_v2": "mp3_48000_192"}
# What a second of music costs, in the characters in which ElevenLabs counts.
CHARACTERS_PER_SECOND_OF_MUSIC = 30

type Shape = Literal["binary", "timestamps"]


def refused(status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> Refused:
    return Refused(status, {"detail": {"status": name, "message": message}}, headers)


def invalid(field: str, message: str) -> Refused:
    return Refused(422, {"detail": [{"loc": ["body", field], "msg": message, "type": "value_error"}]})


ANSWERS: Answers = {
    "401": lambda: refused(401, "invalid_api_key", "Invalid API key"),
    "402": lambda: refused(401, "quota_exceeded", "This request exceeds your quota. You have 0 credits remaining."),
    "429": lambda: refused(429, "too_many_concurrent_requests", "Too many concurrent requests.", {"retry-after": "1"}),
    "429bare": lambda: refused(429, "too_many_concurrent_requests", "Too many concurrent requests."),
    "busy": lambda: refused(429, "system_busy", "The system is experiencing heavy traffic, please try again."),
    "500": lambda: refused(500, "internal_server_error", "Internal server error"),
    "failed": lambda: refused(400, "generation_failed", "The audio could not be generated."),
    "refused": lambda: refused(
        400, "content_against_policy", "The content you submitted appears to violate our terms."
    ),
}


class ElevenLabs:
    def __init__(self, calls: Calls, studio: Studio) -> None:
        self._calls = calls
        self._studio = studio

    def app(self) -> Starlette:
        creates = [
            ("/v1/text-to-speech/{voice}", self._speech("binary")),
            ("/v1/text-to-speech/{voice}/stream", self._speech("binary")),
            ("/v1/text-to-speech/{voice}/with-timestamps", self._speech("timestamps")),
            ("/v1/music", self._music),
            ("/v1/music/stream", self._music),
        ]
        return application(
            creates, prefix="el_", key=lambda request: request.headers.get("xi-api-key", ""), answers=ANSWERS
        )

    def _speech(self, shape: Shape) -> Call:
        async def speech(request: Request) -> Response:
            body = await json_object(request, lambda message: invalid("body", message))
            voice = request.path_params["voice"]
            if "missing" in voice:
                raise refused(400, "voice_not_found", f"A voice with the voice_id {voice} was not found.")
            text, model = body.get("text"), str(body.get("model_id", "eleven_multilingual_v2"))
            if not isinstance(text, str) or not text:
                raise invalid("text", "field required")
            most = LONGEST_TEXT_OF_FAST_MODELS if "flash" in model or "turbo" in model else LONGEST_TEXT
            if len(text) > most:
                raise refused(400, "max_character_limit_exceeded", f"This model takes at most {most} characters.")
            asked = understood(body, "ElevenLabs", lambda message: invalid("text", message), ALL_ABILITIES)
            caption = directives.caption(text)
            speed = float((body.get("voice_settings") or {}).get("speed", 1.0))
            seconds = asked.seconds or spoken_seconds(caption, speed)
            sound = _sound("speech", seconds, seed_of(voice) % 12, request.query_params.get("output_format"))
            return await self._answer(
                request, asked=asked, text=text, model=model, sound=sound, characters=len(caption), shape=shape
            )

        return speech

    async def _music(self, request: Request) -> Response:
        body = await json_object(request, lambda message: invalid("body", message))
        if ("prompt" in body) == ("composition_plan" in body):
            raise invalid("prompt", "exactly one of prompt and composition_plan must be given")
        length = body.get("music_length_ms", 10_000)
        if type(length) is not int or length not in MUSIC_LENGTHS_MS:
            raise invalid("music_length_ms", "music_length_ms must be from 3000 to 600000")
        model = str(body.get("model_id", "music_v1"))
        if model not in MUSIC_FORMATS:
            raise invalid("model_id", "model_id must be music_v1 or music_v2")
        asked = understood(body, "ElevenLabs", lambda message: invalid("prompt", message), ALL_ABILITIES)
        prompt = str(body.get("prompt") or body["composition_plan"])
        seconds = asked.seconds or length / 1000
        wanted = request.query_params.get("output_format", "auto")
        sound = _sound("music", seconds, seed_of(prompt) % 12, MUSIC_FORMATS[model] if wanted == "auto" else wanted)
        return await self._answer(
            request,
            asked=asked,
            text=prompt,
            model=model,
            sound=sound,
            characters=round(seconds * CHARACTERS_PER_SECOND_OF_MUSIC),
        )

    async def _answer(
        self,
        request: Request,
        *,
        asked: Directives,
        text: str,
        model: str,
        sound: Sound,
        characters: int,
        shape: Shape = "binary",
    ) -> Response:
        async def make(fault: str) -> Response:
            found = content(await self._studio.make(sound), sound.content_type, asked.bytes)
            if fault != "ok":
                return await faulty(request, found, fault)
            headers = {
                "request-id": secrets.token_hex(10),
                "character-cost": f"{characters if asked.cost is None else asked.cost:g}",
                "current-concurrent-requests": str(self._calls.running[key_of(request).fingerprint]),
                "maximum-concurrent-requests": str(MOST_AT_ONCE),
            }
            if shape == "timestamps":
                return JSONResponse(_timed(found.made, directives.caption(text), sound.seconds), headers=headers)
            return StreamingResponse(flowing(found), headers=headers, media_type=found.media_type)

        return await self._calls.answer(
            request, provider="elevenlabs", model=model, prompt=text, asked=asked, answers=ANSWERS, make=make
        )


def _sound(voice: Literal["speech", "music"], seconds: float, seed: int, wanted: str | None) -> Sound:
    match = FORMAT.fullmatch(wanted or DEFAULT_FORMAT)
    if match is None:
        raise invalid("output_format", f"output_format {wanted} is not known")
    kind, rate, *bitrate = [group for group in match.groups() if group]
    return Sound(voice, seconds, seed, cast(SoundFormat, kind), int(rate), int(bitrate[0]) if bitrate else 64)


def _timed(sound: bytes, text: str, seconds: float) -> dict[str, Any]:
    """Every character takes the same time."""
    slot = seconds / max(1, len(text))
    alignment = {
        "characters": list(text),
        "character_start_times_seconds": [round(slot * number, 3) for number in range(len(text))],
        "character_end_times_seconds": [round(slot * (number + 1), 3) for number in range(len(text))],
    }
    return {
        "audio_base64": base64.b64encode(sound).decode(),
        "alignment": alignment,
        "normalized_alignment": alignment,
    }
