"""Replicate's HTTP API as its clients see it: predictions, their webhooks, and its way of saying no."""

import base64
import functools
import hashlib
import ipaddress
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast, get_args
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local.simulator import directives
from local.simulator.delivery import Webhook, standard_signers
from local.simulator.directives import Directives, Fault, UnknownDirective
from local.simulator.jobs import Event, Job, Jobs
from local.simulator.media import ImageFormat, Picture, frame
from local.simulator.outputs import Output, Outputs
from local.simulator.server import drop, until_disconnected

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
BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class Refused(Exception):
    """A request that gets an error answer and leaves no trace."""

    def __init__(self, status: int, title: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"title": title, "detail": detail, "status": status, **more}


def invalid(name: str, description: str, kind: str = "invalid") -> Refused:
    """422 in the shape Replicate gives when the input does not fit the model's schema."""
    fields = [{"type": kind, "field": name, "description": description}]
    return Refused(422, "Input validation failed", f"- {name}: {description}\n", invalid_fields=fields)


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
            "logs": "",
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

    def _output(self) -> list[str] | str | None:
        if not self.output_ready:
            return None
        urls = [f"{self.origin}/delivery/{output.path}" for output in self.outputs]
        single = self.target.model.partition("/")[2] in SINGLE_OUTPUT_MODELS and "num_outputs" not in self.input
        return urls[0] if single else urls

    def _metrics(self) -> dict[str, float]:
        if self.completed is None:
            return {}
        metrics = {"total_time": round(self.completed - self.created, 6)}
        if self.started is not None:
            metrics["predict_time"] = round(self.completed - self.started, 6)
        return metrics


class Replicate:
    def __init__(self, jobs: Jobs[Prediction], outputs: Outputs, secret: str) -> None:
        self._jobs = jobs
        self._outputs = outputs
        self._secret = secret

    def app(self) -> Starlette:
        calls = [
            ("/v1/predictions", "POST", self._create_by_version),
            ("/v1/predictions", "GET", self._list),
            ("/v1/models/{owner}/{name}/predictions", "POST", self._create_by_model),
            ("/v1/deployments/{owner}/{name}/predictions", "POST", self._create_by_deployment),
            ("/v1/predictions/{id}", "GET", self._get),
            ("/v1/predictions/{id}/cancel", "POST", self._cancel),
            ("/v1/webhooks/default/secret", "GET", self._webhook_secret),
        ]
        routes = [Route(path, _with_token(call), methods=[method]) for path, method, call in calls]
        return Starlette(routes=routes, exception_handlers={Refused: _refuse})

    async def _create_by_version(self, request: Request) -> Response:
        return await self._create(request, None)

    async def _create_by_model(self, request: Request) -> Response:
        return await self._create(request, Target("{owner}/{name}".format(**request.path_params), "hidden"))

    async def _create_by_deployment(self, request: Request) -> Response:
        name = "{owner}/{name}".format(**request.path_params)
        return await self._create(request, Target(name, hashlib.sha256(name.encode()).hexdigest(), deployment=name))

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._find(request).body())

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
        body = await _json_object(request)
        target = target or _target(body)
        asked = _create_body(body)
        now = time.time_ns() // 1_000_000 / 1_000
        deadline = _deadline(request, now)
        prediction = Prediction(
            id=_new_id(),
            prompt=asked.prompt,
            directives=asked.directives,
            webhook=asked.webhook,
            created=now,
            deadline=deadline,
            target=target,
            input=asked.input,
            events=asked.events,
            base=_base(request),
            origin=_origin(request),
            secret=self._secret,
        )
        pictures = _pictures(asked)

        fault = self._jobs.create_fault(asked.webhook, asked.prompt, asked.directives)
        created = fault in ("ok", "drop-after-accept")
        self._jobs.log_create(asked.webhook, asked.prompt, fault, prediction if created else None)
        if created:
            prediction.outputs = [self._publish(prediction, picture) for picture in pictures]
            answer = prediction.body()
            await self._jobs.begin(prediction)
            if fault == "ok":
                return JSONResponse(await _waited(request, prediction, answer), status_code=201)
        return await _fail(request, fault)

    def _publish(self, prediction: Prediction, picture: Picture) -> Output:
        path = f"{prediction.id}/out-{picture.index}.{picture.format}"
        return self._outputs.publish(path, picture, Fault(prediction.directives.output, prediction.directives.times))

    def _find(self, request: Request) -> Prediction:
        prediction = self._jobs.by_id.get(request.path_params["id"])
        if prediction is None:
            raise Refused(404, "Not found", "The requested resource could not be found.")
        return prediction


def _with_token(call: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    @functools.wraps(call)
    async def checked(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused(401, "Unauthenticated", "You did not pass an authentication token")
        if not token.startswith("r8_"):
            raise Refused(401, "Unauthenticated", "You did not pass a valid authentication token")
        return await call(request)

    return checked


async def _refuse(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return JSONResponse(refused.body, status_code=refused.status)


async def _fail(request: Request, fault: str) -> Response:
    match fault:
        case "429":
            detail = "Request was throttled. Your rate limit resets in ~1s."
            return JSONResponse({"detail": detail}, status_code=429, headers={"retry-after": "1"})
        case "500":
            body = {"title": "Internal server error", "detail": "Internal server error", "status": 500}
            return JSONResponse(body, status_code=500)
        case "502html":
            return HTMLResponse(BAD_GATEWAY, status_code=502)
        case "hang":
            await until_disconnected(request)
        case _:
            await drop(request)
    return Response()


async def _waited(request: Request, prediction: Prediction, at_once: dict[str, Any]) -> dict[str, Any]:
    """The answer to a create: as at creation, or with `Prefer: wait=N` as it is when it ends or the wait does."""
    preference = WAIT.search(request.headers.get("prefer", ""))
    if preference is None:
        return at_once
    seconds = min(int(preference[1] or LONGEST_WAIT), LONGEST_WAIT)
    await prediction.wait(seconds)
    return prediction.body()


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise invalid("body", "the request body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid("body", "the request body is not a JSON object")
    return body


def _target(body: dict[str, Any]) -> Target:
    version = body.get("version")
    if version is None:
        raise invalid("version", "version is required", "required")
    if isinstance(version, str) and (match := VERSIONED.fullmatch(version)):
        return Target(match[1] or "simulated/model", match[2])
    if isinstance(version, str) and OFFICIAL.fullmatch(version):
        return Target(version, "hidden")
    detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
    raise Refused(422, "Invalid version or not permitted", detail)


def _create_body(body: dict[str, Any]) -> CreateBody:
    given = body.get("input")
    if given is None:
        raise invalid("input", "input is required", "required")
    if not isinstance(given, dict):
        raise invalid("input", "input must be an object")
    prompt = given.get("prompt", "")
    if not isinstance(prompt, str):
        raise invalid("input.prompt", "prompt must be a string")
    try:
        found = directives.parse(prompt)
    except UnknownDirective as unknown:
        raise invalid("input.prompt", str(unknown)) from None
    return CreateBody(given, prompt, found, _webhook(body), _events(body))


def _webhook(body: dict[str, Any]) -> str | None:
    webhook = body.get("webhook")
    if webhook is None:
        return None
    try:
        url = httpx.URL(webhook)
    except (httpx.InvalidURL, TypeError):
        raise invalid("webhook", "webhook must be a valid HTTPS URL") from None
    if not url.host or (url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host))):
        raise invalid("webhook", "webhook must be a valid HTTPS URL")
    return str(webhook)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _events(body: dict[str, Any]) -> list[str] | None:
    events = body.get("webhook_events_filter")
    if events is not None and not (isinstance(events, list) and all(event in EVENTS for event in events)):
        raise invalid("webhook_events_filter", f"webhook_events_filter must be a list of {', '.join(EVENTS)}")
    return events


def _pictures(asked: CreateBody) -> list[Picture]:
    given = asked.input
    count = given.get("num_outputs", 1)
    if type(count) is not int or not 1 <= count <= 4:
        raise invalid("input.num_outputs", "num_outputs must be a whole number from 1 to 4")
    picture_format = given.get("output_format", "png")
    # Models name JPEG in both ways.
    picture_format = "jpg" if picture_format == "jpeg" else picture_format
    if picture_format not in get_args(ImageFormat):
        raise invalid("input.output_format", "output_format must be one of png, webp, jpg")
    seed = given.get("seed")
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(asked.prompt.encode()).digest()[:4])
    if type(seed) is not int:
        raise invalid("input.seed", "seed must be a whole number")
    width, height = _size(given)
    caption = directives.caption(asked.prompt)
    kind = cast(ImageFormat, picture_format)
    return [Picture(caption, seed, index, width, height, kind) for index in range(count)]


def _size(given: dict[str, Any]) -> tuple[int, int]:
    if "width" in given or "height" in given:
        width, height = given.get("width"), given.get("height")
        if type(width) is int and type(height) is int and 16 <= min(width, height) <= max(width, height) <= 2048:
            return width, height
        raise invalid("input.width", "width and height must be whole numbers from 16 to 2048")
    aspect_ratio = given.get("aspect_ratio", "1:1")
    if aspect_ratio == "match_input_image":
        aspect_ratio = "1:1"
    try:
        return frame(aspect_ratio)
    except (ValueError, AttributeError):
        raise invalid("input.aspect_ratio", "aspect_ratio must be a ratio such as 16:9") from None


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


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _base(request: Request) -> str:
    """The API root this request was sent to: the app is mounted in two places."""
    return f"{_origin(request)}{request.scope['root_path']}/v1"


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
