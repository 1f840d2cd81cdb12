"""Replicate: predictions over HTTP, webhooks by Standard Webhooks. Wire format: replicate.com/docs, HTTP reference."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from shared.core import secrets
from shared.core.clock import iso
from shared.core.settings import settings
from shared.providers import http, keys, reading, signatures
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
RESET_IN = re.compile(r"resets in ~?(\d+)\s*s")
VERSION = re.compile(r"(.+:)?[0-9a-f]{64}")
PAGES_TO_SEARCH = 10
RECENT_PAGES = 100


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process."""
    headers = {"authorization": f"Bearer {key}"}
    return http.connect(settings().base_urls["replicate"], headers, timeout=settings().provider_timeout)


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
    http.check_created(response, _refusal)
    try:
        return parse(http.document(response) or {})
    except ValueError as error:
        raise Ambiguous(f"the provider answered {response.status_code} with something that is no prediction") from error


def fetch(connection: Connection, model: str, prediction_id: str) -> Prediction:
    """The prediction as it is. Raises Gone, Silent, Throttled or Permanent."""
    return _told(http.ask(connection, "GET", f"/predictions/{prediction_id}"))


def cancel(connection: Connection, model: str, prediction_id: str) -> Prediction:
    """Ask to stop it; the answer tells what has become of it so far. Raises as `fetch`."""
    return _told(http.ask(connection, "POST", f"/predictions/{prediction_id}/cancel"))


def find(connection: Connection, model: str, job_id: str, since: float) -> Prediction | None:
    """The oldest prediction since `since` (epoch seconds) whose webhook carries the job's id, if there is one.

    Raises as `fetch`.
    """
    found: Prediction | None = None
    for result in _listed(connection, since, pages=PAGES_TO_SEARCH):
        if _job_of(result.get("webhook")) == job_id:
            found = _readable(result)
    return found


def recent(connection: Connection, since: float) -> Iterator[Prediction]:
    """Every prediction since `since` (epoch seconds), the newest first. Raises as `fetch`."""
    for result in _listed(connection, since, pages=RECENT_PAGES):
        yield _readable(result)


def _listed(connection: Connection, since: float, *, pages: int) -> Iterator[dict[str, Any]]:
    """What Replicate lists, the newest first, 100 a page."""
    params = httpx.QueryParams(created_after=iso(since))
    for _ in range(pages):
        response = http.ask(connection, "GET", "/predictions", params=params)
        http.check_answered(response, _refusal)
        document = http.document(response)
        if document is None:
            raise Silent("the provider answered with something that is no list")
        listed = document.get("results")
        results = [result for result in listed if isinstance(result, dict)] if isinstance(listed, list) else []
        yield from results
        following = document.get("next")
        if not following or not results or _before(results[-1].get("created_at"), since):
            return
        # The address of the next page is Replicate's; only its query is used, so the key goes nowhere else.
        params = httpx.QueryParams(urlsplit(str(following)).query)
    raise Silent(f"more than {pages} pages of predictions since {iso(since)}")


def parse_webhook(headers: Mapping[str, str], body: bytes, now: float) -> Notice:
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
        prediction = parse(json.loads(body))
    except (ValueError, RecursionError, AttributeError) as error:
        raise BadSignature("signed, but no prediction") from error
    return Notice(prediction.id, prediction)


def parse(document: dict[str, Any]) -> Prediction:
    """A prediction object. Raises ValueError for what is none."""
    status = STATUSES.get(str(document.get("status")))
    if status is None:
        raise ValueError("no prediction")
    output = document.get("output") if status == "succeeded" else None
    outputs = _outputs(output)
    return Prediction(
        id=reading.identifier(document.get("id")),
        status=status,
        outputs=outputs,
        failure=_failure(str(document.get("status")), document.get("error")),
        progress=reading.progress(document.get("logs")) if status == "processing" else None,
        data=None if outputs else output or None,
        webhook=document.get("webhook") if isinstance(document.get("webhook"), str) else None,
    )


def _outputs(output: Any) -> tuple[Output, ...]:
    """Models answer a URL, a list of URLs, or an object whose URLs are told apart by their names."""
    if isinstance(output, dict):
        found = [Output(url, role=str(name)) for name, url in output.items() if reading.is_url(url)]
    else:
        listed = output if isinstance(output, list) else [output]
        found = [Output(url) for url in listed if reading.is_url(url)]
    return tuple(found[: reading.MOST_OUTPUTS])


def _failure(status: str, error: Any) -> Failure | None:
    detail = http.detail(error)
    match status:
        case "failed" if reading.refused(detail):
            return Failure("content_refused", detail)
        case "failed":
            return Failure("provider_failed", detail or "The provider gave no reason.")
        case "canceled":
            return Failure("provider_canceled", detail or "The provider has stopped it.")
        case "aborted":
            return Failure("provider_canceled", detail or "The provider has not started it in time.")
    return None


def _told(response: httpx.Response) -> Prediction:
    # A 404 that is no JSON is some proxy's, and says nothing of the prediction.
    if response.status_code == 404 and http.document(response) is not None:
        raise Gone("the provider knows no such prediction")
    if response.status_code == 404:
        raise Silent("the provider answered 404 with a page")
    http.check_answered(response, _refusal)
    document = http.document(response) or {}
    if document.get("status") == "succeeded" and document.get("data_removed") is True and not document.get("output"):
        raise Gone("the provider has removed what it had made")
    return _readable(document)


def _readable(document: dict[str, Any]) -> Prediction:
    try:
        return parse(document)
    except ValueError as error:
        raise Silent("the provider answered with something that is no prediction") from error


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: `{"detail": "…"}`, often with `title` and `status`."""
    document = http.document(response) or {}
    detail = http.detail(document.get("detail") or document.get("title"), f"status {response.status_code}")
    match response.status_code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 402:
            return KeyRefused("our account at the provider has no funds")
        case 429:
            return Throttled(detail, retry_after=_retry_after(response, detail))
        case 404:
            return OperatorNeeded("the provider does not know the model")
    return ContentRefused(detail) if reading.refused(detail) else InvalidInput(detail)


def _retry_after(response: httpx.Response, detail: str) -> float | None:
    told = RESET_IN.search(detail)
    return http.retry_after(response) or (float(told.group(1)) if told else None)


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
    configured = secrets.document(settings().secret_name("replicate")).get("webhook_secret")
    if configured:
        return str(configured)
    if "replicate" not in _secret:
        _secret["replicate"] = (_told_webhook_secret(), datetime.now().timestamp())
    return _secret["replicate"][0]


def _told_webhook_secret() -> str:
    """Replicate's own signing secret. Raises as `fetch`, Throttled only when every key is."""
    throttled = Throttled("every key of the provider is throttled")
    for key in keys.rested("replicate"):
        response = http.ask(connection(key), "GET", "/webhooks/default/secret")
        try:
            http.check_answered(response, _refusal)
        except Throttled as error:
            keys.rest(key, error.retry_after)
            throttled = error
            continue
        secret = (http.document(response) or {}).get("key")
        if not isinstance(secret, str) or not secret:
            raise Silent("the provider does not tell its signing secret")
        return secret
    raise throttled


def _forget_webhook_secret(now: float) -> bool:
    """Whether the kept secret was old enough to be worth another question, and is forgotten."""
    known = _secret.get("replicate")
    if known is None or now - known[1] < ASK_AGAIN_AFTER_S:
        return False
    del _secret["replicate"]
    return True
