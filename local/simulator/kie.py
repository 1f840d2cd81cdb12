"""KIE.ai as its clients see it: market jobs, Veo, Suno. Its errors come as codes inside HTTP 200."""

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local.simulator import directives, orders
from local.simulator.api import Answers, Refused, application, bearer, go_wrong, is_webhook, json_object, key_of, origin
from local.simulator.directives import JOB_ABILITIES, Directives, UnknownDirective
from local.simulator.jobs import Event, Jobs
from local.simulator.kie_tasks import MarketTask, SunoTask, Task, VeoTask, envelope
from local.simulator.media import Picture
from local.simulator.orders import Order, Unfit
from local.simulator.outputs import Outputs
from local.simulator.recordings import seed_of
from local.simulator.workshop import Workshop

CREDIT = 1234.5
LONGEST_SUNO_PROMPT = 500
# How far the text and the first track of a Suno task come before its end.
SUNO_MILESTONES: tuple[tuple[float, Event], ...] = ((0.4, "text"), (0.7, "first"))
WITHDRAWN = re.compile(r"sora-2\b")
COMMON: dict[str, frozenset[str]] = {
    "outcome": frozenset({"failed", "never", "refused"}),
    "webhook": JOB_ABILITIES["webhook"],
    "create": frozenset({"429", "402", "455", "500", "502html", "refuse", "drop-after-accept", "hang"}),
    "cost": frozenset(),
}
MARKET_ABILITIES = COMMON | {"output": JOB_ABILITIES["output"]}
VEO_ABILITIES = COMMON | {"output": JOB_ABILITIES["output"], "outcome": COMMON["outcome"] | {"aborted"}}
SUNO_ABILITIES = COMMON | {
    "output": JOB_ABILITIES["output"] - {"notjson", "string-urls"},
    "outcome": COMMON["outcome"] | {"aborted", "callback-exception"},
}


def code(number: int, message: str, status: int = 200) -> Refused:
    return Refused(status, {"code": number, "msg": message, "data": None})


ANSWERS: Answers = {
    "401": lambda: Refused(401, {"code": 401, "msg": "You do not have access permissions"}),
    "402": lambda: code(402, "Credits insufficient: your current balance isn't enough to run this request."),
    "429": lambda: code(429, "Your call frequency is too high. Please try again later."),
    "455": lambda: code(455, "The service is being maintained. Please try again later."),
    "500": lambda: code(500, "Server exception, please try again later or contact customer service"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A create call that holds water; `prompt` is what the call is known by."""

    body: dict[str, Any]
    prompt: str
    directives: Directives
    order: Order
    webhook: str | None


class Kie:
    def __init__(self, jobs: Jobs[Task], workshop: Workshop, outputs: Outputs, hmac_key: str) -> None:
        self._jobs = jobs
        self._workshop = workshop
        self._outputs = outputs
        self._hmac_key = hmac_key

    def app(self) -> Starlette:
        creates = [
            ("/api/v1/jobs/createTask", self._create_market),
            ("/api/v1/veo/generate", self._create_veo),
            ("/api/v1/generate", self._create_suno),
        ]
        calls = [
            ("/api/v1/jobs/recordInfo", "GET", self._record(MarketTask)),
            ("/api/v1/veo/record-info", "GET", self._record(VeoTask)),
            ("/api/v1/generate/record-info", "GET", self._record(SunoTask)),
            ("/api/v1/chat/credit", "GET", self._credit),
            ("/api/v1/common/download-url", "POST", self._download_url),
        ]
        return application(creates, calls, prefix="kie_", key=_key, answers=ANSWERS)

    async def _create_market(self, request: Request) -> Response:
        body = await json_object(request, _invalid)
        model, given = body.get("model"), body.get("input")
        if not isinstance(model, str) or not model:
            raise code(422, "The model name cannot be empty")
        if WITHDRAWN.match(model):
            raise code(422, "The model name you specified is not supported. Please verify it.")
        if not isinstance(given, dict):
            raise code(422, "This field is required: input")
        asked = _asked(body, model, given, MARKET_ABILITIES)
        return await self._create(request, asked, lambda common: MarketTask(id=_market_id(model), **common))

    async def _create_veo(self, request: Request) -> Response:
        body = await json_object(request, _invalid)
        if not body.get("prompt"):
            raise code(422, "Please enter prompt")
        given = {name: value for name, value in body.items() if name != "callBackUrl"}
        asked = _asked(body, "veo3.1", given, VEO_ABILITIES)
        return await self._create(
            request, asked, lambda common: VeoTask(id=f"veo_task_{secrets.token_hex(8)}", **common)
        )

    async def _create_suno(self, request: Request) -> Response:
        body = await json_object(request, _invalid)
        if not body.get("callBackUrl"):
            raise code(422, "Please enter callBackUrl")
        prompt = body.get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise code(422, "Please enter prompt")
        if not body.get("customMode") and len(directives.caption(prompt)) > LONGEST_SUNO_PROMPT:
            raise code(422, f"The prompt exceeds {LONGEST_SUNO_PROMPT} characters")
        asked = _asked(body, "suno", {"prompt": prompt}, SUNO_ABILITIES, tracks=2)
        return await self._create(
            request, asked, lambda common: SunoTask(id=secrets.token_hex(16), milestones=SUNO_MILESTONES, **common)
        )

    async def _create(self, request: Request, asked: Asked, make: Callable[[dict[str, Any]], Task]) -> Response:
        key = key_of(request)
        task = make(
            {
                "key": key.fingerprint,
                "prompt": asked.prompt,
                "directives": asked.directives,
                "webhook": asked.webhook,
                "created": time.time(),
                "request": asked.body,
                "hmac_key": self._hmac_key,
                "origin": origin(request),
            }
        )
        task.work = self._work(task, asked.order)
        fault = self._jobs.create_fault(asked.webhook, asked.prompt, asked.directives, key)
        created = fault in ("ok", "drop-after-accept")
        self._jobs.log_create(key, asked.webhook, asked.prompt, fault, task if created else None)
        if created:
            await self._jobs.begin(task)
            if fault == "ok":
                return JSONResponse(envelope({"taskId": task.id}))
        return await go_wrong(request, fault, ANSWERS)

    def _work(self, task: Task, order: Order) -> Callable[[], Awaitable[None]]:
        work = self._workshop.work(task, order)
        if not isinstance(task, SunoTask):
            return work

        async def with_covers() -> None:
            for number in range(order.tracks):
                cover = Picture(order.caption, order.seed, number, 384, 384, "jpg")
                task.covers.append(self._outputs.publish(f"{task.id}/cover-{number}.jpg", cover, Directives()).path)
            await work()

        return with_covers

    def _record(self, kind: type[Task]) -> Callable[[Request], Awaitable[Response]]:
        async def record(request: Request) -> Response:
            task = self._jobs.by_id.get(request.query_params.get("taskId", ""))
            if not isinstance(task, kind):
                raise code(404, "Task not found")
            task.asked.append(time.time())
            return JSONResponse(task.record())

        return record

    async def _credit(self, _: Request) -> Response:
        return JSONResponse(envelope(CREDIT))

    async def _download_url(self, request: Request) -> Response:
        url = str((await json_object(request, _invalid)).get("url"))
        if not url.startswith(f"{origin(request)}/delivery/"):
            raise code(422, "The url is not one of ours")
        return JSONResponse(envelope(f"{url}?expires={int(time.time()) + 1200}"))


def _key(request: Request) -> str:
    if not request.headers.get("user-agent"):
        # Cloudflare, before KIE sees anything.
        raise Refused(403, "error code: 1010")
    return bearer(request)


def _invalid(description: str) -> Refused:
    return code(400, description)


def _asked(
    body: dict[str, Any], model: str, given: dict[str, Any], abilities: dict[str, frozenset[str]], *, tracks: int = 1
) -> Asked:
    webhook = body.get("callBackUrl")
    if webhook is not None and not is_webhook(webhook):
        raise code(422, "callBackUrl must be a valid HTTPS URL")
    try:
        prompt = orders.prompt_of(given)
        found = directives.find(body)
        directives.require(found, abilities, "KIE")
        order = orders.read(model, given, found, tracks=tracks)
    except (Unfit, UnknownDirective) as wrong:
        raise code(422, str(wrong)) from None
    return Asked(body, prompt or json.dumps(given), found, order, webhook)


def _market_id(model: str) -> str:
    family = re.split(r"[/.]", model)[0]
    return f"task_{family}_{time.time_ns() // 1_000_000}{seed_of(secrets.token_hex(8)) % 10_000:04d}"
