"""Whatever the provider does, steered from inside the prompt: the job ends as it should, and so does its money.

All jobs are started at once, each in an account of its own; every test then waits only for its own.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from local.cloud import Stack
from shared.jobs import catalog
from tests.e2e.helpers import (
    ABANDON_S,
    DEADLINE_S,
    IMAGE,
    LONG_POLL_S,
    POLL_S,
    PORTRAIT,
    at_once,
    check_assets,
    check_paid,
    check_refunded,
    delivered,
    eventually,
    moment,
    only_prediction,
)
from tests.support import TERMINAL, Json, Studio, sweep

# Half of these jobs are waiting for each other's Lambdas on a small machine.
PATIENCE_S = ABANDON_S + 60

LATE = f"delay={ABANDON_S + 14} cancel=ignored"
SUCCEEDING = [
    "delay=4",
    "outcome=succeeded",
    "webhook=ok",
    "webhook=lost",
    "webhook=twice",
    "webhook=early",
    "webhook=reordered",
    "webhook=late",
    "webhook=unsigned",
    "webhook=forged",
    "webhook=stale",
    "webhook=unsigned times=1",
    "webhook=forged times=1",
    "webhook=stale times=1",
    "webhook=lost times=1",
    "create=429 times=1",
    "create=500 times=1",
    "create=502html times=1",
    "create=refuse times=1",
    "create=hang times=1",
    "create=drop-after-accept times=1",
    "create=drop-after-accept",
    "create=drop-after-accept webhook=early",
    "output=404 times=1",
    "output=truncated times=1",
    "output=wrong-type times=1",
    "cancel=ignored",
]
FAILING = {
    "outcome=failed": ("failed", "provider_failed"),
    "outcome=failed webhook=early": ("failed", "provider_failed"),
    "outcome=failed webhook=lost": ("failed", "provider_failed"),
    "outcome=canceled": ("canceled", "provider_canceled"),
    "outcome=aborted": ("canceled", "provider_canceled"),
    "outcome=aborted webhook=lost": ("canceled", "provider_canceled"),
    "outcome=never": ("timed_out", "deadline_exceeded"),
    "outcome=never webhook=lost": ("timed_out", "deadline_exceeded"),
    "outcome=never cancel=ignored": ("timed_out", "abandoned"),
    LATE: ("timed_out", "abandoned"),
    "output=404": ("failed", "bad_output"),
    "output=truncated": ("failed", "bad_output"),
    "output=wrong-type": ("failed", "bad_output"),
    "output=too-big": ("failed", "bad_output"),
    "output=redirect-private": ("failed", "bad_output"),
}
# Nothing is ever created for these.
REFUSED = {
    "create=429": ("timed_out", "provider_unavailable"),
    "create=500": ("timed_out", "provider_unavailable"),
    "create=502html": ("timed_out", "provider_unavailable"),
    "create=refuse": ("timed_out", "provider_unavailable"),
    "create=hang": ("timed_out", "provider_unavailable"),
    "colour=blue": ("failed", "invalid_input"),
}

BY_ITSELF = "outcome=aborted webhook=lost"
"""After the deadline we have asked for that ourselves, so somebody has to look before; the crowd would delay it."""


@dataclass(frozen=True)
class Started:
    """A job on its way, in an account with 100 credits that has no other."""

    studio: Studio
    job_id: str

    def end(self) -> Json:
        """The job once it is over; the invariants hold then."""
        job = self.studio.wait(self.job_id, timeout=PATIENCE_S)
        self.studio.check_invariants()
        return job

    def has_ended(self) -> bool:
        return self.studio.job(self.job_id)["status"] in TERMINAL

    def row(self) -> Json:
        """What the provider has seen of its only prediction."""
        return only_prediction(self.studio, self.job_id)


@pytest.fixture(scope="module")
def started(stack: Stack) -> Iterator[dict[str, Started]]:
    """Every job of this module by its directive, those that take longest started first.

    A create call that hangs keeps a Lambda busy for seconds, so those come as portraits: the images need not queue
    behind them, and deadlines are short here.
    """
    run = f"{time.time_ns():x}"
    directives = [each for each in (*reversed(FAILING), *REFUSED, *SUCCEEDING) if each != BY_ITSELF]

    def start(number: int, directive: str) -> Started:
        studio = Studio(stack, f"directive-{run}-{number}")
        studio.grant(100)
        kind = "portraits" if "create=hang" in directive else "images"
        return Started(studio, studio.create(f"a lighthouse [sim {directive}]", kind=kind)["id"])

    warm = start(len(directives), "webhook=ok")
    warm.end()
    by_itself = start(len(directives) + 1, BY_ITSELF)
    eventually(lambda: by_itself.has_ended() or sweep(stack), timeout=DEADLINE_S, what="end of the aborted job")
    begun = at_once([partial(start, *numbered) for numbered in enumerate(directives)], workers=5)
    yield {BY_ITSELF: by_itself, **dict(zip(directives, begun, strict=True))}
    for job in [warm, by_itself, *begun]:
        job.studio.check_invariants()
        job.studio.close()


@pytest.mark.parametrize("directive", SUCCEEDING)
def test_a_job_succeeds_and_is_paid_for_once(started: dict[str, Started], directive: str) -> None:
    job = started[directive].end()

    assert (job["status"], job["error"], job["progress"]) == ("succeeded", None, 100)
    check_assets(started[directive].studio, job)
    check_paid(started[directive].studio, job, {"image": IMAGE, "portrait": PORTRAIT}[job["kind"]])
    assert started[directive].row()["status"] == "succeeded"


@pytest.mark.parametrize(("directive", "end"), FAILING.items())
def test_a_job_that_fails_costs_nothing(started: dict[str, Started], directive: str, end: tuple[str, str]) -> None:
    job = started[directive].end()

    assert (job["status"], job["error"]["code"]) == end
    assert job["error"]["detail"]
    assert directive == LATE or job["assets"] == []
    check_refunded(started[directive].studio, job)
    started[directive].row()


@pytest.mark.parametrize(("directive", "end"), REFUSED.items())
def test_a_job_that_the_provider_never_takes_costs_nothing(
    started: dict[str, Started], directive: str, end: tuple[str, str]
) -> None:
    job = started[directive].end()

    assert (job["status"], job["error"]["code"]) == end
    check_refunded(started[directive].studio, job)
    assert started[directive].studio.simulated(job["id"])["prediction_count"] == 0


def test_the_clock_of_these_tests_is_that_of_the_stack(stack: Stack) -> None:
    given = {name: float(stack.parameters[name]) for name in ("TimeScale", "PollSeconds", "LongPollSeconds")}

    assert (given["PollSeconds"], given["LongPollSeconds"]) == (POLL_S, LONG_POLL_S)
    for model in catalog.of_kind("image")[:1] + catalog.of_kind("portrait")[:1]:
        assert round(model.deadline_s * given["TimeScale"], 3) == DEADLINE_S
        assert round(model.abandon_s * given["TimeScale"], 3) == ABANDON_S


def test_a_delay_is_waited_for(started: dict[str, Started]) -> None:
    job = started["delay=4"].end()

    assert moment(job["updated_at"]) - moment(job["created_at"]) >= 4


@pytest.mark.parametrize("directive", ["webhook=ok", "webhook=early"])
def test_a_webhook_is_taken_at_the_first_delivery(started: dict[str, Started], directive: str) -> None:
    started[directive].end()

    # On a busy machine a delivery may get no answer in time, and is made again.
    assert [answer for answer in delivered(started[directive].row()) if answer is not None] == [200]


def test_a_lost_webhook_is_made_up_for_by_asking(started: dict[str, Started]) -> None:
    started["webhook=lost"].end()

    assert delivered(started["webhook=lost"].row()) == [None]


def test_a_webhook_that_comes_twice_counts_once(started: dict[str, Started]) -> None:
    started["webhook=twice"].end()

    twice = eventually(lambda: len(delivered(started["webhook=twice"].row())) == 2, timeout=30, what="second delivery")
    assert twice
    assert delivered(started["webhook=twice"].row()) == [200, 200]
    check_paid(started["webhook=twice"].studio, started["webhook=twice"].end(), IMAGE)


def test_a_start_webhook_after_the_end_changes_nothing(started: dict[str, Started]) -> None:
    started["webhook=reordered"].end()

    eventually(lambda: delivered(started["webhook=reordered"].row(), "start"), timeout=30, what="reordered webhook")
    deliveries = started["webhook=reordered"].row()["deliveries"]
    assert [(one["event"], one["status_code"]) for one in deliveries] == [("completed", 200), ("start", 200)]
    check_paid(started["webhook=reordered"].studio, started["webhook=reordered"].end(), IMAGE)


def test_a_webhook_after_the_deadline_changes_nothing(started: dict[str, Started]) -> None:
    job = started["webhook=late"].end()

    eventually(lambda: delivered(started["webhook=late"].row()), timeout=60, what="late webhook")
    (late,) = [one for one in started["webhook=late"].row()["deliveries"] if one["event"] == "completed"]
    assert late["status_code"] == 200
    assert late["at"] > max(moment(job["deadline"]), moment(job["updated_at"]))
    after = started["webhook=late"].end()
    assert after["updated_at"] == job["updated_at"]
    check_paid(started["webhook=late"].studio, after, IMAGE)


@pytest.mark.parametrize("fault", ["unsigned", "forged", "stale"])
def test_a_webhook_that_proves_nothing_is_refused(started: dict[str, Started], fault: str) -> None:
    started[f"webhook={fault}"].end()

    eventually(lambda: len(delivered(started[f"webhook={fault}"].row())) == 2, timeout=30, what="second knock")
    assert delivered(started[f"webhook={fault}"].row()) == [401, 401]


@pytest.mark.parametrize("fault", ["429", "500", "502html", "refuse", "hang"])
def test_a_create_that_failed_once_is_made_a_second_time(started: dict[str, Started], fault: str) -> None:
    job = started[f"create={fault} times=1"].end()

    seen = started[f"create={fault} times=1"].studio.simulated(job["id"])
    assert [create["answer"] for create in seen["creates"]] == [fault, "ok"]
    assert seen["prediction_count"] == 1


@pytest.mark.parametrize("directive", ["create=drop-after-accept times=1", "create=drop-after-accept"])
def test_a_create_whose_answer_was_lost_is_never_repeated(started: dict[str, Started], directive: str) -> None:
    job = started[directive].end()

    seen = started[directive].studio.simulated(job["id"])
    assert (seen["create_count"], seen["prediction_count"]) == (1, 1)


@pytest.mark.parametrize("fault", ["429", "500", "502html", "refuse", "hang"])
def test_a_create_that_always_fails_is_repeated_until_the_deadline(started: dict[str, Started], fault: str) -> None:
    job = started[f"create={fault}"].end()

    assert started[f"create={fault}"].studio.simulated(job["id"])["create_count"] >= 2
    assert moment(job["updated_at"]) >= moment(job["deadline"]) - 1


def test_what_the_provider_does_not_accept_is_asked_for_once(started: dict[str, Started]) -> None:
    job = started["colour=blue"].end()

    assert "colour=blue" in job["error"]["detail"]
    # The simulator refuses a malformed input before it counts it as a create.
    assert started["colour=blue"].studio.simulated(job["id"])["create_count"] == 0


@pytest.mark.parametrize("fault", ["404", "truncated", "wrong-type"])
def test_a_file_that_was_bad_once_is_fetched_again(started: dict[str, Started], fault: str) -> None:
    started[f"output={fault} times=1"].end()

    assert started[f"output={fault} times=1"].row()["downloads"] == [2]


@pytest.mark.parametrize(
    ("fault", "downloads"), [("404", 4), ("truncated", 4), ("wrong-type", 4), ("too-big", 1), ("redirect-private", 1)]
)
def test_a_file_is_fetched_again_only_where_that_may_help(
    started: dict[str, Started], fault: str, downloads: int
) -> None:
    started[f"output={fault}"].end()

    assert started[f"output={fault}"].row()["downloads"] == [downloads]


@pytest.mark.parametrize("directive", ["outcome=never", "outcome=never webhook=lost"])
def test_at_the_deadline_the_provider_is_asked_to_cancel(started: dict[str, Started], directive: str) -> None:
    job = started[directive].end()

    prediction = started[directive].row()
    assert (prediction["status"], prediction["cancel_requests"]) == ("canceled", 1)
    assert moment(job["updated_at"]) - moment(job["created_at"]) >= DEADLINE_S


def test_only_at_abandon_at_a_job_is_given_up(started: dict[str, Started]) -> None:
    job = started["outcome=never cancel=ignored"].end()

    prediction = started["outcome=never cancel=ignored"].row()
    assert prediction["status"] == "processing"
    assert prediction["cancel_requests"] >= 2
    took = moment(job["updated_at"]) - moment(job["created_at"])
    assert ABANDON_S <= took < ABANDON_S + LONG_POLL_S + 15


def test_a_success_after_the_end_is_kept_and_not_charged(started: dict[str, Started]) -> None:
    late = started[LATE]
    job = late.end()

    kept = eventually(
        lambda: (now := late.studio.job(job["id"])) and now["assets"] and now,
        timeout=60,
        what="asset of a late success",
    )
    assert (kept["status"], kept["error"]) == (job["status"], job["error"])
    released = late.studio.entries()[0]["created_at"]
    assert late.row()["completed"] > moment(released)
    assert delivered(late.row()) == [200]
    check_assets(late.studio, kept)
    check_refunded(late.studio, kept)
    late.studio.check_invariants()
