"""The sweeper: a job that nobody works on any more, or that nobody ever began to work on, still comes to its end."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError

from local.cloud import Stack
from tests.e2e.helpers import (
    IMAGE,
    at_once,
    check_assets,
    check_paid,
    check_problem,
    check_refunded,
    delivered,
    eventually,
    only_prediction,
)
from tests.support import Json, Studio, job_rows, rows, sweep

NewStudio = Callable[..., Studio]


def stop_while_waiting(studio: Studio, job: Json) -> None:
    """End the job's execution in Await, as an operator's mistake or an outage would."""
    eventually(lambda: "task_token" in row(studio, job["id"]), timeout=20, what="token on the job")
    studio.stack.client("stepfunctions").stop_execution(executionArn=execution(studio.stack, job["id"]))


def test_a_job_whose_execution_was_stopped_is_finished(studio: Studio) -> None:
    job = studio.create("[sim delay=1 webhook=lost]")
    stop_while_waiting(studio, job)

    eventually(lambda: sweep(studio.stack) or restarted(studio, job["id"]), timeout=20, what="new execution")

    job = studio.wait(job["id"])
    assert job["status"] == "succeeded"
    check_assets(studio, job)
    check_paid(studio, job, IMAGE)
    only_prediction(studio, job["id"])


def test_a_result_that_nobody_waited_for_is_used(studio: Studio) -> None:
    """The webhook is taken, although the execution that it should wake is gone."""
    job = studio.create("[sim delay=2]")
    stop_while_waiting(studio, job)
    prediction = eventually(
        lambda: delivered(only_prediction(studio, job["id"])) and only_prediction(studio, job["id"]),
        timeout=20,
        what="webhook",
    )
    assert delivered(prediction) == [200]

    eventually(lambda: sweep(studio.stack) or restarted(studio, job["id"]), timeout=20, what="new execution")

    job = studio.wait(job["id"])
    check_assets(studio, job)
    check_paid(studio, job, IMAGE)


def test_a_failure_that_nobody_waited_for_is_refunded(studio: Studio) -> None:
    job = studio.create("[sim delay=1 outcome=failed webhook=lost]")
    stop_while_waiting(studio, job)

    eventually(lambda: sweep(studio.stack) or restarted(studio, job["id"]), timeout=20, what="new execution")

    job = studio.wait(job["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_failed")
    check_refunded(studio, job)


def test_a_job_whose_execution_is_stopped_again_and_again_is_finished(studio: Studio) -> None:
    job = studio.create("[sim delay=1 webhook=lost create=500 times=1]")
    for number in range(3):
        name = f"{job['id']}-{number}" if number else job["id"]
        eventually(lambda name=name: sweep(studio.stack) or exists(studio.stack, name), timeout=20, what=name)
        studio.stack.client("stepfunctions").stop_execution(executionArn=execution(studio.stack, name))

    eventually(lambda: sweep(studio.stack) or exists(studio.stack, f"{job['id']}-3"), timeout=20, what="fourth one")

    job = studio.wait(job["id"])
    assert job["status"] == "succeeded"
    only_prediction(studio, job["id"])
    check_paid(studio, job, IMAGE)


def test_two_sweeps_at_once_restart_a_job_once(studio: Studio) -> None:
    job = studio.create("[sim outcome=never]")
    stop_while_waiting(studio, job)
    eventually(lambda: due(studio, job["id"]), timeout=20, what="job that is due")

    at_once([lambda: sweep(studio.stack)] * 4)

    assert row(studio, job["id"])["executions"] == 1
    assert exists(studio.stack, f"{job['id']}-1")
    assert not exists(studio.stack, f"{job['id']}-2")
    assert studio.http.post(f"/jobs/{job['id']}/cancel").status_code == 200
    assert studio.wait(job["id"])["status"] == "canceled"


def test_a_job_that_is_being_worked_on_is_left_alone(studio: Studio) -> None:
    job = studio.create("[sim outcome=never]")
    eventually(lambda: due(studio, job["id"]), timeout=20, what="job that is due")

    at_once([lambda: sweep(studio.stack)] * 2)

    assert row(studio, job["id"])["executions"] == 0
    assert not exists(studio.stack, f"{job['id']}-1")
    studio.http.post(f"/jobs/{job['id']}/cancel")
    assert studio.wait(job["id"])["status"] == "canceled"


def test_a_job_that_is_over_is_swept_no_more(studio: Studio) -> None:
    job = studio.run("[sim]")

    sweep(studio.stack)

    assert not {"sweep_at", "open_shard", "task_token"} & row(studio, job["id"]).keys()
    assert not exists(studio.stack, f"{job['id']}-1")


# Executions that never began


@contextmanager
def without_start_execution(stack: Stack, function: str) -> Iterator[None]:
    """Take the right to start executions from a function's role: its last call then fails, whatever went before."""
    iam, configuration = stack.client("iam"), stack.client("lambda")
    role = configuration.get_function_configuration(FunctionName=stack.functions[function])["Role"].rpartition("/")[2]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    whole = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    kept = [statement for statement in whole["Statement"] if statement["Action"] != "states:StartExecution"]
    assert len(kept) == len(whole["Statement"]) - 1
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps({**whole, "Statement": kept}))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(whole))


def test_jobs_whose_executions_never_began_are_finished(new_studio: NewStudio) -> None:
    """The caller was answered 500, but what was held, created and told by webhook is not lost."""
    expected = {
        "[sim]": "succeeded",
        "[sim webhook=lost]": "succeeded",
        "[sim outcome=failed]": "failed",
        "[sim create=429 times=1]": "succeeded",
        "[sim create=500 times=1]": "succeeded",
        "[sim create=drop-after-accept]": "succeeded",
    }
    studios = {prompt: new_studio() for prompt in expected}
    with without_start_execution(next(iter(studios.values())).stack, "CreateImageFunction"):
        answers = at_once(
            [lambda prompt=prompt: studios[prompt].http.post("/images", json={"prompt": prompt}) for prompt in expected]
        )
    for answer in answers:
        detail = check_problem(answer, 500, "internal_error")["detail"]
        assert "states" not in detail
        assert "AccessDenied" not in answer.text
    jobs = {prompt: job_rows(studio.stack, studio.account)[0]["id"] for prompt, studio in studios.items()}

    for prompt, job_id in jobs.items():
        studio = studios[prompt]
        eventually(
            lambda studio=studio, job_id=job_id: sweep(studio.stack) or exists(studio.stack, job_id),
            timeout=20,
            what=f"execution of {prompt}",
        )
    for prompt, job_id in jobs.items():
        job = studios[prompt].wait(job_id)
        assert job["status"] == expected[prompt], prompt
        only_prediction(studios[prompt], job_id)
        if job["status"] == "succeeded":
            check_assets(studios[prompt], job)
            check_paid(studios[prompt], job, IMAGE)
        else:
            check_refunded(studios[prompt], job)


# Behind the scenes


def row(studio: Studio, job_id: str) -> Json:
    """The job as the table has it."""
    return rows(studio.stack, "jobs", id=job_id)[0]


def due(studio: Studio, job_id: str) -> bool:
    """Whether the next sweep looks at the job."""
    return float(row(studio, job_id)["sweep_at"]) <= time.time()


def restarted(studio: Studio, job_id: str) -> bool:
    return exists(studio.stack, f"{job_id}-1")


def execution(stack: Stack, name: str) -> str:
    return stack.state_machines["generation"].replace(":stateMachine:", ":execution:") + f":{name}"


def exists(stack: Stack, name: str) -> bool:
    """Whether an execution of this name was ever started."""
    try:
        stack.client("stepfunctions").describe_execution(executionArn=execution(stack, name))
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        return False
    return True
