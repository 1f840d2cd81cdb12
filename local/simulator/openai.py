"""OpenAI's synchronous calls, speech and images, and its video API, which has ended."""

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from local.simulator import directives
from local.simulator.api import Answers, Refused, application, bearer, json_object, origin
from local.simulator.calls import ABILITIES, Calls, understood
from local.simulator.content import Content, content
from local.simulator.directives import Directives
from local.simulator.media import CONTENT_TYPES, ImageFormat, Picture
from local.simulator.outputs import WRONG_PAGE, Outputs, faulty, flowing
from local.simulator.recordings import Sound, SoundFormat, seed_of, spoken_seconds
from local.simulator.studio import Studio

SPEECH_MODELS = {"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"}
IMAGE_MODELS = {"gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "dall-e-2", "dall-e-3"}
VOICES = {
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin", "cedar")
}
SPEECH_FORMATS = {"mp3", "opus", "aac", "flac", "wav", "pcm"}
LONGEST_SPEECH = 4096
SPEECH_RATE = 24_000
SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
OUTPUT_TOKENS = {"low": 272, "medium": 1056, "high": 4160, "auto": 1056}
# A multiple of three bytes is a whole number of base64 groups.
BASE64_PIECE = 3 * 16 * 1024
ENDED = "The Videos API and the Sora models were shut down on September 24, 2026."
SPEECH_ABILITIES = ABILITIES
IMAGE_ABILITIES = {**ABILITIES, "output": ABILITIES["output"] | {"notjson", "nourls"}, "cost": frozenset()}


def refused(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Refused:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Refused(status, body, {"x-request-id": _request_id()} | (headers or {}))


def invalid(param: str, message: str) -> Refused:
    return refused(400, message, param=param)


def _throttled(headers: dict[str, str] | None = None) -> Refused:
    message = "Rate limit reached for requests. Please try again in 1s."
    return refused(429, message, kind="requests", code="rate_limit_exceeded", headers=headers)


ANSWERS: Answers = {
    "401": lambda: refused(401, "Incorrect API key provided.", code="invalid_api_key"),
    "402": lambda: refused(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        kind="insufficient_quota",
        code="insufficient_quota",
    ),
    "429": lambda: _throttled({"retry-after": "1", "retry-after-ms": "1000"}),
    "429bare": _throttled,
    "busy": lambda: refused(503, "The engine is currently overloaded, please try again later.", kind="server_error"),
    "500": lambda: refused(500, "The server had an error while processing your request.", kind="server_error"),
    "failed": lambda: refused(400, "The request could not be completed.", code="generation_failed"),
    "refused": lambda: refused(
        400,
        "Your request was rejected as a result of our safety system.",
        kind="image_generation_user_error",
        code="moderation_blocked",
    ),
}


class OpenAI:
    def __init__(self, calls: Calls, studio: Studio, outputs: Outputs) -> None:
        self._calls = calls
        self._studio = studio
        self._outputs = outputs

    def app(self) -> Starlette:
        creates = [
            ("/v1/audio/speech", self._speech),
            ("/v1/images/generations", self._images),
            ("/v1/videos", self._videos),
        ]
        calls = [("/v1/videos", "GET", self._videos), ("/v1/videos/{rest:path}", "GET", self._videos)]
        return application(creates, calls, prefix="sk-", key=bearer, answers=ANSWERS)

    async def _videos(self, _: Request) -> Response:
        raise refused(404, ENDED, param="model", code="model_not_found")

    async def _speech(self, request: Request) -> Response:
        body = await json_object(request, lambda message: invalid("body", message))
        model = _model(body, SPEECH_MODELS)
        streamed = body.get("stream_format") == "sse"
        abilities = {**SPEECH_ABILITIES, "cost": frozenset()} if streamed else SPEECH_ABILITIES
        asked = understood(body, "OpenAI speech", lambda message: invalid("input", message), abilities)
        text, sound = _sound(body, model, asked)

        async def make(fault: str) -> Response:
            found = content(await self._studio.make(sound), sound.content_type, asked.bytes)
            headers = {"x-request-id": _request_id()}
            if fault != "ok":
                return await faulty(request, found, fault)
            if streamed:
                return StreamingResponse(_events(found, text, asked), headers=headers, media_type="text/event-stream")
            return StreamingResponse(flowing(found), headers=headers, media_type=found.media_type)

        return await self._calls.answer(
            request, provider="openai", model=model, prompt=text, asked=asked, answers=ANSWERS, make=make
        )

    async def _images(self, request: Request) -> Response:
        body = await json_object(request, lambda message: invalid("body", message))
        model = _model(body, IMAGE_MODELS)
        asked = understood(body, "OpenAI images", lambda message: invalid("prompt", message), IMAGE_ABILITIES)
        pictures = _pictures(body, model)
        prompt = str(body["prompt"])

        async def make(fault: str) -> Response:
            if fault == "notjson":
                return Response(WRONG_PAGE, media_type="application/json")
            if body.get("response_format") == "url" and model.startswith("dall-e"):
                return JSONResponse({"created": int(time.time()), "data": self._published(request, pictures, asked)})
            made = [
                content(await self._studio.make(picture), picture.content_type, asked.bytes) for picture in pictures
            ]
            document = _document(body, [] if fault in ("empty", "nourls") else made, asked)
            if fault == "truncated":
                whole = b"".join([piece async for piece in document])
                return await faulty(request, content(whole, "application/json"), fault)
            if fault in ("wrong-type", "too-big"):
                return await faulty(request, Content(b'{"created": 1,', 2**31, "application/json"), fault)
            return StreamingResponse(document, headers={"x-request-id": _request_id()}, media_type="application/json")

        return await self._calls.answer(
            request, provider="openai", model=model, prompt=prompt, asked=asked, answers=ANSWERS, make=make
        )

    def _published(self, request: Request, pictures: list[Picture], asked: Directives) -> list[dict[str, str]]:
        folder = secrets.token_hex(12)
        paths = [self._outputs.publish(f"{folder}/out-{p.index}.{p.format}", p, asked).path for p in pictures]
        return [{"url": f"{origin(request)}/delivery/{path}", "revised_prompt": pictures[0].caption} for path in paths]


def _request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def _model(body: dict[str, Any], known: set[str]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or model not in known:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise refused(404, message, param="model", code="model_not_found")
    return model


def _sound(body: dict[str, Any], model: str, asked: Directives) -> tuple[str, Sound]:
    text, voice = body.get("input"), body.get("voice")
    if not isinstance(text, str) or not text:
        raise invalid("input", "Missing required parameter: 'input'.")
    if len(text) > LONGEST_SPEECH:
        raise invalid(
            "input", f"Invalid 'input': string too long. Expected a string with maximum length {LONGEST_SPEECH}."
        )
    if not (voice in VOICES if isinstance(voice, str) else isinstance(voice, dict) and "id" in voice):
        raise invalid("voice", f"Invalid value: '{voice}'. Supported values are: {', '.join(sorted(VOICES))}.")
    kind = body.get("response_format", "mp3")
    if kind not in SPEECH_FORMATS:
        raise invalid("response_format", f"Invalid value: '{kind}'.")
    speed = body.get("speed", 1.0)
    if not isinstance(speed, int | float) or not 0.25 <= speed <= 4:
        raise invalid("speed", "Invalid 'speed': expected a value from 0.25 to 4.")
    if model.startswith("tts-1") and ("instructions" in body or body.get("stream_format") == "sse"):
        raise invalid("instructions", f"Not supported with {model}.")
    rate = 48_000 if kind == "opus" else SPEECH_RATE
    seconds = asked.seconds or spoken_seconds(directives.caption(text), speed)
    return text, Sound("speech", seconds, seed_of(str(voice)) % 12, cast(SoundFormat, kind), rate)


async def _events(found: Content, text: str, asked: Directives) -> AsyncIterator[bytes]:
    async for piece in flowing(found):
        yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    output = 101 if asked.cost is None else round(asked.cost)
    asking = max(1, len(text) // 4)
    usage = {"input_tokens": asking, "output_tokens": output, "total_tokens": asking + output}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _pictures(body: dict[str, Any], model: str) -> list[Picture]:
    prompt, count = body.get("prompt"), body.get("n", 1)
    if not isinstance(prompt, str) or not prompt:
        raise invalid("prompt", "Missing required parameter: 'prompt'.")
    if type(count) is not int or not 1 <= count <= (1 if model == "dall-e-3" else 10):
        raise invalid("n", "Invalid 'n': expected a whole number from 1 to 10.")
    size = body.get("size", "1024x1024")
    match = SIZE.fullmatch("1024x1024" if size == "auto" else str(size))
    if match is None or not 16 <= min(map(int, match.groups())) <= max(map(int, match.groups())) <= 4096:
        raise invalid("size", f"Invalid value: '{size}'.")
    if body.get("quality", "auto") not in (*OUTPUT_TOKENS, "standard", "hd"):
        raise invalid("quality", f"Invalid value: '{body['quality']}'.")
    kind = {"jpeg": "jpg"}.get(body.get("output_format", "png"), body.get("output_format", "png"))
    if kind not in CONTENT_TYPES:
        raise invalid("output_format", f"Invalid value: '{kind}'.")
    width, height = map(int, match.groups())
    caption, picture_format = directives.caption(prompt), cast(ImageFormat, kind)
    return [Picture(caption, seed_of(prompt), index, width, height, picture_format) for index in range(count)]


async def _document(body: dict[str, Any], made: list[Content], asked: Directives) -> AsyncIterator[bytes]:
    """The JSON answer, written as it goes: the pictures in it may be larger than memory."""
    quality = body.get("quality", "auto")
    output = OUTPUT_TOKENS.get(quality, 1056) * len(made) if asked.cost is None else round(asked.cost)
    text = max(1, len(str(body["prompt"])) // 4)
    details = {"text_tokens": text, "image_tokens": 0}
    head = {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": body.get("output_format", "png"),
        "quality": "medium" if quality == "auto" else quality,
        "size": body.get("size", "1024x1024"),
        "usage": {
            "input_tokens": text,
            "input_tokens_details": details,
            "output_tokens": output,
            "total_tokens": text + output,
        },
    }
    yield json.dumps(head)[:-1].encode() + b', "data": ['
    for number, picture in enumerate(made):
        yield (b', {"b64_json": "' if number else b'{"b64_json": "')
        for start in range(0, picture.size, BASE64_PIECE):
            yield base64.b64encode(b"".join(picture.slices(start, start + BASE64_PIECE)))
            await asyncio.sleep(0)
        yield b'"}'
    yield b"]}"
