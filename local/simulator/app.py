"""The simulator's ASGI app: one sub-app per provider under its prefix, output files, and a window for tests.

/replicate/v1/…   Replicate; also at /v1/… for clients that were given the bare origin
/kie/api/v1/…     KIE.ai
/fal/…            fal's queue; its keys at /fal/.well-known/jwks.json
/openai/v1/…      OpenAI
/elevenlabs/v1/…  ElevenLabs
/gemini/v1beta/…  Gemini
/postiz/public/v1 Postiz
/pexels/v1/…      Pexels
/delivery/…       output files of all providers
/_sim/…           what was asked of the simulator and what it did, no key needed: see inspection.py
/_sim/callbacks/… receivers of the product's own callbacks: see receivers.py
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from local.simulator.calls import Calls
from local.simulator.delivery import RETRY_PAUSES, Courier, new_secret
from local.simulator.elevenlabs import ElevenLabs
from local.simulator.fal import Fal, FalRequest
from local.simulator.fal_signing import FalSigner, new_seed
from local.simulator.gemini import Gemini
from local.simulator.inputs import Fetcher
from local.simulator.inspection import Inspection
from local.simulator.jobs import Jobs
from local.simulator.kie import Kie
from local.simulator.kie_tasks import Task
from local.simulator.openai import OpenAI
from local.simulator.outputs import Outputs
from local.simulator.pexels import Pexels
from local.simulator.postiz import Postiz
from local.simulator.receivers import Receivers
from local.simulator.replicate import Prediction, Replicate
from local.simulator.studio import Studio
from local.simulator.workshop import Workshop

UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=50)
# KIE speaks of three attempts.
KIE_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`endpoint` is the AWS emulator's URL; `late_after` is when `webhook=late` comes, in seconds after creation."""

    endpoint: str = "http://127.0.0.1:4566"
    late_after: float = 25.0
    webhook_secret: str = field(default_factory=new_secret, repr=False)
    kie_hmac_key: str = field(default_factory=new_secret, repr=False)
    fal_seed: bytes = field(default_factory=new_seed, repr=False)
    retry_pauses: Sequence[float] = RETRY_PAUSES


def create_app(settings: Settings) -> Starlette:
    # Proxies of the environment and redirects have no place between the simulator and its receivers.
    client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None, limits=UNLIMITED)
    studio = Studio()
    outputs = Outputs(studio)
    fetcher = Fetcher(client, studio, endpoint=settings.endpoint)
    workshop = Workshop(fetcher, outputs)
    calls = Calls()

    def jobs[J: Any](provider: str, pauses: Sequence[float] = settings.retry_pauses) -> Jobs[J]:
        courier = Courier(client, endpoint=settings.endpoint, pauses=pauses)
        return Jobs(provider, courier, late_after=settings.late_after)

    predictions: Jobs[Prediction] = jobs("replicate")
    tasks: Jobs[Task] = jobs("kie", settings.retry_pauses[:KIE_RETRIES])
    requests: Jobs[FalRequest] = jobs("fal")
    signer = FalSigner(settings.fal_seed)
    secrets = {
        "replicate": settings.webhook_secret,
        "kie": settings.kie_hmac_key,
        "fal_private_seed_hex": settings.fal_seed.hex(),
        "fal_public_x": signer.x,
    }
    inspection = Inspection([predictions, tasks, requests], calls, secrets)
    postiz, pexels = Postiz(), Pexels(outputs)
    replicate = Replicate(predictions, workshop, settings.webhook_secret).app()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield
            for kind in (predictions, tasks, requests):
                await kind.close()
            studio.close()

    return Starlette(
        routes=[
            *inspection.routes,
            *Receivers().routes,
            *outputs.routes,
            *postiz.routes,
            *pexels.routes,
            Mount("/kie", Kie(tasks, workshop, outputs, settings.kie_hmac_key).app()),
            Mount("/fal", Fal(requests, workshop, signer).app()),
            Mount("/openai", OpenAI(calls, studio, outputs).app()),
            Mount("/elevenlabs", ElevenLabs(calls, studio).app()),
            Mount("/gemini", Gemini(calls, fetcher).app()),
            Mount("/postiz", postiz.app()),
            Mount("/pexels", pexels.app()),
            Mount("/replicate", replicate),
            Mount("/", replicate),
        ],
        lifespan=lifespan,
    )
