"""The decisions of a generation, without a clock or a call: what a result means, and when our patience ends."""

from shared.jobs.status import Ending
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job

CREATE_LIMIT_S = 30
"""A create attempt whose outcome is not written after this long is lost: no function that makes one lives longer."""

BACKOFF_S = 4
LONGEST_BACKOFF_S = 300
LOOK_AFTER_S = 60
STORE_ATTEMPTS = 4
GENERATE_LIMIT_S = 900
"""A generation whose outcome is not written after this long is lost: no function that makes one lives longer."""


def of_result(job: Job) -> Step:
    """What the recorded result of the prediction means for the job."""
    result = job.result
    if result is None:
        return Step("poll")
    match result.status:
        case "succeeded" if not result.outputs and result.data is None:
            return fail("failed", "bad_output", "The provider has succeeded without a result.")
        case "succeeded":
            return Step("store")
        case "canceled" if job.cancel_requested_at is not None:
            return fail("canceled", "canceled", "Canceled on request.")
        case "canceled" if job.stopped_at is not None:
            return fail("timed_out", "deadline_exceeded", "The provider did not finish in time and was stopped.")
    ending: Ending = "canceled" if result.status == "canceled" else "failed"
    if result.failure is None:
        return fail(ending, "provider_failed", "The provider gave no reason.")
    return fail(ending, result.failure.code, result.failure.detail)


def should_stop(job: Job, now: float) -> bool:
    """Whether the provider is to be asked to cancel: the caller wants it, or the deadline has come."""
    return job.cancel_requested_at is not None or now >= job.deadline_at


def still_running(job: Job, now: float) -> Step:
    """The provider says the prediction is running, or says nothing. Our clock alone is no verdict before abandon_at."""
    if now >= job.abandon_at:
        return fail("timed_out", "abandoned", "The provider has not said what became of it.")
    return Step("await_longer" if now >= job.deadline_at else "await")


def next_look(job: Job, now: float, scale: float) -> float:
    """When the sweeper looks at a waiting job again (epoch seconds): after a minute at first, less often the longer it
    takes, and at its deadline. `scale` shortens that."""
    if now >= job.deadline_at:
        return now + LONGEST_BACKOFF_S * scale
    return min(now + max(LOOK_AFTER_S * scale, (now - job.accepted_at) / 5), job.deadline_at)


def without_prediction(job: Job, now: float) -> Step | None:
    """The end of a job for which nothing was created, if its time has come; None while it may be tried again."""
    if job.cancel_requested_at is not None:
        return fail("canceled", "canceled", "Canceled on request.")
    if now >= job.deadline_at:
        return fail("timed_out", "provider_unavailable", "The provider did not accept the work in time.")
    return None


def of_our_own(job: Job, now: float) -> Step | None:
    """The end of a job that we work on ourselves, if its time has come; None while we may."""
    if job.cancel_requested_at is not None:
        return fail("canceled", "canceled", "Canceled on request.")
    if now >= job.deadline_at:
        return fail("timed_out", "deadline_exceeded", "It was not finished in time.")
    return None


def unknown_outcome() -> Step:
    """The end of a job of which nobody can say whether the provider has done it."""
    return fail("failed", "outcome_unknown", "It is not known whether the provider has done the work.")


def backoff(attempts: int, *, scale: float, asked: float | None, left: float) -> Step:
    """Wait before the next try: what the provider asked for, or doubling from 4 s; never past the `left` seconds until
    the deadline. `scale` shortens our own doubling, not what was asked."""
    own = min(BACKOFF_S * 2 ** max(0, attempts - 1), LONGEST_BACKOFF_S) * scale
    return Step("backoff", wait_seconds=max(1, round(min(max(own, asked or 0), max(left, 1)))))
