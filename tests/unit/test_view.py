"""What a caller sees of a job: progress that only grows, and gets to the end only with the job."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs import view
from shared.jobs.status import TERMINAL, UNFINISHED, Status
from shared.providers.outcomes import Failure
from tests.unit.helpers import job

AFTER = st.floats(-1000, 1e7)
TOLD = st.integers(0, 100)


@given(
    st.lists(st.tuples(AFTER, TOLD), min_size=2, max_size=20), st.sampled_from(["flux-schnell", "kling-3.0", "gone"])
)
def test_the_progress_of_a_job_never_goes_back(seen: list[tuple[float, int]], model: str) -> None:
    times = sorted(after for after, _ in seen)
    told = sorted(told for _, told in seen)

    shown = [
        view.progress(job(model=model, status="processing", progress=progress), 1000.0 + after)
        for after, progress in zip(times, told, strict=True)
    ]

    assert all(earlier <= later for earlier, later in pairwise(shown))


@given(AFTER, TOLD)
def test_a_job_under_way_is_never_as_far_as_one_that_is_stored(after: float, told: int) -> None:
    shown = view.progress(job(status="processing", progress=told), 1000.0 + after)

    assert 0 <= shown < view.STORING_PROGRESS == 95
    assert shown >= min(told, 94)


@pytest.mark.parametrize("status", [*UNFINISHED, "failed", "canceled", "timed_out"])
@given(after=AFTER, told=st.integers(0, 99))
def test_only_a_job_that_has_succeeded_is_at_100(status: Status, after: float, told: int) -> None:
    assert view.progress(job(status=status, progress=told), 1000.0 + after) < 100


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [
        ("queued", 0, 0),
        ("submitting", 0, 0),
        ("storing", 0, 95),
        ("storing", 100, 95),
        ("succeeded", 0, 100),
        ("failed", 40, 40),
        ("canceled", 0, 0),
        ("timed_out", 94, 94),
    ],
)
def test_every_other_status_has_its_place(status: Status, told: int, expected: int) -> None:
    assert view.progress(job(status=status, progress=told), 1e6) == expected


@pytest.mark.parametrize(
    ("model", "after", "told", "expected"),
    [
        ("flux-schnell", 0, 0, 0),
        ("flux-schnell", 4, 0, 57),
        ("flux-schnell", 4, 30, 57),
        ("flux-schnell", 4, 80, 80),
        ("flux-schnell", 600, 0, 90),
        ("flux-schnell", 600, 100, 94),
        ("kling-3.0", 4, 0, 1),
        ("kling-3.0", 300, 0, 57),
        ("a model that is gone", 60, 0, 57),
    ],
)
def test_without_news_progress_is_estimated_from_how_long_it_usually_takes(
    model: str, after: float, told: int, expected: int
) -> None:
    assert view.progress(job(model=model, status="processing", progress=told), 1000.0 + after) == expected


def test_where_time_is_scaled_the_estimate_is(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TIME_SCALE", "0.1")

    assert view.progress(job(status="processing"), 1000.4) == 57


@pytest.mark.parametrize("status", sorted(UNFINISHED | TERMINAL))
def test_every_job_has_a_view(status: Status) -> None:
    error = Failure("provider_failed", "x") if status == "failed" else None

    shown = view.JobView.of(job(status=status, error=error, progress=7, charged=2)).model_dump()

    assert (shown["status"], shown["credits"]) == (status, {"held": 3, "charged": 2})
    assert shown["error"] == (vars(error) if error else None)
    assert "provider" not in shown
