"""The simulator's ASGI app: one sub-app per provider under its prefix, output files, and a window for tests.

    /replicate/v1/…   Replicate; also at /v1/… for clients that were given the bare origin
    /delivery/…       output files of all providers
    /_sim/predictions what was asked of the simulator and what it did, no key needed:

`GET /_sim/predictions?webhook_contains=job_01` selects by a part of the webhook URL and answers

    {"create_count": 3, "prediction_count": 1,
     "creates": [{"webhook", "prompt", "answer": "ok" | "429" | …, "job_id": null | id, "at"}],
     "predictions": [{"id", "status", "webhook", "prompt", "created", "completed", "cancel_requests",
                      "downloads": [1, 0],
                      "deliveries": [{"event", "attempt", "fault", "status_code", "error", "at"}]}]}

oldest first, times in Unix seconds. `creates` lists every create call, also those that created nothing.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from local.simulator.delivery import RETRY_PAUSES, Courier, new_secret
from local.simulator.jobs import Job, Jobs
from local.simulator.outputs import Outputs
from local.simulator.replicate import Prediction, Replicate

UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=50)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`endpoint` is the AWS emulator's URL; `late_after` is when `webhook=late` comes, in seconds after creation."""

    endpoint: str = "http://127.0.0.1:4566"
    late_after: float = 25.0
    webhook_secret: str = field(default_factory=new_secret, repr=False)
    retry_pauses: Sequence[float] = RETRY_PAUSES


def create_app(settings: Settings) -> Starlette:
    # Proxies of the environment and redirects have no place between the simulator and its receivers.
    client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None, limits=UNLIMITED)
    courier = Courier(client, endpoint=settings.endpoint, pauses=settings.retry_pauses)
    outputs = Outputs()
    predictions = Jobs[Prediction](courier, late_after=settings.late_after)
    replicate = Replicate(predictions, outputs, settings.webhook_secret).app()

    async def inspect(request: Request) -> JSONResponse:
        return JSONResponse(_inspect(predictions, request.query_params.get("webhook_contains", "")))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield
            await predictions.close()

    return Starlette(
        routes=[
            Route("/_sim/predictions", inspect),
            *outputs.routes,
            Mount("/replicate", replicate),
            Mount("/", replicate),
        ],
        lifespan=lifespan,
    )


def _inspect[J: Job](jobs: Jobs[J], webhook_contains: str) -> dict[str, Any]:
    creates = [asdict(create) for create in jobs.creates if webhook_contains in (create.webhook or "")]
    found = [_job(job) for job in jobs.by_id.values() if webhook_contains in (job.webhook or "")]
    return {
        "create_count": len(creates),
        "prediction_count": len(found),
        "creates": creates,
        "predictions": found,
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "webhook": job.webhook,
        "prompt": job.prompt,
        "created": job.created,
        "completed": job.completed,
        "cancel_requests": job.cancel_requests,
        "downloads": [output.downloads for output in job.outputs],
        "deliveries": [asdict(attempt) for attempt in job.mailbox.log],
    }
