"""KIE.ai: market jobs, Veo and Suno, each with its own calls. Wire format: docs.kie.ai; PROVIDERS §2.

`model` is a family and a name, `market:kling-3.0/video`. Errors come as a code in the envelope, mostly inside HTTP 200.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import httpx

from shared.core import secrets
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
    ModelGone,
    Notice,
    OperatorNeeded,
    Output,
    Prediction,
    ProviderError,
    Silent,
    Status,
    Submission,
    Throttled,
    Unsearchable,
)
from shared.providers.signatures import BadSignature

# What KIE sells its credits for; its answers name credits only.
CREDIT_USD = 0.005

CREATE = {"market": "/api/v1/jobs/createTask", "veo": "/api/v1/veo/generate", "suno": "/api/v1/generate"}
RECORD = {
    "market": "/api/v1/jobs/recordInfo",
    "veo": "/api/v1/veo/record-info",
    "suno": "/api/v1/generate/record-info",
}
MARKET_STATES: dict[str, Status] = {
    "waiting": "processing",
    "queuing": "processing",
    "generating": "processing",
    "success": "succeeded",
    "fail": "failed",
}
# 3 is a failure further up, at Google.
VEO_FLAGS: dict[float | None, Status] = {0: "processing", 1: "succeeded", 2: "failed", 3: "failed"}
SUNO_STATUSES: dict[str, Status] = {
    "PENDING": "processing",
    "TEXT_SUCCESS": "processing",
    "FIRST_SUCCESS": "processing",
    "SUCCESS": "succeeded",
    "CREATE_TASK_FAILED": "failed",
    "GENERATE_AUDIO_FAILED": "failed",
    "CALLBACK_EXCEPTION": "processing",
    "SENSITIVE_WORD_ERROR": "failed",
}


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process."""
    headers = {"authorization": f"Bearer {key}"}
    return http.connect(settings().base_urls["kie"], headers, timeout=settings().provider_timeout)


def submit(connection: Connection, submission: Submission) -> Prediction:
    """Create a task. Raises Permanent, NothingCreated or Ambiguous."""
    family, name = _family(submission.model)
    body: dict[str, Any] = {"model": name, "callBackUrl": submission.webhook}
    body = body | {"input": submission.input} if family == "market" else submission.input | body
    response = http.create(connection, CREATE[family], body)
    refusal = partial(_refusal, Ambiguous)
    http.check_created(response, refusal)
    if _code(response) != 200:
        raise refusal(response)
    data = (http.document(response) or {}).get("data")
    try:
        task_id = reading.identifier(data.get("taskId") if isinstance(data, dict) else None)
    except ValueError as error:
        raise Ambiguous("the provider has accepted the task, and names none") from error
    return Prediction(task_id, "starting")


def fetch(connection: Connection, model: str, prediction_id: str) -> Prediction:
    """The task as it is. Raises Gone, Silent, Throttled or Permanent."""
    family, _ = _family(model)
    response = http.ask(connection, "GET", RECORD[family], params={"taskId": prediction_id})
    envelope = http.document(response) or {}
    # A 404 without an envelope is some proxy's, and says nothing of the task.
    if reading.number(envelope.get("code")) == 404:
        raise Gone("the provider knows no such task")
    refusal = partial(_refusal, Silent)
    http.check_answered(response, refusal)
    code, data = _code(response), envelope.get("data")
    if isinstance(data, dict):
        # The record of a failed task comes in an envelope that says so, too: what counts is the record.
        prediction = READERS[family](prediction_id, data, envelope.get("msg") if code != 200 else None)
        if prediction is not None and data.get("taskId") in (None, prediction_id):
            return prediction
    elif code == 200 and data is None:
        # Seen right after a create: the record is not written yet.
        raise Silent("the provider has no record of the task")
    if code == 501:
        return Prediction(prediction_id, "failed", failure=_failure(envelope.get("msg")))
    raise refusal(response)


def _family(model: str) -> tuple[str, str]:
    family, _, name = model.partition(":")
    if family not in CREATE:
        raise ModelGone(f"{model} is of no known family")
    return family, name


def cancel(connection: Connection, model: str, prediction_id: str) -> None:
    """KIE has no way to stop a task."""


def find(connection: Connection, model: str, job_id: str, since: float) -> Prediction | None:
    """KIE lists no tasks. Raises Unsearchable."""
    raise Unsearchable("the provider cannot be asked which tasks there are")


def parse_webhook(headers: Mapping[str, str], body: bytes, now: float) -> Notice:
    """The task that a callback is about. What it says of the task is not signed, so it is not looked at.

    Raises BadSignature, and Silent while no signing key is configured.
    """
    secret = secrets.document(settings().secret_name("kie")).get("webhook_secret")
    if not isinstance(secret, str) or not secret:
        raise Silent("no signing key is configured")
    timestamp = headers.get("x-webhook-timestamp", "")
    if not signatures.TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("headers are missing or malformed")
    if abs(now - int(timestamp)) > signatures.TOLERANCE_S:
        raise BadSignature("timestamp is too far from now")
    task_id = _task_of(body)
    expected = hmac.digest(secret.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    try:
        offered = base64.b64decode(headers.get("x-webhook-signature", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature("the signature is not base64") from error
    if not hmac.compare_digest(expected, offered):
        raise BadSignature("the signature does not match")
    return Notice(task_id, None)


def _task_of(body: bytes) -> str:
    """The id that the signature covers. Raises BadSignature; nothing else of the body is read."""
    try:
        document = json.loads(body)
        data = document.get("data")
        places = [data, document] if isinstance(data, dict) else [document]
        named = [place[name] for place in places for name in ("taskId", "task_id") if place.get(name)]
        return reading.identifier(named[0] if named else None)
    except (ValueError, RecursionError, AttributeError) as error:
        raise BadSignature("the body names no task") from error


def _market(task_id: str, data: dict[str, Any], message: Any) -> Prediction | None:
    """Readers make a prediction of a record; None of what is none. `message` is that of an envelope that says no."""
    result = reading.loads(data.get("resultJson"))
    return _prediction(
        task_id,
        data,
        MARKET_STATES.get(str(data.get("state"))),
        outputs=_files(result) if isinstance(result, dict) else (),
        failure=_failure(data.get("failMsg") or message, data.get("failCode")),
    )


def _files(result: dict[str, Any]) -> tuple[Output, ...]:
    """`resultUrls` (a list, or a string), or an object whose URLs are told apart by their names."""
    urls = reading.urls(result.get("resultUrls"))
    named = result.get("resultObject")
    if urls or not isinstance(named, dict):
        return tuple(map(Output, urls))
    found = [Output(url, role=str(name)) for name, url in named.items() if reading.is_url(url)]
    return tuple(found[: reading.MOST_OUTPUTS])


def _veo(task_id: str, data: dict[str, Any], message: Any) -> Prediction | None:
    # A record says `response`, a callback of the same task `info`.
    told = [reading.loads(data.get(name)) for name in ("response", "info")]
    urls = reading.urls([part.get("resultUrls") for part in told if isinstance(part, dict)])
    return _prediction(
        task_id,
        data,
        VEO_FLAGS.get(reading.number(data.get("successFlag"))),
        outputs=tuple(map(Output, urls)),
        failure=_failure(data.get("errorMessage"), data.get("errorCode")),
    )


def _suno(task_id: str, data: dict[str, Any], message: Any) -> Prediction | None:
    told = str(data.get("status"))
    response = reading.loads(data.get("response"))
    listed = response.get("sunoData") if isinstance(response, dict) else None
    tracks = [track for track in listed if isinstance(track, dict)] if isinstance(listed, list) else []
    urls = [track["audioUrl"] for track in tracks if reading.is_url(track.get("audioUrl"))]
    failure = _failure(data.get("errorMessage"), data.get("errorCode"))
    if told == "SENSITIVE_WORD_ERROR":
        failure = Failure("content_refused", failure.detail)
    # What went wrong is the delivery of a callback: the music is there, or may come yet.
    delivered = told == "CALLBACK_EXCEPTION" and urls
    return _prediction(
        task_id,
        data,
        "succeeded" if delivered else SUNO_STATUSES.get(told),
        outputs=tuple(Output(url) for url in urls[: reading.MOST_OUTPUTS]),
        failure=failure,
    )


READERS: dict[str, Callable[[str, dict[str, Any], Any], Prediction | None]] = {
    "market": _market,
    "veo": _veo,
    "suno": _suno,
}


def _prediction(
    task_id: str, data: dict[str, Any], status: Status | None, *, outputs: tuple[Output, ...], failure: Failure
) -> Prediction | None:
    """Of `outputs` and `failure`, what goes with the status."""
    if status is None:
        return None
    credits = reading.number(data.get("creditsConsumed"))
    return Prediction(
        task_id,
        status,
        outputs=outputs if status == "succeeded" else (),
        failure=failure if status == "failed" else None,
        progress=reading.percent(data.get("progress")) if status == "processing" else None,
        cost_usd=None if credits is None else round(credits * CREDIT_USD, 6),
    )


def _failure(message: Any, code: Any = None) -> Failure:
    detail = http.detail(message, f"The provider gave no reason but code {code}." if code else "")
    if reading.refused(detail):
        return Failure("content_refused", detail)
    return Failure("provider_failed", http.detail(detail, "The provider gave no reason."))


def _code(response: httpx.Response) -> int | None:
    """The code in the envelope, or a status that is an error; None where neither tells."""
    told = reading.number((http.document(response) or {}).get("code"))
    if told is not None and (told != 200 or response.is_success):
        return int(told)
    return None if response.is_success else response.status_code


def _refusal(unclear: type[ProviderError], response: httpx.Response) -> ProviderError:
    """The error that an answer's code stands for; `unclear` for what may mean anything: 408, 500, and the unknown."""
    code = _code(response)
    detail = http.detail((http.document(response) or {}).get("msg"), f"code {code}")
    match code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 402:
            return KeyRefused("our account at the provider has no funds")
        case 404:
            return OperatorNeeded("the provider does not know the model")
        case 433:
            return KeyRefused("the key has used up what it may")
        case 505:
            return OperatorNeeded(f"the provider does not let us use this: {detail}")
        case 429 | 455:
            return Throttled(detail, retry_after=http.retry_after(response))
        case 400 | 422 | 531:
            return ContentRefused(detail) if reading.refused(detail) else InvalidInput(detail)
    return unclear(f"the provider answered {response.status_code}, code {code}")
