"""Whoever comes first: webhook or wait, one of a hundred requests, a cancel or the success it wanted to prevent."""

import json
import time
from collections.abc import Callable
from functools import partial

import pytest

from shared.core import ids
from tests.e2e.helpers import (
    DEADLINE_S,
    IMAGE,
    POLL_S,
    Provider,
    at_once,
    check_assets,
    check_paid,
    check_problem,
    check_refunded,
    delivered,
    eventually,
    moment,
    only_prediction,
)
from tests.support import Json, Studio, history, job_rows, rows

NewStudio = Callable[..., Studio]


def test_a_webhook_before_the_wait_finds_the_wait_not_needed(studio: Studio) -> None:
    """The provider calls back before it has answered the create call, so the result is there before the token."""
    job = studio.run("[sim webhook=early]")

    check_assets(studio, job)
    check_paid(studio, job, IMAGE)
    events = [(event["type"], entered(event)) for event in history(studio.stack, job["id"])]
    assert ("TaskStateEntered", "Await") in events
    assert "TaskFailed" in {kind for kind, _ in events}
    assert ("TaskStateEntered", "Poll") not in events


def test_a_webhook_during_the_wait_ends_it(studio: Studio) -> None:
    job = studio.create("[sim delay=1.5]")
    eventually(lambda: "task_token" in row(studio, job["id"]), timeout=20, what="token on the job")

    job = studio.wait(job["id"])

    check_assets(studio, job)
    check_paid(studio, job, IMAGE)
    events = [(event["type"], entered(event)) for event in history(studio.stack, job["id"])]
    assert "TaskFailed" not in {kind for kind, _ in events}
    assert ("TaskStateEntered", "Poll") not in events


def test_webhooks_and_waits_meet_in_any_order(new_studio: NewStudio) -> None:
    """Forty results around the moment at which the token is written."""
    studio = new_studio(200)
    prompts = [f"[sim delay={number * 0.02:.2f}]" for number in range(40)]

    jobs = at_once([partial(studio.create, prompt) for prompt in prompts], workers=10)
    ended = [studio.wait(job["id"]) for job in jobs]

    assert {job["status"] for job in ended} == {"succeeded"}
    assert {job["credits"]["charged"] for job in ended} == {IMAGE}
    assert studio.credits() == {"available": 80, "held": 0, "spent": 120}
    for job in jobs:
        assert len(states(studio, job["id"])) <= 5 + 3 * states(studio, job["id"]).count("Poll")


def test_the_same_webhook_twenty_times_in_parallel_counts_once(studio: Studio, provider: Provider) -> None:
    job = studio.create("[sim delay=0.5 webhook=lost]")
    prediction = eventually(
        lambda: (now := only_prediction(studio, job["id"]))["status"] == "succeeded" and now, timeout=20, what="success"
    )
    body = json.dumps(provider.prediction(prediction["id"])).encode()
    headers = provider.signed(body)

    answers = at_once([lambda: provider.deliver(job["id"], body, headers)] * 20)

    assert [answer.status_code for answer in answers] == [200] * 20
    job = studio.wait(job["id"])
    check_assets(studio, job)
    check_paid(studio, job, IMAGE)
    assert only_prediction(studio, job["id"])["downloads"] == [1]
    assert states(studio, job["id"]).count("Store") == 1
    assert moment(job["updated_at"]) - moment(job["created_at"]) < DEADLINE_S


def test_an_old_webhook_of_a_paid_job_changes_nothing(studio: Studio, provider: Provider) -> None:
    job = studio.run("[sim]")
    prediction = provider.prediction(only_prediction(studio, job["id"])["id"])
    bodies = [
        json.dumps({**prediction, "status": status, "output": output}).encode()
        for status, output in [("failed", None), ("processing", None), ("canceled", None), ("succeeded", [])]
    ]

    answers = [provider.deliver(job["id"], body, provider.signed(body)) for body in bodies]

    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    after = studio.job(job["id"])
    assert (after["status"], after["updated_at"]) == ("succeeded", job["updated_at"])
    check_paid(studio, after, IMAGE)


def test_a_webhook_of_another_prediction_is_not_this_jobs_result(studio: Studio, provider: Provider) -> None:
    job = studio.create("[sim delay=2]")
    known = provider.prediction(only_prediction(studio, job["id"])["id"])
    body = json.dumps({**known, "id": "another", "status": "failed", "error": "not this one"}).encode()

    answer = provider.deliver(job["id"], body, provider.signed(body))

    assert answer.status_code == 200
    job = studio.wait(job["id"])
    assert job["status"] == "succeeded"
    check_paid(studio, job, IMAGE)


def test_of_a_hundred_creates_as_many_are_accepted_as_can_be_paid_for(new_studio: NewStudio) -> None:
    studio = new_studio(10 * IMAGE)

    answers = at_once([lambda: studio.http.post("/images", json={"prompt": "a herring"})] * 100)

    accepted = [answer.json() for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(accepted) == 10
    assert len({job["id"] for job in accepted}) == 10
    assert len(refused) == 90
    for answer in refused:
        problem = check_problem(answer, 402, "insufficient_credits")
        assert (problem["needed"], problem["available"]) == (IMAGE, 0)
    assert {studio.wait(job["id"])["status"] for job in accepted} == {"succeeded"}
    assert studio.credits() == {"available": 0, "held": 0, "spent": 10 * IMAGE}
    assert sum(studio.simulated(job["id"])["create_count"] for job in accepted) == 10


def test_the_same_key_twenty_times_in_parallel_is_one_job(studio: Studio) -> None:
    request = {"prompt": "a lighthouse", "metadata": {"order": "7"}}

    answers = at_once([lambda: studio.http.post("/images", json=request, headers={"idempotency-key": "order-7"})] * 20)

    assert [answer.status_code for answer in answers] == [202] * 20
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count("true") == 19
    (job_id,) = {answer.json()["id"] for answer in answers}
    job = studio.wait(job_id)
    assert job["metadata"] == {"order": "7"}
    assert [one["id"] for one in job_rows(studio.stack, studio.account)] == [job_id]
    seen = studio.simulated(job_id)
    assert (seen["create_count"], seen["prediction_count"]) == (1, 1)
    check_paid(studio, job, IMAGE)


def test_the_same_grant_twenty_times_in_parallel_is_one_grant(new_studio: NewStudio) -> None:
    studio = new_studio(0)
    admin = {"authorization": f"Bearer {studio.stack.tokens['admin']}", "idempotency-key": "payment-1"}

    answers = at_once(
        [lambda: studio.http.post(f"/admin/accounts/{studio.account}/grants", json={"amount": 5}, headers=admin)] * 20
    )

    assert [answer.status_code for answer in answers] == [201] * 20
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert studio.credits() == {"available": 5, "held": 0, "spent": 0}


# Cancel


def cancel(studio: Studio, job_id: str) -> Json:
    answer = studio.http.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_cancel_while_queued_ends_the_job_at_once(studio: Studio) -> None:
    job = studio.create("[sim create=429]")
    studio.wait(job["id"], until={"queued"})

    # Between two attempts the job is queued; the moment of an attempt may be hit, and then the next step ends it.
    job = cancel(studio, job["id"])

    assert job["status"] in ("canceled", "submitting", "queued")
    job = studio.wait(job["id"], timeout=15)
    assert (job["status"], job["error"]["code"]) == ("canceled", "canceled")
    check_refunded(studio, job)
    created = studio.simulated(job["id"])["create_count"]
    time.sleep(2)
    assert studio.simulated(job["id"])["create_count"] == created


def test_cancel_while_the_create_call_is_under_way(studio: Studio) -> None:
    """The provider takes three seconds to say nothing; the cancel comes in between."""
    job_id = ids.derived("job", studio.account, "slow")

    def cancel_meanwhile() -> Json:
        eventually(lambda: row(studio, job_id), timeout=20, what="job")
        return cancel(studio, job_id)

    created, canceled = at_once([lambda: studio.create("[sim create=hang times=1]", key="slow"), cancel_meanwhile])

    assert created["id"] == job_id
    assert canceled["status"] == "submitting"
    job = studio.wait(job_id, timeout=30)
    assert (job["status"], job["error"]["code"]) == ("canceled", "canceled")
    assert studio.simulated(job_id)["prediction_count"] == 0
    check_refunded(studio, job)


def test_cancel_while_the_prediction_is_not_known_yet(studio: Studio) -> None:
    """It was made, but the answer was lost: the look-up finds it, and then it is stopped at the provider."""
    job = studio.create("[sim create=drop-after-accept outcome=never]")
    assert job["status"] == "submitting"

    canceled = cancel(studio, job["id"])

    assert canceled["status"] in ("submitting", "processing", "canceled")
    job = studio.wait(job["id"], timeout=30)
    assert (job["status"], job["error"]["code"]) == ("canceled", "canceled")
    assert moment(job["updated_at"]) < moment(job["deadline"])
    prediction = only_prediction(studio, job["id"])
    assert prediction["status"] == "canceled"
    assert prediction["cancel_requests"] >= 1
    check_refunded(studio, job)


def test_cancel_while_processing_stops_it_at_the_provider(studio: Studio) -> None:
    job = studio.create("[sim outcome=never]")
    studio.wait(job["id"], until={"processing"})

    cancel(studio, job["id"])

    job = studio.wait(job["id"], timeout=15)
    assert (job["status"], job["error"]["code"]) == ("canceled", "canceled")
    prediction = only_prediction(studio, job["id"])
    assert (prediction["status"], prediction["cancel_requests"]) == ("canceled", 1)
    check_refunded(studio, job)


def test_cancel_that_the_provider_ignores_ends_in_its_success(studio: Studio) -> None:
    job = studio.create(f"[sim delay={POLL_S + 2} cancel=ignored]")
    studio.wait(job["id"], until={"processing"})

    assert cancel(studio, job["id"])["status"] == "processing"

    job = studio.wait(job["id"])
    assert job["status"] == "succeeded"
    assert only_prediction(studio, job["id"])["cancel_requests"] >= 2
    check_assets(studio, job)
    check_paid(studio, job, IMAGE)


def test_cancel_while_storing_is_too_late(studio: Studio) -> None:
    job = studio.create("[sim output=404 times=2]")
    studio.wait(job["id"], until={"storing"})

    assert cancel(studio, job["id"])["status"] == "storing"

    job = studio.wait(job["id"])
    assert job["status"] == "succeeded"
    assert only_prediction(studio, job["id"])["cancel_requests"] == 0
    check_paid(studio, job, IMAGE)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "canceled"])
def test_cancel_after_the_end_answers_the_job_as_it_is(studio: Studio, outcome: str) -> None:
    job = studio.run(f"[sim outcome={outcome}]")

    canceled = cancel(studio, job["id"])

    same = ("status", "error", "credits", "updated_at")
    assert [canceled[name] for name in same] == [job[name] for name in same]
    assert only_prediction(studio, job["id"])["cancel_requests"] == 0


def test_cancel_twice_is_cancel_once(studio: Studio) -> None:
    job = studio.create("[sim outcome=never]")

    at_once([lambda: cancel(studio, job["id"])] * 5)

    job = studio.wait(job["id"], timeout=15)
    assert job["status"] == "canceled"
    check_refunded(studio, job)


def test_cancel_and_success_at_the_same_time_agree_with_the_provider(new_studio: NewStudio) -> None:
    """Twelve jobs that succeed a second after their start, canceled at moments around it: whoever was first at the
    provider decides, and the money with it."""
    studio = new_studio(100)

    def race(early_by: float) -> Json:
        job = studio.create("[sim delay=1]")
        completed = only_prediction(studio, job["id"])["created"] + 1
        time.sleep(max(0.0, completed - early_by - time.time()))
        cancel(studio, job["id"])
        return studio.wait(job["id"])

    jobs = at_once([partial(race, number * 0.04 - 0.1) for number in range(12)], workers=6)

    for job in jobs:
        prediction = only_prediction(studio, job["id"])
        assert job["status"] == prediction["status"]
        assert job["status"] in ("succeeded", "canceled")
        assert job["credits"]["charged"] == (IMAGE if job["status"] == "succeeded" else 0)
        assert len(job["assets"]) == (1 if job["status"] == "succeeded" else 0)
        assert set(delivered(prediction)) <= {200}
    paid = sum(job["status"] == "succeeded" for job in jobs) * IMAGE
    assert studio.credits() == {"available": 100 - paid, "held": 0, "spent": paid}


# Behind the scenes


def row(studio: Studio, job_id: str) -> Json:
    """The job as the table has it; nothing while there is none."""
    return next(iter(rows(studio.stack, "jobs", id=job_id)), {})


def entered(event: Json) -> str:
    return str(event.get("stateEnteredEventDetails", {}).get("name", ""))


def states(studio: Studio, job_id: str) -> list[str]:
    """The states that the job's execution has entered, in order."""
    return [entered(event) for event in history(studio.stack, job_id) if event["type"].endswith("StateEntered")]
