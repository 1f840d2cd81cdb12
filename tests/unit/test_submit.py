"""The Submit step where it needs no table: what is known is not created again, and what may be is looked up first."""

import json
import time
from typing import Any

import pytest

from shared.jobs import decide, submit
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.providers.outcomes import Prediction
from tests.unit.helpers import Json, Loopback, job


def submitting(**changes: Any) -> Job:
    """A job that was accepted a minute ago and has nine left, its attempt's answer lost."""
    now = time.time()
    values: Json = {
        "status": "submitting",
        "attempt": "unknown",
        "attempts": 1,
        "attempt_at": now - 60,
        "accepted_at": now - 60,
        "deadline_at": now + 540,
        "abandon_at": now + 1140,
    }
    return job(**{**values, **changes})


@pytest.fixture
def replicate(cloud: Loopback, environment: pytest.MonkeyPatch) -> Loopback:
    """Replicate on loopback, with no prediction."""
    environment.setenv("REPLICATE_BASE_URL", cloud.url)
    cloud.says("/predictions", {"next": None, "results": []})
    return cloud


def creates(server: Loopback) -> list[str]:
    return [name for name, _ in server.seen if name.startswith("/models/")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "succeeded"}, Step("done")),
        ({"status": "canceled"}, Step("done")),
        ({"result": Prediction("p", "succeeded")}, Step("store")),
        ({"prediction": "p"}, Step("await")),
    ],
)
def test_what_is_known_of_a_job_decides_without_a_call(
    server: Loopback, changes: dict[str, Any], expected: Step
) -> None:
    assert submit.resume(submitting(**changes)) == expected
    assert server.seen == []


def test_an_attempt_that_may_still_be_under_way_is_left_alone(server: Loopback) -> None:
    step = submit.resume(submitting(attempt="open", attempt_at=time.time() - 10))

    assert step.next == "backoff"
    assert decide.CREATE_LIMIT_S - 12 <= step.wait_seconds <= decide.CREATE_LIMIT_S - 10
    assert server.seen == []


def test_an_early_look_up_that_finds_nothing_is_not_believed(
    replicate: Loopback, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("LOOKUP_GRACE", "30")

    step = submit.resume(submitting(attempt_at=time.time() - 5))

    assert step.next == "backoff"
    assert 23 <= step.wait_seconds <= 25
    assert creates(replicate) == []


@pytest.mark.parametrize(
    ("changes", "ending", "code"),
    [
        ({"deadline_at": time.time() - 1}, "timed_out", "provider_unavailable"),
        ({"cancel_requested_at": time.time()}, "canceled", "canceled"),
    ],
)
def test_a_job_whose_time_has_come_ends_only_after_the_look_up(
    replicate: Loopback, changes: dict[str, Any], ending: Any, code: str
) -> None:
    step = submit.resume(submitting(**changes))

    assert (step.next, step.ending, step.failure and step.failure.code) == ("fail", ending, code)
    assert [name for name, _ in replicate.seen if name == "/predictions"] == ["/predictions"]
    assert creates(replicate) == []


@pytest.mark.parametrize(
    ("status", "body"), [(500, {"detail": "x"}), (429, {"detail": "Your rate limit resets in ~7s."})]
)
def test_nothing_is_created_while_the_look_up_has_no_answer(replicate: Loopback, status: int, body: Json) -> None:
    replicate.says("/predictions", body, status=status)

    step = submit.resume(submitting(deadline_at=time.time() - 1))

    assert step == Step("backoff", wait_seconds=7 if status == 429 else 4)
    assert creates(replicate) == []


def test_a_job_that_can_never_be_looked_up_is_given_up_in_the_end(replicate: Loopback) -> None:
    replicate.says("/predictions", {"detail": "x"}, status=500)

    step = submit.resume(submitting(abandon_at=time.time() - 1))

    assert step == fail("timed_out", "abandoned", "The provider has not said what became of it.")


def test_the_look_up_asks_for_what_was_created_since_the_job_was_accepted(replicate: Loopback) -> None:
    replicate.answers["/predictions"] = lambda _: (200, {}, json.dumps({"results": [], "next": None}).encode())

    submit.resume(submitting(cancel_requested_at=1.0))

    assert ("/predictions", b"") in replicate.seen
