"""Gemini: questions about frames of a video, answered at once as JSON of an asked shape. Wire format: ai.google.dev,
API reference, generateContent."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from shared.core.settings import settings
from shared.providers import http, reading
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    InvalidInput,
    KeyRefused,
    OperatorNeeded,
    ProviderError,
    Throttled,
)

LARGEST_ANSWER = 4_000_000
REFUSED = frozenset({"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "IMAGE_SAFETY"})
FENCED = re.compile(r"\s*```[a-z]*\s*(.*?)\s*```\s*", re.DOTALL | re.IGNORECASE)
DELAY = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,9})?)s")


@dataclass(frozen=True)
class Analysis:
    """The answer's JSON, and the tokens it is billed by; what the model thought counts as output."""

    data: Any
    prompt_tokens: int
    output_tokens: int


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process."""
    headers = {"x-goog-api-key": key}
    return http.connect(settings().base_urls["gemini"], headers, timeout=settings().generate_timeout)


def analyse(
    connection: Connection, model: str, frames: Sequence[bytes], prompt: str, schema: dict[str, Any]
) -> Analysis:
    """Ask once about `frames` (JPEG, in the order of time). `schema` is OpenAPI's.

    Raises Permanent, NothingCreated or Ambiguous; the last also for an answer that is no JSON, since it is billed, and
    for a 503 as for every 5xx (PROVIDERS §10).
    """
    # The frames come first: Google advises to ask after what is asked about.
    parts = [{"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(frame).decode()}} for frame in frames]
    body = {
        "contents": [{"role": "user", "parts": [*parts, {"text": prompt}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": schema},
    }
    with http.stream(connection, f"/models/{model}:generateContent", body) as response:
        http.check_created(response, _refusal)
        document = reading.loads(_text(response))
    if not isinstance(document, dict):
        raise Ambiguous("the provider answered with something that is no JSON object")
    usage = _object(document.get("usageMetadata"))
    return Analysis(
        data=_data(document),
        prompt_tokens=_count(usage, "promptTokenCount"),
        output_tokens=_count(usage, "candidatesTokenCount") + _count(usage, "thoughtsTokenCount"),
    )


def _data(document: dict[str, Any]) -> Any:
    """The JSON that the first candidate has written. A refusal is an answer like any other, without text."""
    blocked = _object(document.get("promptFeedback")).get("blockReason")
    if blocked:
        raise ContentRefused(http.detail(f"The provider has refused the request: {blocked}."))
    candidates = document.get("candidates")
    candidate = _object(candidates[0]) if isinstance(candidates, list) and candidates else {}
    reason = candidate.get("finishReason")
    if isinstance(reason, str) and reason in REFUSED:
        raise ContentRefused(http.detail(f"The provider has refused to answer: {reason}."))
    listed = _object(candidate.get("content")).get("parts")
    parts = [_object(part) for part in listed] if isinstance(listed, list) else []
    text = "".join(str(part.get("text") or "") for part in parts if part.get("thought") is not True)
    fenced = FENCED.fullmatch(text)
    data = reading.loads(fenced.group(1) if fenced else text)
    if data is None:
        raise Ambiguous(http.detail(f"the model has answered no JSON (it finished with {reason})"))
    return data


def _text(response: httpx.Response) -> str:
    data = bytearray()
    for chunk in http.chunks(response):
        data += chunk
        if len(data) > LARGEST_ANSWER:
            raise Ambiguous(f"the provider's answer has more than {LARGEST_ANSWER} bytes")
    return data.decode(errors="replace")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(usage: dict[str, Any], name: str) -> int:
    return int(reading.number(usage.get(name)) or 0)


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: `{"error": {"code", "message", "status", "details": [{"@type", …}]}}`."""
    error = _object(_object(http.document(response)).get("error"))
    listed = error.get("details")
    details = [_object(item) for item in listed] if isinstance(listed, list) else []
    detail = http.detail(error.get("message"), f"status {response.status_code}")
    # A key that nobody has is a 400 here, told apart by its reason.
    if any(item.get("reason") in ("API_KEY_INVALID", "API_KEY_EXPIRED") for item in details):
        return KeyRefused("the provider does not accept our key")
    match response.status_code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 404:
            return OperatorNeeded("the provider does not know the model")
        case 429:
            return Throttled(detail, retry_after=http.retry_after(response) or _delay(details))
    return InvalidInput(detail)


def _delay(details: list[dict[str, Any]]) -> float | None:
    """The seconds of a RetryInfo, `"retryDelay": "1.5s"`."""
    found = (DELAY.fullmatch(str(item.get("retryDelay"))) for item in details)
    return next((float(match.group(1)) for match in found if match), None)
