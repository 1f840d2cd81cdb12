"""The progress that a caller sees while a job runs, whether or not its provider tells any."""

from collections.abc import Callable

from shared.jobs.view import STORING_PROGRESS
from tests.support import TERMINAL, Json, Studio, job_rows, sweep

TELLS = {"kling-3.0": True, "fal-kling-video": True, "veo-3.1-fast": False}
"""Models, and whether their provider says how far they are: KIE's market does, fal in its log, KIE's Veo does not."""


def test_progress_only_grows_and_ends_at_100_with_the_job(new_studio: Callable[..., Studio]) -> None:
    studio = new_studio(1000)
    sweep(studio.stack)
    studio.run("[sim]", kind="videos", model="minimax-video")  # All functions have begun, and none misses the rise.
    ids = {model: studio.create("a boat [sim delay=8]", kind="videos", model=model)["id"] for model in TELLS}
    seen: dict[str, list[Json]] = {model: [] for model in TELLS}

    while not all(seen[model] and seen[model][-1]["status"] in TERMINAL for model in TELLS):
        sweep(studio.stack)
        for model, job_id in ids.items():
            seen[model].append(studio.job(job_id))

    told = {row["model"]: int(row.get("progress", 0)) for row in job_rows(studio.stack, studio.account)}
    for model, jobs in seen.items():
        shown = [job["progress"] for job in jobs]
        running = [job["progress"] for job in jobs if job["status"] == "processing"]
        assert shown == sorted(shown), model
        assert len(set(running)) >= 3, f"{model}: {running}"
        assert all((job["progress"] == 100) == (job["status"] == "succeeded") for job in jobs), model
        assert shown[-1] == 100, jobs[-1]
        assert (told[model] > 0) is TELLS[model], told
        assert max(running) >= min(told[model], STORING_PROGRESS - 1)
