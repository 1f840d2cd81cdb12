"""The window for tests, under /_sim, no key needed.

`GET /_sim/predictions?webhook_contains=job_01` selects the jobs of Replicate, KIE and fal by a part of the webhook URL:

    {"create_count": 3, "prediction_count": 1,
     "creates": [{"provider", "key", "webhook", "prompt", "answer": "ok" | "429" | …, "job_id": null | id, "at"}],
     "predictions": [{"provider", "id", "key", "status", "webhook", "prompt", "created", "completed", "cancel_requests",
                      "asked": [at, …], "downloads": [1, 0],
                      "deliveries": [{"event", "attempt", "fault", "status_code", "error", "at"}]}]}

`GET /_sim/calls?contains=lighthouse` selects the synchronous calls (OpenAI, ElevenLabs, Gemini) by a part of the
prompt; `provider=openai` by provider:

    {"call_count": 2, "billed_count": 1,
     "calls": [{"provider", "path", "key", "model", "prompt", "outcome": "ok" | "429" | …, "billed": true, "at"}]}

Oldest first, times in Unix seconds, keys as fingerprints (keys.py). `creates` lists every create call, also those that
created nothing. `GET /_sim/secrets` has what a test needs to sign or to verify like each provider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.simulator.calls import Calls
from local.simulator.jobs import Job, Jobs


class Inspection:
    def __init__(self, jobs: Sequence[Jobs[Any]], calls: Calls, secrets: Mapping[str, str]) -> None:
        self._jobs = jobs
        self._calls = calls
        self._secrets = secrets
        self.routes = [
            Route("/_sim/predictions", self._predictions),
            Route("/_sim/calls", self._synchronous),
            Route("/_sim/secrets", self._all_secrets),
        ]

    async def _predictions(self, request: Request) -> JSONResponse:
        part = request.query_params.get("webhook_contains", "")
        creates = [create for jobs in self._jobs for create in jobs.creates if part in (create.webhook or "")]
        found = [
            _job(jobs.provider, job)
            for jobs in self._jobs
            for job in jobs.by_id.values()
            if part in (job.webhook or "")
        ]
        return JSONResponse(
            {
                "create_count": len(creates),
                "prediction_count": len(found),
                "creates": [asdict(create) for create in sorted(creates, key=lambda create: create.at)],
                "predictions": sorted(found, key=lambda job: job["created"]),
            }
        )

    async def _synchronous(self, request: Request) -> JSONResponse:
        part, provider = request.query_params.get("contains", ""), request.query_params.get("provider", "")
        found = [call for call in self._calls.log if part in call.prompt and provider in ("", call.provider)]
        return JSONResponse(
            {
                "call_count": len(found),
                "billed_count": sum(call.billed for call in found),
                "calls": [asdict(call) for call in found],
            }
        )

    async def _all_secrets(self, _: Request) -> JSONResponse:
        return JSONResponse(dict(self._secrets))


def _job(provider: str, job: Job) -> dict[str, Any]:
    return {
        "provider": provider,
        "id": job.id,
        "key": job.key,
        "status": job.status,
        "webhook": job.webhook,
        "prompt": job.prompt,
        "created": job.created,
        "completed": job.completed,
        "cancel_requests": job.cancel_requests,
        "asked": job.asked,
        "downloads": [output.downloads for output in job.outputs],
        "deliveries": [asdict(attempt) for attempt in job.mailbox.log],
    }
