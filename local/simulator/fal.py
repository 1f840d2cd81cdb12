"""fal's queue as its clients see it: submit, status, result, cancel, and webhooks signed with Ed25519."""

import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from local.simulator import directives, orders
from local.simulator.api import Answers, Refused, application, bearer, go_wrong, is_webhook, json_object, key_of, origin
from local.simulator.delivery import Webhook
from local.simulator.directives import JOB_ABILITIES, UnknownDirective
from local.simulator.fal_signing import FalSigner, new_seed
from local.simulator.jobs import TERMINAL, Event, Failure, Job, Jobs
from local.simulator.media import Picture
from local.simulator.orders import Order, Unfit
from local.simulator.recordings import Film, Recipe
from local.simulator.workshop import Workshop

ABILITIES = JOB_ABILITIES | {
    "output": JOB_ABILITIES["output"] - {"string-urls"},
    "gateway": frozenset({"new"}),
    "cost": frozenset(),
}
STEPS = 28
PAYLOAD_ERROR = (
    "Response payload is not JSON serializable. Either return a JSON serializable object or use the queue endpoint."
)


def refused(status: int, detail: object, error_type: str, headers: dict[str, str] | None = None) -> Refused:
    return Refused(
        status, {"detail": detail, "error_type": error_type}, {"x-fal-error-type": error_type} | (headers or {})
    )


def invalid(field: str, message: str, kind: str = "value_error") -> Refused:
    return refused(422, [{"loc": ["body", field], "msg": message, "type": kind}], kind)


def _throttled(headers: dict[str, str] | None = None) -> Refused:
    return refused(429, "Too many requests. Please try again later.", "rate_limited", headers)


ANSWERS: Answers = {
    "401": lambda: refused(401, "Cannot access application. Authentication is required.", "unauthorized"),
    "402": lambda: refused(403, "User is locked. Reason: Exhausted balance. Top up your balance.", "forbidden"),
    "429": lambda: _throttled({"retry-after": "1"}),
    "429bare": _throttled,
    "500": lambda: refused(500, "Internal Server Error", "internal_server_error"),
}


@dataclass(kw_only=True, eq=False)
class FalRequest(Job):
    """`base` is where its own URLs are: the sub-path of the app is not part of them."""

    input: dict[str, Any]
    order: Order
    base: str
    origin: str
    signer: FalSigner
    gateway_id: str

    @property
    def urls(self) -> dict[str, str]:
        return {
            "response_url": self.base,
            "status_url": f"{self.base}/status",
            "cancel_url": f"{self.base}/cancel",
        }

    def accepted(self) -> dict[str, Any]:
        ids = {"request_id": self.id, "gateway_request_id": self.id}
        return ids | {"status": "IN_QUEUE", "queue_position": 0} | self.urls

    def state(self, *, logs: bool) -> dict[str, Any]:
        """Three statuses are all there are: what failed is COMPLETED too."""
        shown = {"request_id": self.id} | self.urls
        if self.status == "starting":
            return {"status": "IN_QUEUE", "queue_position": 0} | shown
        lines = {"logs": self._logs()} if logs else {}
        if self.status == "processing":
            return {"status": "IN_PROGRESS"} | lines | shown
        body = {"status": "COMPLETED"} | lines | {"metrics": {"inference_time": self.inference_time}} | shown
        trouble = self.trouble
        if trouble is not None and self.status != "succeeded" and not isinstance(trouble.body["detail"], list):
            body |= {"error": trouble.body["detail"], "error_type": trouble.body["error_type"]}
        return body

    @property
    def inference_time(self) -> float:
        if self.directives.cost is not None:
            return self.directives.cost
        return round((self.completed or 0) - (self.started or self.completed or 0), 3)

    @property
    def trouble(self) -> "Trouble | None":
        """The answer of the result URL when there is no result."""
        match self.status:
            case "succeeded":
                return None
            case "canceled":
                return Trouble(499, "Request was cancelled by the client", "client_cancelled")
            case "aborted":
                return Trouble(504, "Request timed out before it started", "startup_timeout")
        failure = self.failure or Failure("failed", "")
        if failure.kind == "refused":
            return Trouble(
                422, _detail("prompt", failure.message, "content_policy_violation"), "content_policy_violation"
            )
        if failure.kind == "input":
            return Trouble(422, _detail(failure.field, failure.message, "file_download_error"), "file_download_error")
        return Trouble(500, "Runner disconnected", "runner_disconnected")

    def result(self) -> dict[str, Any]:
        """The model's output object."""
        if self.made is None or self.directives.output == "empty":
            return {}
        named = zip(self.made.files.items(), self.outputs, strict=True)
        files = {name: self._file(recipe, output.path) for (name, recipe), output in named}
        listed = [] if self.directives.output == "nourls" else list(files.values())
        first = listed[0] if listed else None
        seed = self.order.seed
        match self.made.kind:
            case "image":
                checked = [False] * len(listed)
                more = {
                    "timings": {},
                    "seed": seed,
                    "has_nsfw_concepts": checked,
                    "prompt": self.input.get("prompt", ""),
                }
                return {"images": listed} | more
            case "video" | "character-video":
                return {"video": first, "seed": seed}
            case "speech" | "music":
                return {"audio": first, "seed": seed, "duration_ms": round(self.made.seconds * 1000)}
            case "stems":
                return files if listed else {}
            case "transcription":
                assert self.made.transcript is not None
                return self.made.transcript.chunks()

    def notice(self, event: Event) -> Webhook | None:
        if event != "completed" or self.webhook is None:
            return None
        ids = {"request_id": self.id, "gateway_request_id": self.gateway_id}
        body: dict[str, Any] = ids | {"status": "OK", "payload": self.result() if self.status == "succeeded" else None}
        trouble = self.trouble
        if trouble is not None:
            error = trouble.body["detail"] if isinstance(trouble.body["detail"], str) else "Invalid status code: 422"
            body |= {"status": "ERROR", "error": error, "payload": {"detail": trouble.body["detail"]}}
        elif self.directives.output == "notjson":
            body |= {"payload": None, "payload_error": PAYLOAD_ERROR}
        sign, forge = self.signer.signer(self.id), FalSigner(new_seed()).signer(self.id)
        return Webhook(self.webhook, event, json.dumps(body).encode(), sign, forge)

    def _file(self, recipe: Recipe, path: str) -> dict[str, Any]:
        file: dict[str, Any] = {
            "url": f"{self.origin}/delivery/{path}",
            "content_type": recipe.content_type,
            "file_name": path.rpartition("/")[2],
            "file_size": None,
        }
        if isinstance(recipe, Picture):
            file |= {"width": recipe.width, "height": recipe.height}
        if isinstance(recipe, Film):
            file |= {"width": recipe.width, "height": recipe.height, "duration": recipe.seconds}
        return file

    def _logs(self) -> list[dict[str, str]]:
        """One line at a time, the step the model is at."""
        at = datetime.fromtimestamp(self.completed or time.time(), UTC).isoformat(timespec="milliseconds")
        step = self.progress * STEPS // 100
        return [{"timestamp": at, "level": "INFO", "message": f"step {step}/{STEPS}", "source": "USER"}]


@dataclass(frozen=True, slots=True)
class Trouble:
    status: int
    detail: object
    error_type: str

    @property
    def body(self) -> dict[str, Any]:
        return {"detail": self.detail, "error_type": self.error_type}


def _detail(field: str, message: str, kind: str) -> list[dict[str, Any]]:
    return [{"loc": ["body", field], "msg": message, "type": kind}]


class Fal:
    def __init__(self, jobs: Jobs[FalRequest], workshop: Workshop, signer: FalSigner) -> None:
        self._jobs = jobs
        self._workshop = workshop
        self._signer = signer

    def app(self) -> Starlette:
        request = "/{owner}/{name}/requests/{id}"
        calls = [
            (request, "GET", self._result),
            (f"{request}/status", "GET", self._status),
            (f"{request}/cancel", "PUT", self._cancel),
        ]
        queue = application(
            [("/{app:path}", self._submit)],
            calls,
            prefix="fal_",
            key=lambda asked: bearer(asked, "key"),
            answers=ANSWERS,
        )
        return Starlette(routes=[Route("/.well-known/jwks.json", self._jwks), Mount("/", queue)])

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse(self._signer.jwks)

    async def _submit(self, request: Request) -> Response:
        app = request.path_params["app"].strip("/")
        if app.count("/") < 1:
            raise refused(404, f"Application '{app}' not found", "not_found")
        given = await json_object(request, lambda description: invalid("body", description))
        webhook = request.query_params.get("fal_webhook")
        if webhook is not None and not is_webhook(webhook):
            raise invalid("fal_webhook", "fal_webhook must be a valid HTTPS URL")
        try:
            prompt = orders.prompt_of(given)
            found = directives.find(given)
            directives.require(found, ABILITIES, "fal")
            order = orders.read(app, given, found)
        except Unfit as unfit:
            raise invalid(unfit.field, str(unfit)) from None
        except UnknownDirective as unknown:
            raise invalid("prompt", str(unknown)) from None
        key, identity = key_of(request), str(uuid.uuid4())
        owner, name = app.split("/")[:2]
        job = FalRequest(
            id=identity,
            key=key.fingerprint,
            prompt=prompt or json.dumps(given),
            directives=found,
            webhook=webhook,
            created=time.time(),
            input=given,
            order=order,
            base=f"{origin(request)}{request.scope['root_path']}/{owner}/{name}/requests/{identity}",
            origin=origin(request),
            signer=self._signer,
            gateway_id=str(uuid.uuid4()) if found.gateway == "new" else identity,
        )
        job.work = self._workshop.work(job, order)
        fault = self._jobs.create_fault(webhook, job.prompt, found, key)
        created = fault in ("ok", "drop-after-accept")
        self._jobs.log_create(key, webhook, job.prompt, fault, job if created else None)
        if created:
            await self._jobs.begin(job)
            if fault == "ok":
                return JSONResponse(job.accepted(), headers={"x-fal-request-id": job.id})
        return await go_wrong(request, fault, ANSWERS)

    async def _status(self, request: Request) -> Response:
        job = self._find(request)
        job.asked.append(time.time())
        logs = request.query_params.get("logs", "0") in ("1", "true")
        return JSONResponse(job.state(logs=logs), status_code=200 if job.status in TERMINAL else 202)

    async def _result(self, request: Request) -> Response:
        job = self._find(request)
        if job.status not in TERMINAL:
            raise refused(400, "Request is still in progress", "request_in_progress")
        trouble = job.trouble
        if trouble is not None:
            raise refused(trouble.status, trouble.detail, trouble.error_type)
        if job.directives.output == "notjson":
            return PlainTextResponse("not JSON serializable")
        headers = {"x-fal-request-id": job.gateway_id}
        if job.directives.cost is not None:
            headers["x-fal-billable-units"] = f"{job.directives.cost:g}"
        return JSONResponse(job.result(), headers=headers)

    async def _cancel(self, request: Request) -> Response:
        job = self._jobs.by_id.get(request.path_params["id"])
        if job is None:
            return JSONResponse({"status": "NOT_FOUND"}, status_code=404)
        if job.status in TERMINAL:
            return JSONResponse({"status": "ALREADY_COMPLETED"}, status_code=400)
        queued = job.status == "starting" and job.directives.cancel == "ok"
        self._jobs.cancel(job)
        if queued:
            return JSONResponse({"status": "OK"})
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, status_code=202)

    def _find(self, request: Request) -> FalRequest:
        job = self._jobs.by_id.get(request.path_params["id"])
        if job is None:
            raise refused(404, "Request not found", "not_found")
        return job
