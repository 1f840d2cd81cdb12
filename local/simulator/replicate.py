"""Replicate's HTTP API as its clients see it: predictions, their webhooks, and its way of saying no."""

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local.simulator import directives, orders
from local.simulator.api import (
    Answers,
    Refused,
    application,
    bearer,
    go_wrong,
    is_webhook,
    json_object,
    key_of,
    origin,
)
from local.simulator.delivery import Webhook, standard_signers
from local.simulator.directives import JOB_ABILITIES, Directives, UnknownDirective
from local.simulator.jobs import Event, Job, Jobs
from local.simulator.orders import Order, Unfit
from local.simulator.workshop import Workshop

ABILITIES = JOB_ABILITIES | {
    "webhook": JOB_ABILITIES["webhook"] | {"rotated"},
    "output": JOB_ABILITIES["output"] - {"notjson"},
    "cost": frozenset(),
}
EVENTS = ("start", "output", "logs", "completed")
EVENTS_WITHOUT_FILTER = frozenset({"output", "completed"})
# These answer with one URL; all others with a list, however short.
SINGLE_OUTPUT_MODELS = {"flux-1.1-pro", "flux-1.1-pro-ultra", "ideogram-v3-turbo"}
PAGE = 100
LONGEST_WAIT = 60
WAIT = re.compile(r"(?:^|[,;\s])wait(?:=(\d{1,4}))?(?:$|[,;\s])")
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
OFFICIAL = re.compile(r"([\w.-]+/[\w.-]+)")
VERSIONED = re.compile(r"(?:([\w.-]+/[\w.-]+):)?([0-9a-f]{64})")


def refused(status: int, title: str, detail: str, **more: object) -> Refused:
    return Refused(status, {"title": title, "detail": detail, "status": status, **more})


def invalid(name: str, description: str, kind: str = "invalid") -> Refused:
    """422 in the shape Replicate gives when the input does not fit the model's schema."""
    fields = [{"type": kind, "field": name, "description": description}]
    return refused(422, "Input validation failed", f"- {name}: {description}\n", invalid_fields=fields)


def _throttled(headers: dict[str, str] | None = None) -> Refused:
    return Refused(429, {"detail": "Request was throttled. Your rate limit resets in ~1s."}, headers)


ANSWERS: Answers = {
    "401": lambda: refused(401, "Unauthenticated", "You did not pass a valid authentication token"),
    "402": lambda: refused(402, "Insufficient credit", "You have insufficient credit to run this model."),
    "429": lambda: _throttled({"retry-after": "1"}),
    "429bare": _throttled,
    "500": lambda: refused(500, "Internal server error", "Internal server error"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a prediction runs: `version` is `hidden` for official models."""

    model: str
    version: str
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class CreateBody:
    input: dict[str, Any]
    prompt: str
    directives: Directives
    order: Order
    webhook: str | None
    events: list[str] | None


@dataclass(kw_only=True, eq=False)
class Prediction(Job):
    """`base` is the API root the creator used, which the prediction's own URLs repeat; `origin` is where files are."""

    target: Target
    input: dict[str, Any]
    events: list[str] | None
    base: str
    origin: str
    secret: str

    def notice(self, event: Event) -> Webhook | None:
        wanted = EVENTS_WITHOUT_FILTER if self.events is None else self.events
        if self.webhook is None or event not in wanted:
            return None
        signer, forger = standard_signers(self.secret)
        return Webhook(self.webhook, event, json.dumps(self.body()).encode(), signer, forger)

    def body(self) -> dict[str, Any]:
        """The prediction object, as GET and the webhooks give it."""
        body: dict[str, Any] = {
            "id": self.id,
            "model": self.target.model,
            "version": self.target.version,
            "input": self.input,
            "output": self._output(),
            "error": self.error,
            "logs": self._logs(),
            "status": self.status,
            "source": "api",
            "data_removed": False,
            "created_at": _timestamp(self.created),
            "started_at": _timestamp(self.started),
            "completed_at": _timestamp(self.completed),
            "metrics": self._metrics(),
            "urls": {
                "get": f"{self.base}/predictions/{self.id}",
                "cancel": f"{self.base}/predictions/{self.id}/cancel",
                "web": f"https://replicate.com/p/{self.id}",
            },
        }
        optional = {
            "deadline": _timestamp(self.deadline),
            "deployment": self.target.deployment,
            "webhook": self.webhook,
            "webhook_events_filter": self.events,
        }
        return body | {name: value for name, value in optional.items() if value is not None}

    def _output(self) -> object:
        """One URL or several, or by kind an object; as the directive says, something else or nothing."""
        if not self.output_ready or self.made is None or self.directives.output == "empty":
            return None
        if self.directives.output == "nourls":
            return []
        urls = [f"{self.origin}/delivery/{output.path}" for output in self.outputs]
        if self.made.transcript is not None:
            return self.made.transcript.whisper()
        if self.made.kind == "stems":
            return dict(zip(self.made.files, urls, strict=True))
        single = self.target.model.partition("/")[2] in SINGLE_OUTPUT_MODELS and "num_outputs" not in self.input
        if self.made.kind != "image" or self.directives.output == "string-urls":
            single = True
        return urls[0] if single else urls

    def _logs(self) -> str:
        """A progress bar as models print it, once the model runs."""
        if self.started is None:
            return ""
        return f"{self.progress:3d}%|{'█' * (self.progress // 10):10s}|\n"

    def _metrics(self) -> dict[str, float]:
        if self.completed is None:
            return {}
        metrics = {"total_time": round(self.completed - self.created, 6)}
        if self.started is not None:
            metrics["predict_time"] = round(self.completed - self.started, 6)
        if self.directives.cost is not None:
            metrics["predict_time"] = self.directives.cost
        return metrics


class Replicate:
    def __init__(self, jobs: Jobs[Prediction], workshop: Workshop, secret: str) -> None:
        self._jobs = jobs
        self._workshop = workshop
        self._secret = secret

    def app(self) -> Starlette:
        creates = [
            ("/v1/predictions", self._create_by_version),
            ("/v1/models/{owner}/{name}/predictions", self._create_by_model),
            ("/v1/deployments/{owner}/{name}/predictions", self._create_by_deployment),
        ]
        calls = [
            ("/v1/predictions", "GET", self._list),
            ("/v1/predictions/{id}", "GET", self._get),
            ("/v1/predictions/{id}/cancel", "POST", self._cancel),
            ("/v1/webhooks/default/secret", "GET", self._webhook_secret),
        ]
        return application(creates, calls, prefix="r8_", key=bearer, answers=ANSWERS)

    async def _create_by_version(self, request: Request) -> Response:
        return await self._create(request, None)

    async def _create_by_model(self, request: Request) -> Response:
        return await self._create(request, Target("{owner}/{name}".format(**request.path_params), "hidden"))

    async def _create_by_deployment(self, request: Request) -> Response:
        name = "{owner}/{name}".format(**request.path_params)
        return await self._create(request, Target(name, hashlib.sha256(name.encode()).hexdigest(), deployment=name))

    async def _get(self, request: Request) -> Response:
        prediction = self._find(request)
        prediction.asked.append(time.time())
        return JSONResponse(prediction.body())

    async def _cancel(self, request: Request) -> Response:
        prediction = self._find(request)
        self._jobs.cancel(prediction)
        return JSONResponse(prediction.body())

    async def _webhook_secret(self, _: Request) -> Response:
        return JSONResponse({"key": self._secret})

    async def _list(self, request: Request) -> Response:
        """Newest first. The cursor names the last prediction shown, so what is created meanwhile shifts nothing."""
        query = dict(request.query_params)
        after = _moment(query, "created_after", 0.0)
        before = _moment(query, "created_before", float("inf"))
        newest_first = reversed(self._jobs.by_id.values())
        if "cursor" in query:
            last_shown = _read_cursor(query["cursor"])
            for prediction in newest_first:
                if prediction.id == last_shown:
                    break
        shown = (prediction for prediction in newest_first if after <= prediction.created < before)
        page = list(islice(shown, PAGE))
        following = None
        if next(shown, None) is not None:
            following = f"{_base(request)}/predictions?{urlencode(query | {'cursor': _cursor(page[-1].id)})}"
        return JSONResponse({"next": following, "previous": None, "results": [item.body() for item in page]})

    async def _create(self, request: Request, target: Target | None) -> Response:
        body = await json_object(request, lambda description: invalid("body", description))
        target = target or _target(body)
        asked = _create_body(body, target.model)
        now = time.time_ns() // 1_000_000 / 1_000
        deadline = _deadline(request, now)
        key = key_of(request)
        prediction = Prediction(
            id=_new_id(),
            key=key.fingerprint,
            prompt=asked.prompt,
            directives=asked.directives,
            webhook=asked.webhook,
            created=now,
            deadline=deadline,
            target=target,
            input=asked.input,
            events=asked.events,
            base=_base(request),
            origin=origin(request),
            secret=self._secret,
        )
        prediction.work = self._workshop.work(prediction, asked.order)

        fault = self._jobs.create_fault(asked.webhook, asked.prompt, asked.directives, key)
        created = fault in ("ok", "drop-after-accept")
        self._jobs.log_create(key, asked.webhook, asked.prompt, fault, prediction if created else None)
        if created:
            answer = prediction.body()
            await self._jobs.begin(prediction)
            if fault == "ok":
                return JSONResponse(await _waited(request, prediction, answer), status_code=201)
        return await go_wrong(request, fault, ANSWERS)

    def _find(self, request: Request) -> Prediction:
        prediction = self._jobs.by_id.get(request.path_params["id"])
        if prediction is None:
            raise refused(404, "Not found", "The requested resource could not be found.")
        return prediction


async def _waited(request: Request, prediction: Prediction, at_once: dict[str, Any]) -> dict[str, Any]:
    """The answer to a create: as at creation, or with `Prefer: wait=N` as it is when it ends or the wait does."""
    preference = WAIT.search(request.headers.get("prefer", ""))
    if preference is None:
        return at_once
    seconds = min(int(preference[1] or LONGEST_WAIT), LONGEST_WAIT)
    await prediction.wait(seconds)
    return prediction.body()


def _target(body: dict[str, Any]) -> Target:
    version = body.get("version")
    if version is None:
        raise invalid("version", "version is required", "required")
    if isinstance(version, str) and (match := VERSIONED.fullmatch(version)):
        return Target(match[1] or "simulated/model", match[2])
    if isinstance(version, str) and OFFICIAL.fullmatch(version):
        return Target(version, "hidden")
    detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
    raise refused(422, "Invalid version or not permitted", detail)


def _create_body(body: dict[str, Any], model: str) -> CreateBody:
    given = body.get("input")
    if given is None:
        raise invalid("input", "input is required", "required")
    if not isinstance(given, dict):
        raise invalid("input", "input must be an object")
    try:
        prompt = orders.prompt_of(given)
        found = directives.find(body)
        directives.require(found, ABILITIES, "Replicate")
        order = orders.read(model, given, found)
    except Unfit as unfit:
        raise invalid(f"input.{unfit.field}", str(unfit)) from None
    except UnknownDirective as unknown:
        raise invalid("input.prompt", str(unknown)) from None
    webhook = body.get("webhook")
    if webhook is not None and not is_webhook(webhook):
        raise invalid("webhook", "webhook must be a valid HTTPS URL")
    return CreateBody(given, prompt, found, order, webhook, _events(body))


def _events(body: dict[str, Any]) -> list[str] | None:
    events = body.get("webhook_events_filter")
    if events is not None and not (isinstance(events, list) and all(event in EVENTS for event in events)):
        raise invalid("webhook_events_filter", f"webhook_events_filter must be a list of {', '.join(EVENTS)}")
    return events


def _deadline(request: Request, now: float) -> float | None:
    given = request.headers.get("cancel-after")
    if given is None:
        return None
    match = DURATION.fullmatch(given.strip())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= 24 * 3600:
        raise invalid("Cancel-After", "Cancel-After must be a duration such as 15s, 10m or 2h")
    return now + total


def _new_id() -> str:
    """26 lower-case base32 characters, as many as 16 bytes need."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def _base(request: Request) -> str:
    """The API root this request was sent to: the app is mounted in two places."""
    return f"{origin(request)}{request.scope['root_path']}/v1"


def _timestamp(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(query: dict[str, str], name: str, default: float) -> float:
    if name not in query:
        return default
    try:
        moment = datetime.fromisoformat(query[name])
    except ValueError:
        raise invalid(name, f"{name} must be an ISO 8601 date-time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _cursor(last_shown: str) -> str:
    return base64.urlsafe_b64encode(f"p={last_shown}".encode()).decode()


def _read_cursor(cursor: str) -> str:
    try:
        kind, _, last_shown = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition("=")
    except ValueError:
        kind = ""
    if kind != "p":
        raise invalid("cursor", "cursor is not one of ours")
    return last_shown
