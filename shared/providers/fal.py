"""fal.ai: requests in its queue, webhooks signed with Ed25519. Wire format: docs.fal.ai (queue, webhooks, errors);
PROVIDERS §3.

`model` is the path of an app, `fal-ai/flux/dev`. Only the submission uses all of it: what is asked afterwards is under
its first two segments. The URLs of an answer are not followed, so that our key goes to no other host.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx

from shared.core.settings import settings
from shared.providers import http, reading, signatures
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    Failure,
    Gone,
    InvalidInput,
    KeyRefused,
    Notice,
    OperatorNeeded,
    Output,
    Prediction,
    ProviderError,
    Silent,
    Submission,
    Throttled,
    Unsearchable,
)
from shared.providers.signatures import BadSignature

POLICY_VIOLATION = "content_policy_violation"
CANCELED = "client_cancelled"
STILL_RUNNING = "request_in_progress"
MOST_LOG_LINES = 50
MOST_DETAILS = 5
# Where models put their files; the first of these that holds any is the result.
FILE_FIELDS = ("images", "image", "video", "audio", "audio_file", "audio_url")


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process."""
    headers = {"authorization": f"Key {key}"}
    return http.connect(settings().base_urls["fal"], headers, timeout=settings().provider_timeout)


def submit(connection: Connection, submission: Submission) -> Prediction:
    """Put a request into the queue. Raises Permanent, NothingCreated or Ambiguous."""
    params = {"fal_webhook": submission.webhook}
    response = http.create(connection, f"/{submission.model}", submission.input, params=params)
    http.check_created(response, _refusal)
    try:
        return Prediction(reading.identifier((http.document(response) or {}).get("request_id")), "starting")
    except ValueError as error:
        raise Ambiguous(f"the provider answered {response.status_code} without a request") from error


def fetch(connection: Connection, model: str, prediction_id: str) -> Prediction:
    """The request as it is. Raises Gone, Silent, Throttled or Permanent.

    fal has three statuses: what has failed is COMPLETED with an error, or answers one when asked for its result.
    """
    path = _path(model, prediction_id)
    response = http.ask(connection, "GET", f"{path}/status", params={"logs": "1"})
    document = _told(response)
    match document.get("status"):
        case "IN_QUEUE":
            return Prediction(prediction_id, "starting")
        case "IN_PROGRESS":
            return Prediction(prediction_id, "processing", progress=_progress(document.get("logs")))
        case "COMPLETED" if document.get("error") or document.get("error_type"):
            return _failed(prediction_id, document.get("error"), document.get("error_type"))
        case "COMPLETED":
            return _completed(prediction_id, http.ask(connection, "GET", path))
    raise Silent("the provider answered with something that is no status")


def cancel(connection: Connection, model: str, prediction_id: str) -> Prediction:
    """Ask to stop it: what waits is taken out of the queue, what runs may finish all the same. Raises as `fetch`."""
    response = http.ask(connection, "PUT", f"{_path(model, prediction_id)}/cancel")
    # What is completed already comes with a 400.
    match (http.document(response) or {}).get("status"):
        case "OK":
            return _failed(prediction_id, "The provider has stopped it.", CANCELED)
        case "CANCELLATION_REQUESTED":
            return Prediction(prediction_id, "processing")
        case "ALREADY_COMPLETED":
            return fetch(connection, model, prediction_id)
        case "NOT_FOUND":
            raise Gone("the provider knows no such request")
    _told(response)
    raise Silent("the provider does not say whether it has canceled")


def find(connection: Connection, model: str, job_id: str, since: float) -> Prediction | None:
    """fal lists no requests by webhook. Raises Unsearchable."""
    raise Unsearchable("the provider cannot be asked which requests there are")


def parse_webhook(headers: Mapping[str, str], body: bytes, now: float) -> Notice:
    """The request that a webhook tells of. Raises BadSignature before anything of the body is looked at, and Silent
    while fal's public keys cannot be had.

    A signature that does not fit may be by a new key: the keys are asked for again, at most once a minute.
    """
    signature, message = _signed(headers, body, now)
    fits = _fits(_public_keys(now), signature, message)
    if not fits and _may_ask(now):
        fits = _fits(_ask_for_keys(now), signature, message)
    if not fits:
        raise BadSignature("the signature is by none of the provider's keys")
    try:
        return _notice(json.loads(body))
    except (ValueError, RecursionError, AttributeError) as error:
        raise BadSignature("signed, but no result") from error


def _notice(document: dict[str, Any]) -> Notice:
    """Raises ValueError. After a retry `gateway_request_id` is another: `request_id` is what the queue knows it by."""
    request_id = reading.identifier(document.get("request_id"))
    payload = document.get("payload")
    match document.get("status"):
        case "OK" if isinstance(payload, dict) and not document.get("payload_error"):
            return Notice(request_id, _succeeded(request_id, payload))
        case "OK":
            return Notice(request_id, None)
        case "ERROR":
            told = payload if isinstance(payload, dict) else {}
            error, kind = document.get("error"), document.get("error_type") or told.get("error_type")
            # A webhook need not name the type of the error, and a stop that we asked for is no failure.
            if not kind and "cancel" in str(error).lower():
                return Notice(request_id, None)
            return Notice(request_id, _failed(request_id, told.get("detail") or error, kind))
    raise ValueError("no status")


def _path(model: str, request_id: str) -> str:
    owner, app = model.split("/")[:2]
    return f"/{owner}/{app}/requests/{request_id}"


def _told(response: httpx.Response) -> dict[str, Any]:
    """The object of an answer. Raises as `fetch`."""
    # A 404 that is no JSON is some proxy's, and says nothing of the request.
    if response.status_code == 404 and http.document(response) is not None:
        raise Gone("the provider knows no such request")
    if response.status_code == 404:
        raise Silent("the provider answered 404 with a page")
    http.check_answered(response, _refusal)
    document = http.document(response)
    if document is None:
        raise Silent("the provider answered with something that is no object")
    return document


def _completed(request_id: str, response: httpx.Response) -> Prediction:
    """What the result URL of a completed request says: its result, or why there is none. Raises as `fetch`."""
    document = http.document(response) or {}
    kind = _error_type(response, document)
    if kind == STILL_RUNNING:
        raise Silent("the provider does not give the result yet")
    # Some errors are about our asking, and a gateway's page is about nothing that we have asked.
    about_the_request = response.status_code not in (401, 403, 404, 408, 429) and (document.get("detail") or kind)
    if response.is_error and about_the_request:
        return _failed(request_id, document.get("detail"), kind)
    if not response.is_success:
        _told(response)
    return _succeeded(request_id, document)


def _succeeded(request_id: str, result: dict[str, Any]) -> Prediction:
    outputs = _outputs(result)
    told = not outputs and ("text" in result or "chunks" in result)
    return Prediction(request_id, "succeeded", outputs=outputs, data=result if told else None)


def _outputs(result: dict[str, Any]) -> tuple[Output, ...]:
    """The files of a result. Stems are fields of their own, told apart by their names where there are several."""
    for name in FILE_FIELDS:
        value = result.get(name)
        urls = [_url(file) for file in (value if isinstance(value, list) else [value])]
        found = [Output(url) for url in urls if url]
        if found:
            return tuple(found[: reading.MOST_OUTPUTS])
    stems = [(name, _url(file)) for name, file in result.items() if isinstance(file, dict)]
    named = [Output(url, role=str(name)) for name, url in stems if url]
    return tuple(named[: reading.MOST_OUTPUTS]) if len(named) > 1 else tuple(Output(output.url) for output in named)


def _url(file: Any) -> str | None:
    url = file.get("url") if isinstance(file, dict) else file
    return url if reading.is_url(url) else None


def _failed(request_id: str, detail: Any, error_type: Any) -> Prediction:
    if error_type == CANCELED:
        failure = Failure("provider_canceled", http.detail(detail, "The provider has stopped it."))
        return Prediction(request_id, "canceled", failure=failure)
    text = http.detail(_words(detail) or error_type, "The provider gave no reason.")
    if _is_refusal(detail, error_type, text):
        return Prediction(request_id, "failed", failure=Failure("content_refused", text))
    code = "invalid_input" if isinstance(detail, list) else "provider_failed"
    return Prediction(request_id, "failed", failure=Failure(code, text))


def _is_refusal(detail: Any, error_type: Any, text: str) -> bool:
    listed = detail if isinstance(detail, list) else []
    kinds = [entry.get("type") for entry in listed if isinstance(entry, dict)]
    return POLICY_VIOLATION in [error_type, *kinds] or reading.refused(text)


def _words(detail: Any) -> str:
    """An error's text: as it is, or `prompt: field required` of each `{"loc": ["body", "prompt"], "msg": …}`."""
    if not isinstance(detail, list):
        return str(detail or "")
    entries = [entry for entry in detail[:MOST_DETAILS] if isinstance(entry, dict)]
    told = [(_place(entry.get("loc")), str(entry.get("msg") or "")) for entry in entries]
    return "; ".join(": ".join(filter(None, words)) for words in told)


def _place(loc: Any) -> str:
    parts = loc if isinstance(loc, list) else []
    return ".".join(str(part) for part in parts if part != "body")


def _progress(logs: Any) -> int | None:
    entries = [entry for entry in logs[-MOST_LOG_LINES:] if isinstance(entry, dict)] if isinstance(logs, list) else []
    return reading.progress("\n".join(str(entry.get("message") or "") for entry in entries))


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: `detail` is a sentence, or a list with one entry per field."""
    document = http.document(response) or {}
    detail = document.get("detail")
    text = http.detail(_words(detail), f"status {response.status_code}")
    match response.status_code:
        case 401:
            return KeyRefused("the provider does not accept our key")
        case 402 | 403:
            return KeyRefused(f"the provider does not serve our account: {text}")
        case 404:
            return OperatorNeeded("the provider does not know the model")
        case 429:
            return Throttled(text, retry_after=http.retry_after(response))
    refused = _is_refusal(detail, _error_type(response, document), text)
    return ContentRefused(text) if refused else InvalidInput(text)


def _error_type(response: httpx.Response, document: dict[str, Any]) -> str:
    return str(document.get("error_type") or response.headers.get("x-fal-error-type", ""))


SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")
KEYS_LAST_S = 86_400
ASK_AGAIN_AFTER_S = 60

# fal's public keys and when this process has got them, and when it last asked for them.
_known: dict[str, tuple[float, list[bytes]]] = {}
_asked: dict[str, float] = {}


def _signed(headers: Mapping[str, str], body: bytes, now: float) -> tuple[bytes, bytes]:
    """The signature, and the message that it should be of. Raises BadSignature."""
    names = ("request-id", "user-id", "timestamp", "signature")
    request_id, user_id, timestamp, signature = (headers.get(f"x-fal-webhook-{name}", "") for name in names)
    good = request_id and user_id and signatures.TIMESTAMP.fullmatch(timestamp) and SIGNATURE.fullmatch(signature)
    if not good:
        raise BadSignature("headers are missing or malformed")
    if abs(now - int(timestamp)) > signatures.TOLERANCE_S:
        raise BadSignature("timestamp is too far from now")
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()])
    return bytes.fromhex(signature), message.encode(errors="surrogatepass")


def _fits(keys: list[bytes], signature: bytes, message: bytes) -> bool:
    # A function that only asks fal has no use for it.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            continue
        return True
    return False


def _public_keys(now: float) -> list[bytes]:
    """fal's public keys, kept for a day at most. Raises Silent."""
    known = _known.get("keys")
    if known is not None and now - known[0] < KEYS_LAST_S:
        return known[1]
    if not _may_ask(now):
        raise Silent("the provider's public keys could not be had a moment ago")
    return _ask_for_keys(now)


def _ask_for_keys(now: float) -> list[bytes]:
    """Raises Silent, and then the keys that are known stay known."""
    _asked["keys"] = now
    url = settings().fal_jwks_url
    response = http.ask(_key_server(url), "GET", url)
    listed = (http.document(response) or {}).get("keys") if response.is_success else None
    keys = [key for key in map(_public_key, listed if isinstance(listed, list) else []) if key is not None]
    if not keys:
        raise Silent("the provider does not tell its public keys")
    _known["keys"] = (now, keys)
    return keys


def _may_ask(now: float) -> bool:
    return "keys" not in _asked or now - _asked["keys"] >= ASK_AGAIN_AFTER_S


@cache
def _key_server(url: str) -> Connection:
    """Without our key: nobody needs one to read public keys."""
    return http.connect(url, {}, timeout=settings().provider_timeout)


def _public_key(jwk: Any) -> bytes | None:
    """The 32 bytes of an Ed25519 key; None for any other."""
    if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        return None
    try:
        key = base64.urlsafe_b64decode(str(jwk.get("x")) + "==")
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == 32 else None
