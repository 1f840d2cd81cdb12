"""Replicate: predictions over HTTP, webhooks by Standard Webhooks. Wire format: replicate.com/docs, HTTP reference."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from shared.core import secrets
from shared.core.clock import iso
from shared.core.errors import Unavailable
from shared.core.log import logger
from shared.core.settings import settings
from shared.providers import http, signatures
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    ContentRefused,
    Failure,
    Gone,
    InvalidInput,
    OperatorNeeded,
    Prediction,
    ProviderError,
    Silent,
    Status,
    Submission,
    Throttled,
)
from shared.providers.signatures import BadSignature

# `aborted` (the deadline came before the start) is missing in some of Replicate's own type lists, and is terminal.
STATUSES: dict[str, Status] = {
    "starting": "starting",
    "processing": "processing",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
    "aborted": "canceled",
}
# Replicate has no code for a refusal: the text of the error is all there is.
REFUSAL = re.compile(r"\b(nsfw|safety|content policy|flagged|sensitive)\b", re.IGNORECASE)
RESET_IN = re.compile(r"resets in ~?(\d+)\s*s")
VERSION = re.compile(r"(.+:)?[0-9a-f]{64}")
PAGES_TO_SEARCH = 10
MOST_OUTPUTS = 16
LONGEST_URL = 2048
LONGEST_DETAIL = 500
LONGEST_RUN_S = 10**7


def connection() -> Connection:
    """The connection with the first of the configured keys. Raises Unavailable while there is none."""
    keys = secrets.document(settings().replicate_secret).get("api_keys")
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
        logger.error("secret names no api_keys", secret=settings().replicate_secret)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return _connection(keys[0])


@cache
def _connection(key: str) -> Connection:
    return http.connect(
        settings().replicate_base_url, {"authorization": f"Bearer {key}"}, timeout=settings().provider_timeout
    )


def submit(connection: Connection, submission: Submission) -> Prediction:
    """Create a prediction. Raises Permanent, NothingCreated or Ambiguous."""
    body: dict[str, Any] = {
        "input": submission.input,
        "webhook": submission.webhook,
        "webhook_events_filter": ["start", "completed"],
    }
    path = f"/models/{submission.model}/predictions"
    if VERSION.fullmatch(submission.model):
        path, body["version"] = "/predictions", submission.model
    response = http.create(connection, path, body)
    if response.status_code >= 500 or response.status_code == 408:
        raise Ambiguous(f"the provider answered {response.status_code}")
    if response.status_code >= 400:
        raise _refusal(response)
    document = http.document(response)
    if response.status_code not in (200, 201, 202) or document is None:
        raise Ambiguous(f"the provider answered {response.status_code} with something that is no prediction")
    try:
        return parse(document)
    except ValueError as error:
        raise Ambiguous("the provider answered with something that is no prediction") from error


def fetch(connection: Connection, prediction_id: str) -> Prediction:
    """The prediction as it is. Raises Gone, Silent, Throttled or Permanent."""
    return _told(http.ask(connection, "GET", f"/predictions/{prediction_id}"))


def cancel(connection: Connection, prediction_id: str) -> Prediction:
    """Ask to stop it; the answer tells what has become of it so far. Raises as `fetch`."""
    return _told(http.ask(connection, "POST", f"/predictions/{prediction_id}/cancel"))


def find(connection: Connection, job_id: str, since: float) -> Prediction | None:
    """The oldest prediction since `since` (epoch seconds) whose webhook carries the job's id, if there is one.

    Raises as `fetch`. Replicate lists the newest first, 100 a page.
    """
    params = httpx.QueryParams(created_after=iso(since))
    found: Prediction | None = None
    for _ in range(PAGES_TO_SEARCH):
        response = http.ask(connection, "GET", "/predictions", params=params)
        document = http.document(response)
        if response.status_code != 200 or document is None:
            raise _unanswered(response)
        results = [result for result in document.get("results") or [] if isinstance(result, dict)]
        for result in results:
            if _job_of(result.get("webhook")) == job_id:
                found = _readable(result)
        following = document.get("next")
        if not following or not results or _before(results[-1].get("created_at"), since):
            return found
        # The address of the next page is Replicate's; only its query is used, so the key goes nowhere else.
        params = httpx.QueryParams(urlsplit(str(following)).query)
    raise Silent(f"more than {PAGES_TO_SEARCH} pages of predictions since the job was created")


def parse_webhook(headers: Mapping[str, str], body: bytes, now: float) -> Prediction:
    """The prediction that a webhook tells of. Raises BadSignature before anything of the body is looked at.

    A secret that does not fit may have been rotated at Replicate: it is asked for again, at most once a minute.
    """
    try:
        signatures.verify(_webhook_secret(), headers, body, now)
    except BadSignature:
        if not _forget_webhook_secret(now):
            raise
        signatures.verify(_webhook_secret(), headers, body, now)
    try:
        document = json.loads(body)
        return parse(document)
    except (ValueError, RecursionError, AttributeError) as error:
        raise BadSignature("signed, but no prediction") from error


def parse(document: dict[str, Any]) -> Prediction:
    """A prediction object. Raises ValueError for what is none."""
    prediction_id, status = document.get("id"), STATUSES.get(str(document.get("status")))
    if not isinstance(prediction_id, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", prediction_id) or status is None:
        raise ValueError("no prediction")
    metrics = document.get("metrics")
    seconds = metrics.get("predict_time") if isinstance(metrics, dict) else None
    return Prediction(
        id=prediction_id,
        status=status,
        outputs=_urls(document.get("output")) if status == "succeeded" else (),
        failure=_failure(str(document.get("status")), document.get("error")),
        seconds=float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < LONGEST_RUN_S else None,
        webhook=document.get("webhook") if isinstance(document.get("webhook"), str) else None,
    )


def _urls(output: Any) -> tuple[str, ...]:
    """Models answer a URL, a list of URLs, or an object of them."""
    if isinstance(output, str):
        output = [output]
    elif isinstance(output, dict):
        output = list(output.values())
    if not isinstance(output, list):
        return ()
    urls = [url for url in output if isinstance(url, str) and url.startswith("http") and len(url) <= LONGEST_URL]
    return tuple(urls[:MOST_OUTPUTS])


def _failure(status: str, error: Any) -> Failure | None:
    detail = str(error)[:LONGEST_DETAIL] if error else ""
    match status:
        case "failed" if REFUSAL.search(detail):
            return Failure("content_refused", detail)
        case "failed":
            return Failure("provider_failed", detail or "The provider gave no reason.")
        case "canceled":
            return Failure("provider_canceled", detail or "The provider has stopped it.")
        case "aborted":
            return Failure("provider_canceled", detail or "The provider has not started it in time.")
    return None


def _told(response: httpx.Response) -> Prediction:
    if response.status_code == 404:
        raise Gone("the provider knows no such prediction")
    document = http.document(response)
    if not response.is_success or document is None:
        raise _unanswered(response)
    return _readable(document)


def _readable(document: dict[str, Any]) -> Prediction:
    try:
        return parse(document)
    except ValueError as error:
        raise Silent("the provider answered with something that is no prediction") from error


def _unanswered(response: httpx.Response) -> ProviderError:
    """A question that was refused; a 4xx is told as it is, everything else may be asked again."""
    if 400 <= response.status_code < 500 and response.status_code != 408:
        return _refusal(response)
    return Silent(f"the provider answered {response.status_code}")


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: `{"detail": "…"}`, often with `title` and `status`."""
    document = http.document(response) or {}
    detail = str(document.get("detail") or document.get("title") or f"status {response.status_code}")[:LONGEST_DETAIL]
    match response.status_code:
        case 401 | 403:
            return OperatorNeeded("the provider does not accept our key")
        case 402:
            return OperatorNeeded("our account at the provider has no funds")
        case 429:
            return Throttled(detail, retry_after=_retry_after(response, detail))
        case 404:
            return OperatorNeeded("the provider does not know the model")
    return ContentRefused(detail) if REFUSAL.search(detail) else InvalidInput(detail)


def _retry_after(response: httpx.Response, detail: str) -> float | None:
    header = response.headers.get("retry-after", "")
    if header.isascii() and header.isdigit():
        return float(header)
    told = RESET_IN.search(detail)
    return float(told.group(1)) if told else None


def _job_of(webhook: Any) -> str | None:
    if not isinstance(webhook, str):
        return None
    return next(iter(parse_qs(urlsplit(webhook).query).get("job", [])), None)


def _before(created_at: Any, since: float) -> bool:
    try:
        return datetime.fromisoformat(str(created_at)).timestamp() < since
    except ValueError:
        return False


# The signing secret: configured, or Replicate's own (one per account, from its endpoint) and then kept by this process.
_secret: dict[str, tuple[str, float]] = {}
ASK_AGAIN_AFTER_S = 60


def _webhook_secret() -> str:
    configured = secrets.document(settings().replicate_secret).get("webhook_secret")
    if configured:
        return str(configured)
    if "replicate" not in _secret:
        response = http.ask(connection(), "GET", "/webhooks/default/secret")
        document = http.document(response) or {}
        key = document.get("key")
        if response.status_code != 200 or not isinstance(key, str) or not key:
            raise _unanswered(response)
        _secret["replicate"] = (key, datetime.now().timestamp())
    return _secret["replicate"][0]


def _forget_webhook_secret(now: float) -> bool:
    """Whether the kept secret was old enough to be worth another question, and is forgotten."""
    known = _secret.get("replicate")
    if known is None or now - known[1] < ASK_AGAIN_AFTER_S:
        return False
    del _secret["replicate"]
    return True
