"""ElevenLabs: speech and music, answered at once. Wire format: elevenlabs/elevenlabs-python.

A model is named `speech:…` or `music:…`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx

from shared.core.settings import settings
from shared.providers import http, reading
from shared.providers.http import Connection
from shared.providers.outcomes import (
    ContentRefused,
    File,
    Generation,
    InvalidInput,
    KeyRefused,
    ModelGone,
    OperatorNeeded,
    ProviderError,
    Submission,
    Throttled,
)

VOICE = re.compile(r"[A-Za-z0-9]+")
# Speech and both versions of music have it.
DEFAULT_FORMAT = "mp3_44100_128"

# The names of errors, which say more than the status: an exhausted quota comes as 400, 401 or 402.
OUR_KEY = frozenset({"invalid_api_key", "missing_api_key", "missing_permissions", "detected_unusual_activity"})
OUR_FUNDS = frozenset({"quota_exceeded"})
BUSY = frozenset({"too_many_concurrent_requests", "system_busy"})
INPUT = frozenset({"voice_not_found", "max_character_limit_exceeded"})
# The last two are music's, for a prompt or plan that names a protected work or artist.
REFUSED = frozenset({"content_against_policy", "bad_prompt", "bad_composition_plan"})


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process."""
    headers = {"xi-api-key": key}
    return http.connect(settings().base_urls["elevenlabs"], headers, timeout=settings().generate_timeout)


@contextmanager
def generate(connection: Connection, submission: Submission) -> Iterator[Generation]:
    """Ask once and read the sound as it comes. Raises Permanent, NothingCreated or Ambiguous, the last also from the
    file."""
    kind, _, model = submission.model.partition(":")
    body = {**submission.input, "model_id": model}
    params = {"output_format": body.pop("output_format", DEFAULT_FORMAT)}
    with http.stream(connection, _path(kind, body), body, params=params) as response:
        http.check_created(response, _refusal)
        request_id = response.headers.get("request-id", "")
        yield Generation(
            iter([File(http.chunks(response), length=http.length(response))]),
            request_id=request_id if reading.IDENTIFIER.fullmatch(request_id) else None,
            # Music is told in characters too, but sold by the second.
            units=reading.number(response.headers.get("character-cost")) if kind == "speech" else None,
        )


def _path(kind: str, body: dict[str, Any]) -> str:
    """Where a kind is made; a voice is taken out of the body and into the path."""
    match kind:
        case "music":
            return "/v1/music"
        case "speech":
            voice = body.pop("voice", None)
            if not isinstance(voice, str) or not VOICE.fullmatch(voice):
                raise InvalidInput("a voice is named by letters and digits")
            return f"/v1/text-to-speech/{voice}"
    raise ModelGone(f"a model of no known kind: {kind}")


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: `{"detail": {"status", "message"}}`, or a list of what is wrong with the input."""
    told = (http.document(response) or {}).get("detail")
    fields = told if isinstance(told, dict) else {}
    names = {str(fields.get("status")), str(fields.get("code"))}
    detail = http.detail(_message(told), f"status {response.status_code}")
    if names & OUR_KEY:
        return KeyRefused("the provider does not accept our key")
    if names & OUR_FUNDS:
        return KeyRefused("our account at the provider has no funds")
    if names & BUSY:
        return Throttled(detail, retry_after=http.retry_after(response))
    if names & INPUT:
        return InvalidInput(detail)
    if names & REFUSED:
        return ContentRefused(detail)
    match response.status_code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 402:
            return KeyRefused("our account at the provider has no funds")
        case 404:
            return OperatorNeeded("the provider does not know the model")
        case 425 | 429:
            return Throttled(detail, retry_after=http.retry_after(response))
    # Not every refusal has a name that is known.
    return ContentRefused(detail) if reading.refused(detail) else InvalidInput(detail)


def _message(told: Any) -> str:
    if isinstance(told, dict):
        return str(told.get("message") or told.get("status") or "")
    if isinstance(told, list):
        return "; ".join(_complaint(item) for item in told if isinstance(item, dict))
    return told if isinstance(told, str) else ""


def _complaint(item: dict[str, Any]) -> str:
    """`{"loc": ["body", "text"], "msg": "field required"}` as `body.text: field required`."""
    place = item.get("loc")
    where = ".".join(str(part) for part in place) if isinstance(place, list) else ""
    return f"{where}: {item.get('msg')}" if where else str(item.get("msg"))
