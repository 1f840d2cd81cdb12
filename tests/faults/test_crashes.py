"""Processes that die, answers that get lost and workers that meet: the job still ends once, and is paid for once."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product

import pytest

from local.cloud import Stack
from shared.core import ids
from shared.jobs import observe, submit, workflow
from shared.jobs.requests import ImageRequest, Request, SpeechRequest
from shared.jobs.steps import Step
from shared.jobs.table import Job
from shared.providers.outcomes import Notice, Output, Prediction
from tests.faults import scenes
from tests.faults.scenes import age, deliver, make_due, prediction_body, until
from tests.inside import Fault, Killed, aws_calls, forget_answers, inside
from tests.support import TERMINAL, Json, Studio, history, rows, sweep

UPDATE, WAKE = 1, 2
"""The AWS calls of the webhook handler, after it has read its secret."""


@pytest.fixture(autouse=True)
def _inside(stack: Stack) -> Iterator[None]:
    with inside(stack, TIME_SCALE="1"):
        yield


@contextmanager
def sweeping(stack: Stack, *job_ids: str, sweepers: int = 1) -> Iterator[None]:
    """Sweepers that never stop, for jobs that are always due."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for job_id in job_ids:
                make_due(stack, job_id)
            sweep(stack)

    with ThreadPoolExecutor(sweepers) as pool:
        running = [pool.submit(work) for _ in range(sweepers)]
        try:
            yield
        finally:
            over.set()
    for sweeper in running:
        sweeper.result()


def movements(studio: Studio, job_id: str) -> list[tuple[str, int]]:
    entries = [item for item in rows(studio.stack, "ledger", account=studio.account) if item.get("job_id") == job_id]
    return [(entry["type"], entry["amount"]) for entry in sorted(entries, key=lambda entry: entry["sort"])]


def states(stack: Stack, name: str) -> list[str]:
    """The names of the states that an execution has entered."""
    entered = [event.get("stateEnteredEventDetails") for event in history(stack, name)]
    return [details["name"] for details in entered if details]


def execution_status(stack: Stack, name: str) -> str:
    client = stack.client("stepfunctions")
    return str(client.describe_execution(executionArn=scenes.execution_arn(stack, name))["status"])


def dying_webhook(studio: Studio, call: int, effect: str) -> tuple[Job, bytes]:
    """A job whose execution waits, and whose webhook handler died at one of its calls."""
    job = scenes.awaited(studio, "a webhook [sim webhook=lost delay=0]")
    body = prediction_body(studio, job.id)
    event = scenes.webhook_event(studio.stack, job.id, body)
    forget_answers()
    with aws_calls(Fault(call, effect, "death")) as calls, pytest.raises(Killed):  # type: ignore[arg-type]
        scenes.receive.handler(event, scenes.CONTEXT)
    assert calls.names[:3][call] == ("GetSecretValue", "UpdateItem", "SendTaskSuccess")[call]
    return job, body


@pytest.mark.parametrize(("call", "effect"), [(UPDATE, "before"), (UPDATE, "after"), (WAKE, "before")])
def test_a_repeated_webhook_wakes_the_workflow_that_the_first_did_not(studio: Studio, call: int, effect: str) -> None:
    job, body = dying_webhook(studio, call, effect)

    assert deliver(studio.stack, job.id, body).status_code == 200

    assert studio.wait(job.id)["status"] == "succeeded"
    assert "Poll" not in states(studio.stack, job.id)
    assert movements(studio, job.id) == [("hold", 3), ("capture", 3)]


@pytest.mark.parametrize(("call", "effect"), [(UPDATE, "before"), (WAKE, "before")])
def test_the_sweeper_wakes_the_workflow_when_no_webhook_is_repeated(studio: Studio, call: int, effect: str) -> None:
    job, _ = dying_webhook(studio, call, effect)

    make_due(studio.stack, job.id)
    sweep(studio.stack)

    assert studio.wait(job.id, timeout=5)["status"] == "succeeded"
    assert "Poll" not in states(studio.stack, job.id)
    assert movements(studio, job.id) == [("hold", 3), ("capture", 3)]


def test_a_result_that_came_before_anybody_waited_is_found_by_the_wait(studio: Studio) -> None:
    job = scenes.attempted(studio, "an early webhook [sim webhook=lost delay=0]")
    assert deliver(studio.stack, job.id, prediction_body(studio, job.id)).status_code == 200

    workflow.start(job, Step("await"))

    assert studio.wait(job.id)["status"] == "succeeded"
    assert [state for state in states(studio.stack, job.id) if state != "Next"] == ["Await", "Store", "Settle"]


def test_three_executions_of_one_job_end_it_once(new_studio: Callable[..., Studio]) -> None:
    """Whichever step they begin at. Of those that wait, the last has the token: the others wait until they ask."""
    studio = new_studio()
    families: dict[str, tuple[str, list[str]]] = {}
    for outcome, first in product(("succeeded", "failed"), ("await", "poll", "store")):
        job = scenes.attempted(studio, f"triplets [sim webhook=lost delay=0 outcome={outcome}]")
        if first == "store":
            until(lambda job=job: scenes.said(scenes.poll.handler({"job_id": job.id}, None)))
        names = [job.id, f"{job.id}-a", f"{job.id}-b"]
        for name in names:
            workflow.start(job, Step(first), called=name)  # type: ignore[arg-type]
        families[job.id] = outcome, names

    for job_id, (outcome, names) in families.items():
        assert studio.wait(job_id)["status"] == outcome
        until(lambda names=names: all(execution_status(studio.stack, name) != "RUNNING" for name in names) or None)
        assert {execution_status(studio.stack, name) for name in names} == {"SUCCEEDED"}
        assert movements(studio, job_id) == [("hold", 3), ("capture" if outcome == "succeeded" else "release", 3)]
        assert studio.simulated(job_id)["prediction_count"] == 1


def test_two_executions_that_submit_create_one_prediction(studio: Studio) -> None:
    job = scenes.attempted(studio, "twins [sim create=429 times=1 delay=0]")

    for name in (job.id, f"{job.id}-1", f"{job.id}-2"):
        workflow.start(job, Step("submit"), called=name)

    assert studio.wait(job.id)["status"] == "succeeded"
    seen = studio.simulated(job.id)
    assert [create["answer"] for create in seen["creates"]] == ["429", "ok"]
    assert movements(studio, job.id) == [("hold", 3), ("capture", 3)]


def test_of_settle_and_fail_at_once_one_wins(new_studio: Callable[..., Studio]) -> None:
    studio = new_studio()
    ready = []
    for _ in range(8):
        job, state = scenes.ended(studio, "a race")
        ready.append((job, scenes.store.handler(state, None)))
    failing = {"ending": "failed", "error": {"code": "provider_failed", "detail": "A race."}}

    def step(function: str, state: Json) -> None:
        client = studio.stack.client("lambda")
        answer = client.invoke(FunctionName=studio.stack.functions[function], Payload=json.dumps(state))
        assert "FunctionError" not in answer, answer["Payload"].read()

    with ThreadPoolExecutor(32) as pool:
        races = []
        for job, state in ready:
            races += [pool.submit(step, "SettleFunction", state) for _ in range(2)]
            races += [pool.submit(step, "FailFunction", {"job_id": job.id, **failing}) for _ in range(2)]
        for race in races:
            race.result()

    for job, _ in ready:
        ended = studio.job(job.id)
        won = ended["status"] == "succeeded"
        assert ended["status"] in ("succeeded", "failed")
        assert movements(studio, job.id) == [("hold", 3), ("capture" if won else "release", 3)]
        assert ended["credits"]["charged"] == (3 if won else 0)
    # However the races went, each fixture's invariants are checked after this.


def test_a_settlement_changes_nothing_the_second_time(studio: Studio) -> None:
    job, state = scenes.ended(studio, "twice")
    settling = scenes.store.handler(state, None)
    scenes.settle.handler(settling, None)
    before = rows(studio.stack, "ledger", account=studio.account), rows(studio.stack, "jobs", id=job.id)

    scenes.settle.handler(settling, None)
    scenes.fail.handler({"job_id": job.id, "ending": "failed", "error": {"code": "late", "detail": "Late."}}, None)
    scenes.store.handler(state, None)
    scenes.poll.handler(state, None)
    scenes.submit_step.handler(state, None)

    assert (rows(studio.stack, "ledger", account=studio.account), rows(studio.stack, "jobs", id=job.id)) == before


def test_a_webhook_of_another_prediction_changes_nothing(studio: Studio) -> None:
    mine = scenes.awaited(studio, "mine [sim outcome=never webhook=lost]")
    other = scenes.attempted(studio, "another [sim outcome=failed webhook=lost delay=0]")
    before = rows(studio.stack, "jobs", id=mine.id)

    assert deliver(studio.stack, mine.id, prediction_body(studio, other.id)).status_code == 200

    assert rows(studio.stack, "jobs", id=mine.id) == before
    assert studio.http.post(f"/jobs/{mine.id}/cancel").status_code == 200
    assert studio.wait(mine.id)["status"] == "canceled"
    make_due(studio.stack, other.id)
    sweep(studio.stack)
    assert studio.wait(other.id)["status"] == "failed"


def test_a_late_success_is_kept_and_not_charged_however_often_it_is_told(studio: Studio) -> None:
    job = scenes.attempted(studio, "late [sim webhook=lost delay=0]")
    body = prediction_body(studio, job.id)
    given_up = {"job_id": job.id, "ending": "timed_out", "error": {"code": "abandoned", "detail": "Too late."}}
    scenes.fail.handler(given_up, None)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: deliver(studio.stack, job.id, body).status_code, range(5)))

    assert answers == [200] * 5
    kept = until(lambda: studio.job(job.id) if studio.job(job.id)["assets"] else None)
    assert (kept["status"], kept["credits"]["charged"], len(kept["assets"])) == ("timed_out", 0, 1)
    assert movements(studio, job.id) == [("hold", 3), ("release", 3)]


def test_a_late_success_is_stored_although_the_handler_died_between_writing_and_starting(studio: Studio) -> None:
    job = scenes.attempted(studio, "late [sim webhook=lost delay=0]")
    body = prediction_body(studio, job.id)
    given_up = {"job_id": job.id, "ending": "timed_out", "error": {"code": "abandoned", "detail": "Too late."}}
    scenes.fail.handler(given_up, None)
    told = json.loads(body)
    prediction = Prediction(told["id"], "succeeded", tuple(Output(url) for url in told["output"]))
    with aws_calls(Fault(2, "before", "death")) as calls, pytest.raises(Killed):
        observe.deliver(job.id, "replicate", Notice(prediction.id, prediction))
    assert calls.names == ["UpdateItem", "UpdateItem", "StartExecution"]

    assert deliver(studio.stack, job.id, body).status_code == 200

    assert until(lambda: studio.job(job.id)["assets"] or None)


def test_nothing_is_created_while_the_first_attempt_may_still_be_on_its_way(studio: Studio) -> None:
    """The create call hangs until our side gives up; the sweeper comes again and again meanwhile."""
    key, prompt = "hanging", "a hanging create [sim create=hang times=1 delay=0]"
    job_id = ids.derived("job", studio.account, key)

    with sweeping(studio.stack, job_id, sweepers=2):
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(studio.create, prompt, key=key)
            until(lambda: studio.simulated(job_id)["create_count"] or None)
            while not answer.done():
                assert studio.simulated(job_id)["create_count"] == 1
                time.sleep(0.1)
        assert answer.result()["status"] == "submitting"

    # The sweeper's execution sits out the time in which the first attempt might have been alive; we know it is not.
    execution = scenes.execution_arn(studio.stack, job_id)
    studio.stack.client("stepfunctions").stop_execution(executionArn=execution)
    with sweeping(studio.stack, job_id):
        assert studio.wait(job_id)["status"] == "succeeded"
    seen = studio.simulated(job_id)
    assert [create["answer"] for create in seen["creates"]] == ["hang", "ok"]
    assert seen["prediction_count"] == 1
    assert movements(studio, job_id) == [("hold", 3), ("capture", 3)]


def test_a_lost_create_answer_is_looked_up_and_not_repeated(new_studio: Callable[..., Studio]) -> None:
    studio = new_studio()
    jobs = [scenes.attempted(studio, f"lost {n} [sim create=drop-after-accept webhook=lost]") for n in range(5)]

    with sweeping(studio.stack, *(job.id for job in jobs), sweepers=3):
        ended = [studio.wait(job.id) for job in jobs]

    assert {job["status"] for job in ended} == {"succeeded"}
    for job in jobs:
        seen = studio.simulated(job.id)
        assert (seen["create_count"], seen["prediction_count"]) == (1, 1)
        assert movements(studio, job.id) == [("hold", 3), ("capture", 3)]


def test_an_attempt_that_died_before_its_call_is_made_again_once(studio: Studio) -> None:
    """Killed between the transaction and the provider; while the attempt is open, nobody may repeat it."""
    job = scenes.accepted(studio, "an attempt that never was [sim delay=0]")

    state = scenes.submit_step.handler({"job_id": job.id}, None)

    assert state["next"] == "backoff"
    assert 25 <= state["wait_seconds"] <= 30
    assert studio.simulated(job.id)["create_count"] == 0

    age(studio.stack, job.id, 31)
    assert scenes.submit_step.handler({"job_id": job.id}, None)["next"] == "await"
    workflow.start(job, Step("await"))
    assert studio.wait(job.id)["status"] == "succeeded"
    assert studio.simulated(job.id)["create_count"] == 1


def test_an_attempt_that_died_after_its_call_is_found(studio: Studio) -> None:
    job = scenes.accepted(studio, "an answer nobody read [sim delay=0 webhook=lost]")
    with aws_calls(Fault(2, "before", "death")) as calls, pytest.raises(Killed):
        forget_answers()
        submit.attempt(job)
    assert calls.names == ["GetSecretValue", "GetItem", "UpdateItem"]
    age(studio.stack, job.id, 31)

    state = scenes.submit_step.handler({"job_id": job.id}, None)

    assert state["next"] in ("await", "poll")
    make_due(studio.stack, job.id)
    sweep(studio.stack)
    assert studio.wait(job.id)["status"] == "succeeded"
    assert studio.simulated(job.id)["create_count"] == 1


def withdraw(studio: Studio, job: Job) -> None:
    """Let the model of a job leave the catalogue."""
    studio.stack.client("dynamodb").update_item(
        TableName=studio.stack.tables["jobs"],
        Key={"id": {"S": job.id}},
        UpdateExpression="SET model = :gone",
        ExpressionAttributeValues={":gone": {"S": "withdrawn"}},
    )


@pytest.mark.parametrize("request_for", [SpeechRequest(text="A speech."), ImageRequest(prompt="an image")])
def test_a_job_whose_model_is_gone_fails_and_gets_its_hold_back(studio: Studio, request_for: Request) -> None:
    job = scenes.recorded(studio, request_for)
    withdraw(studio, job)
    age(studio.stack, job.id, 31)

    workflow.start(job, Step("generate" if job.kind == "speech" else "submit"))

    ended = studio.wait(job.id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "model_gone")
    assert movements(studio, job.id) == [("hold", job.hold), ("release", job.hold)]
    assert studio.simulated(job.id)["create_count"] == 0
    studio.check_invariants()


@pytest.mark.parametrize("webhook", ["lost", "twice"])
def test_the_result_of_a_model_that_is_gone_is_stored_and_charged(studio: Studio, webhook: str) -> None:
    job = scenes.attempted(studio, f"a last picture [sim delay=0.5 webhook={webhook}]")
    withdraw(studio, job)

    workflow.start(job, Step("await"))
    if webhook == "lost":
        until(lambda: scenes.ended_prediction(studio, job.id))
        make_due(studio.stack, job.id)
        sweep(studio.stack)

    ended = studio.wait(job.id)
    assert (ended["status"], len(ended["assets"])) == ("succeeded", 1), ended["error"]
    assert movements(studio, job.id) == [("hold", 3), ("capture", 3)]
    studio.check_invariants()


MIXTURE = [
    ("[sim delay=0.5]", "succeeded"),
    ("[sim delay=0.5 webhook=twice]", "succeeded"),
    ("[sim delay=0.5 webhook=lost]", "succeeded"),
    ("[sim delay=0.5 webhook=reordered]", "succeeded"),
    ("[sim webhook=early]", "succeeded"),
    ("[sim create=drop-after-accept]", "succeeded"),
    ("[sim create=429 times=1]", "succeeded"),
    ("[sim create=refuse times=1]", "succeeded"),
    ("[sim create=500 times=1]", "succeeded"),
    ("[sim output=404 times=1]", "succeeded"),
    ("[sim delay=0.5 outcome=failed]", "failed"),
    ("[sim delay=0.5 outcome=canceled webhook=lost]", "canceled"),
]


def test_sweepers_in_the_midst_of_everything_change_no_end(new_studio: Callable[..., Studio]) -> None:
    studio = new_studio()
    jobs = [(studio.create(f"a mixture {directives}")["id"], directives, ends) for directives, ends in MIXTURE]

    with sweeping(studio.stack, *(job_id for job_id, _, _ in jobs), sweepers=3):
        ended = {job_id: studio.wait(job_id) for job_id, _, _ in jobs}

    for job_id, directives, ends in jobs:
        status = ended[job_id]["status"]
        assert status in TERMINAL
        assert status == ends, directives
        assert studio.simulated(job_id)["prediction_count"] == 1, directives
        assert movements(studio, job_id) == [("hold", 3), ("capture" if status == "succeeded" else "release", 3)]
