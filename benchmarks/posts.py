"""How long a request takes that starts a generation, and how many of them are taken a second."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import httpx

from benchmarks.report import Row
from local.cloud import SIMULATOR_KEY, Stack
from tests.support import Json, Studio

ADDED_S = 0.3
TURNS = 15
CLIENTS = 16
POSTS_EACH = 10
GRANT = 1_000


def warm_post(stack: Stack) -> Row:
    """`POST /v1/portraits` against the create call at the simulated provider that it makes, in turns, medians."""
    studio = Studio(stack, "bench-post")
    studio.grant(GRANT)
    for _ in range(3):
        studio.run("[sim]", kind="portraits")
    path = f"{stack.simulator_url}/replicate/v1/models/black-forest-labs/flux-dev/predictions"
    body = {"input": {"prompt": "[sim delay=60]", "aspect_ratio": "3:4", "num_outputs": 1}}
    jobs, ours, theirs = [], [], []
    with httpx.Client(headers={"authorization": f"Bearer {SIMULATOR_KEY}"}, trust_env=False) as provider:
        for _ in range(TURNS):
            theirs.append(_timed(lambda: provider.post(path, json=body).raise_for_status())[0])
            took, job = _timed(lambda: studio.create("[sim delay=3]", kind="portraits"))
            ours.append(took)
            jobs.append(job)
    _finish(studio, jobs)
    added = median(ours) - median(theirs)
    return Row(
        "warm POST, beyond the provider's own time",
        f"{added * 1000:.0f} ms ({median(ours) * 1000:.0f} ms, {median(ours) / median(theirs):.1f} × the provider's)",
        f"< {ADDED_S * 1000:.0f} ms",
        added < ADDED_S,
    )


def accepted_per_second(stack: Stack) -> Row:
    """Jobs that are held, created at the provider and answered, asked for by clients of their own accounts."""
    studios = [Studio(stack, f"bench-client-{number}") for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda studio: studio.grant(GRANT), studios))
        list(pool.map(lambda studio: studio.run("[sim]"), studios))
        took, jobs = _timed(lambda: list(pool.map(_posts, studios)))
    for studio, its_jobs in zip(studios, jobs, strict=True):
        _finish(studio, its_jobs)
    return Row(f"jobs accepted, {CLIENTS} clients", f"{CLIENTS * POSTS_EACH / took:.0f} a second")


def _posts(studio: Studio) -> list[Json]:
    return [studio.create("[sim delay=5]") for _ in range(POSTS_EACH)]


def _finish(studio: Studio, jobs: list[Json]) -> None:
    """Wait until all have succeeded: a number that was measured on failures would be none."""
    for job in jobs:
        ended = studio.wait(job["id"], timeout=180)
        assert ended["status"] == "succeeded", ended
    studio.check_invariants()
    studio.close()


def _timed[T](call: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result
