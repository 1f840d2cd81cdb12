"""The decisions of a generation: what a result means, and when patience ends.

The job of these tests was accepted at 1000, has its deadline at 1600 and is abandoned at 2200.
"""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs import decide
from shared.jobs.steps import Step, fail
from shared.providers.outcomes import Failure, Prediction
from tests.unit.helpers import job

URL = ("https://replicate.delivery/x/out.png",)
REFUSED = Failure("content_refused", "NSFW content detected.")
STOPPED = Failure("provider_canceled", "The provider has stopped it.")
EARLY, LATE, VERY_LATE = 1100.0, 1600.0, 2200.0


@pytest.mark.parametrize(
    ("result", "cancel_requested_at", "stopped_at", "expected"),
    [
        (Prediction("p", "succeeded", URL), None, None, Step("store")),
        (Prediction("p", "succeeded", URL), 1050.0, None, Step("store")),
        (Prediction("p", "succeeded", URL), None, LATE, Step("store")),
        (Prediction("p", "succeeded"), None, None, ("failed", "bad_output")),
        (Prediction("p", "failed", failure=REFUSED), None, None, ("failed", "content_refused")),
        (Prediction("p", "failed", failure=REFUSED), 1050.0, LATE, ("failed", "content_refused")),
        (Prediction("p", "failed"), None, None, ("failed", "provider_failed")),
        (Prediction("p", "canceled", failure=STOPPED), None, None, ("canceled", "provider_canceled")),
        (Prediction("p", "canceled"), None, None, ("canceled", "provider_failed")),
        (Prediction("p", "canceled", failure=STOPPED), 1050.0, None, ("canceled", "canceled")),
        (Prediction("p", "canceled", failure=STOPPED), 1050.0, LATE, ("canceled", "canceled")),
        (Prediction("p", "canceled", failure=STOPPED), None, LATE, ("timed_out", "deadline_exceeded")),
    ],
)
def test_what_a_result_means(
    result: Prediction, cancel_requested_at: float | None, stopped_at: float | None, expected: Any
) -> None:
    step = decide.of_result(job(result=result, cancel_requested_at=cancel_requested_at, stopped_at=stopped_at))

    if isinstance(expected, Step):
        assert step == expected
    else:
        assert step.failure is not None
        assert (step.next, step.ending, step.failure.code) == ("fail", *expected)


def test_without_a_result_the_provider_is_asked() -> None:
    assert decide.of_result(job()) == Step("poll")


@pytest.mark.parametrize(
    ("cancel_requested_at", "now", "expected"),
    [(None, EARLY, False), (None, LATE - 0.001, False), (None, LATE, True), (1050.0, EARLY, True)],
)
def test_the_provider_is_asked_to_stop_on_request_or_at_the_deadline(
    cancel_requested_at: float | None, now: float, expected: bool
) -> None:
    assert decide.should_stop(job(cancel_requested_at=cancel_requested_at), now) is expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [(EARLY, "await"), (LATE - 0.001, "await"), (LATE, "await_longer"), (VERY_LATE - 0.001, "await_longer")],
)
def test_our_clock_is_no_verdict_before_abandon_at(now: float, expected: str) -> None:
    assert decide.still_running(job(), now) == Step(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("now", [VERY_LATE, VERY_LATE + 1e6])
def test_a_job_is_given_up_at_abandon_at(now: float) -> None:
    step = decide.still_running(job(), now)

    assert step == fail("timed_out", "abandoned", "The provider has not said what became of it.")


@pytest.mark.parametrize(
    ("cancel_requested_at", "now", "expected"),
    [
        (None, EARLY, None),
        (None, LATE - 0.001, None),
        (None, LATE, ("timed_out", "provider_unavailable")),
        (1050.0, EARLY, ("canceled", "canceled")),
        (1050.0, LATE, ("canceled", "canceled")),
    ],
)
def test_a_job_without_a_prediction_is_tried_until_its_deadline(
    cancel_requested_at: float | None, now: float, expected: tuple[str, str] | None
) -> None:
    step = decide.without_prediction(job(cancel_requested_at=cancel_requested_at), now)

    assert (step and step.failure and (step.ending, step.failure.code)) == expected


@given(
    attempts=st.integers(0, 200),
    scale=st.floats(0.001, 1),
    asked=st.none() | st.floats(0, 1e9),
    left=st.floats(-1e6, 1e6),
)
def test_a_backoff_is_at_least_a_second_and_never_passes_the_deadline(
    attempts: int, scale: float, asked: float | None, left: float
) -> None:
    step = decide.backoff(attempts, scale=scale, asked=asked, left=left)

    assert step.next == "backoff"
    assert 1 <= step.wait_seconds <= max(1, left + 0.5)


@given(attempts=st.integers(0, 200), asked=st.none() | st.floats(0, 1000))
def test_a_backoff_waits_what_was_asked_and_at_most_five_minutes_of_its_own(attempts: int, asked: float | None) -> None:
    wait = decide.backoff(attempts, scale=1, asked=asked, left=1e9).wait_seconds

    assert wait >= round(asked or 0)
    assert wait <= max(decide.LONGEST_BACKOFF_S, round(asked or 0))


def test_backoffs_double_from_four_seconds() -> None:
    waits = [decide.backoff(attempt, scale=1, asked=None, left=1e9).wait_seconds for attempt in range(1, 10)]

    assert waits == [4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_time_scale_shortens_our_backoff_and_not_what_was_asked() -> None:
    assert decide.backoff(3, scale=0.25, asked=None, left=1e9).wait_seconds == 4
    assert decide.backoff(3, scale=0.25, asked=30, left=1e9).wait_seconds == 30


def test_the_sweeper_looks_less_and_less_often_but_never_past_the_deadline() -> None:
    waiting = job(accepted_at=1000.0, deadline_at=2800.0)

    looks, now = [], 1000.0
    while now < 2800.0:
        now = decide.next_look(waiting, now, 1.0)
        looks.append(now)

    gaps = [later - earlier for earlier, later in pairwise([1000.0, *looks])]
    assert gaps[0] == decide.LOOK_AFTER_S
    assert all(gap >= decide.LOOK_AFTER_S for gap in gaps[:-1])
    assert gaps[:-1] == sorted(gaps[:-1])
    assert looks[-1] == 2800.0
    assert len(looks) <= 16
    assert decide.next_look(waiting, 2800.0, 1.0) == 2800.0 + decide.LONGEST_BACKOFF_S
