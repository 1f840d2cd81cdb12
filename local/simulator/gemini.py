"""Gemini's generateContent: frames or a file in, JSON of the asked shape out."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local.simulator import directives
from local.simulator.api import Answers, Refused, application, json_object
from local.simulator.calls import ABILITIES, Calls, understood
from local.simulator.content import content
from local.simulator.inputs import Fetcher, Unreachable
from local.simulator.outputs import faulty
from local.simulator.scored import Moment, answer

ALL_ABILITIES = {
    **ABILITIES,
    "output": ABILITIES["output"] | {"notjson"},
    "cost": frozenset[str](),
}
TOKENS_PER_FRAME = 258
SECONDS_PER_SEGMENT = 5.0
TIME = re.compile(r"(\d+(?:\.\d+)?)\s*s(?:ec(?:onds)?)?\b|\b(\d+):(\d\d(?:\.\d+)?)\b")
DETAIL = "type.googleapis.com/google.rpc.ErrorInfo"


def refused(status: int, name: str, message: str, details: list[dict[str, Any]] | None = None) -> Refused:
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    return Refused(status, {"error": error | ({"details": details} if details else {})})


def invalid(message: str) -> Refused:
    return refused(400, "INVALID_ARGUMENT", message)


def _throttled(message: str) -> Refused:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
    return refused(429, "RESOURCE_EXHAUSTED", message, [retry])


ANSWERS: Answers = {
    "401": lambda: refused(
        401,
        "UNAUTHENTICATED",
        "API key not valid. Please pass a valid API key.",
        [{"@type": DETAIL, "reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
    ),
    "402": lambda: refused(
        429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."
    ),
    "429": lambda: _throttled("Resource has been exhausted (e.g. check quota)."),
    "429bare": lambda: refused(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "busy": lambda: refused(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "500": lambda: refused(500, "INTERNAL", "An internal error has occurred. Please retry."),
    "failed": lambda: refused(400, "FAILED_PRECONDITION", "The request could not be completed."),
}


@dataclass(frozen=True, slots=True)
class Question:
    """The text, where it looks (moments of the video), and the shape of the answer: None is free text."""

    text: str
    moments: list[Moment]
    frames: int
    as_json: bool
    schema: Mapping[str, Any] | None


class Gemini:
    def __init__(self, calls: Calls, fetcher: Fetcher) -> None:
        self._calls = calls
        self._fetcher = fetcher

    def app(self) -> Starlette:
        creates = [("/v1beta/models/{model}:generateContent", self._generate)]
        return application(
            creates, prefix="gm_", key=lambda request: request.headers.get("x-goog-api-key", ""), answers=ANSWERS
        )

    async def _generate(self, request: Request) -> Response:
        body = await json_object(request, invalid)
        model = request.path_params["model"]
        asked = understood(body, "Gemini", invalid, ALL_ABILITIES)
        try:
            question = await self._question(body)
        except Unreachable as unreachable:
            raise invalid(f"Cannot fetch content from the provided URL: {unreachable}") from None

        async def make(fault: str) -> Response:
            text = "{not json" if fault == "notjson" else answer(question.text, question.moments, question.schema)
            if not question.as_json and fault != "notjson":
                text = f"{len(question.moments)} shots, the best of them the first."
            document = _document(question, "" if fault == "empty" else text, asked.cost, model)
            if fault in ("ok", "notjson", "empty"):
                return JSONResponse(document)
            return await faulty(request, content(json.dumps(document).encode(), "application/json"), fault)

        return await self._calls.answer(
            request,
            provider="gemini",
            model=model,
            prompt=question.text,
            asked=asked,
            answers={**ANSWERS, "refused": lambda: _blocked(question)},
            make=make,
        )

    async def _question(self, body: dict[str, Any]) -> Question:
        """Raises Unreachable, and Refused for what makes no sense."""
        try:
            parts = [part for content in body["contents"] for part in content["parts"]]
            config = body.get("generationConfig") or {}
            texts = [part["text"] for part in parts if "text" in part]
        except (KeyError, TypeError):
            raise invalid("contents is not specified") from None
        if not parts:
            raise invalid("contents.parts must not be empty")
        times, frames, moments, label = _times(" ".join(texts)), 0, [], ""
        for part in parts:
            if "text" in part:
                label = part["text"]
            elif "inlineData" in part:
                _check(part["inlineData"])
                said = _times(label)
                moments.append(said[-1] if len(said) == 1 else float(frames))
                frames, label = frames + 1, ""
            elif "fileData" in part:
                given = await self._fetcher.fetch("fileUri", str(part["fileData"].get("fileUri")))
                seconds = given.probe.seconds if given.probe else 0.0
                frames += max(1, round(seconds))
                moments += [
                    start * SECONDS_PER_SEGMENT for start in range(max(1, round(seconds / SECONDS_PER_SEGMENT)))
                ]
        if len(times) == len(moments):
            moments = times
        schema = config.get("responseSchema") or config.get("responseJsonSchema")
        as_json = config.get("responseMimeType") == "application/json"
        return Question("\n".join(texts), _segments(moments), frames, as_json, schema)


def _check(data: Mapping[str, Any]) -> None:
    """Raises Refused unless it is a picture of the kind it says."""
    try:
        content = base64.b64decode(str(data["data"]), validate=True)
        with Image.open(BytesIO(content)) as image:
            image.verify()
    except (KeyError, binascii.Error, OSError, SyntaxError):
        raise invalid("Unable to process input image. Please retry or report.") from None


def _times(text: str) -> list[float]:
    """The moments a text names, such as `12.5 s` or `0:12`."""
    found = TIME.findall(directives.BRACKET.sub(" ", text))
    return [float(seconds) if seconds else int(minutes) * 60 + float(rest) for seconds, minutes, rest in found]


def _segments(starts: list[float]) -> list[Moment]:
    """Each lasts until the next; the last as long as the one before."""
    if not starts:
        return []
    steps = [later - earlier for earlier, later in pairwise(starts)]
    steps.append(steps[-1] if steps else SECONDS_PER_SEGMENT)
    return [
        Moment(number, round(start, 3), round(start + max(step, 0.1), 3))
        for number, (start, step) in enumerate(zip(starts, steps, strict=True))
    ]


def _document(question: Question, text: str, cost: float | None, model: str) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
    if not text:
        candidate = {"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}
    output = max(1, len(text) // 4) if cost is None else round(cost)
    return {"candidates": [candidate], "usageMetadata": _usage(question, output), "modelVersion": model}


def _usage(question: Question, output: int) -> dict[str, int]:
    prompt = question.frames * TOKENS_PER_FRAME + max(1, len(question.text) // 4)
    return {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}


def _blocked(question: Question) -> Refused:
    """A refusal is an answer like any other, without candidates."""
    return Refused(200, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": _usage(question, 0)})
