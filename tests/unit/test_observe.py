"""The Poll step where it needs no table: the provider is asked, and asked to stop when the time has come."""

import time
from typing import Any

import pytest

from shared.jobs import observe
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.providers.outcomes import Prediction
from tests.unit.helpers import Json, Loopback, job

URL = ("https://replicate.delivery/x/out.png",)


def processing(**changes: Any) -> Job:
    """A job whose prediction `p` is under way, a minute after it was accepted."""
    now = time.time()
    values: Json = {
        "prediction": "p",
        "accepted_at": now - 60,
        "deadline_at": now + 540,
        "abandon_at": now + 1140,
    }
    return job(**{**values, **changes})


@pytest.fixture
def replicate(cloud: Loopback, environment: pytest.MonkeyPatch) -> Loopback:
    """Replicate on loopback, where prediction `p` runs and does not stop."""
    environment.setenv("REPLICATE_BASE_URL", cloud.url)
    cloud.says("/predictions/p", {"id": "p", "status": "processing"})
    cloud.says("/predictions/p/cancel", {"id": "p", "status": "processing"})
    return cloud


def asked(server: Loopback) -> list[str]:
    return [name for name, _ in server.seen if name.startswith("/predictions")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "failed"}, Step("done")),
        ({"result": Prediction("p", "succeeded", URL)}, Step("store")),
        ({"result": Prediction("p", "succeeded")}, "bad_output"),
        ({"prediction": None, "status": "submitting"}, Step("submit")),
    ],
)
def test_what_is_known_of_a_job_decides_without_a_call(
    server: Loopback, changes: dict[str, Any], expected: Any
) -> None:
    step = observe.poll(processing(**changes))

    assert expected in (step, step.failure and step.failure.code)
    assert server.seen == []


def test_a_running_prediction_is_waited_for(replicate: Loopback) -> None:
    assert observe.poll(processing()) == Step("await")
    assert asked(replicate) == ["/predictions/p"]


def test_a_prediction_is_asked_about_when_the_catalogue_has_its_model_no_more(replicate: Loopback) -> None:
    assert observe.poll(processing(model="withdrawn")) == Step("await")
    assert asked(replicate) == ["/predictions/p"]


# That we stop it at the deadline is written to the job before the provider is asked; here it has been.
PAST_DEADLINE = {"deadline_at": time.time() - 1, "stopped_at": time.time()}


@pytest.mark.parametrize("changes", [PAST_DEADLINE, {"cancel_requested_at": time.time()}])
def test_a_prediction_whose_time_has_come_is_asked_to_stop_and_asked_once_more(
    replicate: Loopback, changes: dict[str, Any]
) -> None:
    step = observe.poll(processing(**changes))

    assert step == Step("await_longer" if "deadline_at" in changes else "await")
    assert asked(replicate) == ["/predictions/p", "/predictions/p/cancel", "/predictions/p"]


@pytest.mark.parametrize("status", [500, 503, 429, 401])
def test_a_provider_that_does_not_tell_is_no_verdict(replicate: Loopback, status: int) -> None:
    replicate.says("/predictions/p", {"detail": "x"}, status=status)

    assert observe.poll(processing()) == Step("await")


def test_a_job_is_given_up_at_abandon_at_whatever_the_provider_says(replicate: Loopback) -> None:
    now = time.time()

    step = observe.poll(processing(deadline_at=now - 100, abandon_at=now - 1, stopped_at=now - 90))

    assert step == fail("timed_out", "abandoned", "The provider has not said what became of it.")


def test_a_prediction_that_is_gone_fails_the_job(replicate: Loopback) -> None:
    replicate.says("/predictions/p", {"detail": "Not found."}, status=404)

    step = observe.poll(processing())

    assert (step.next, step.ending, step.failure and step.failure.code) == ("fail", "failed", "prediction_gone")
