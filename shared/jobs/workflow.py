"""The generation's state machine: starting an execution, waking one that waits, asking whether one runs."""

import json

from botocore.exceptions import ClientError

from shared.core import aws
from shared.core.log import logger
from shared.core.settings import IN_HOUSE, settings
from shared.jobs.steps import Step
from shared.jobs.table import Job
from shared.providers.registry import PREDICTORS

# The task is over (done, timed out or never was): whoever waited there has gone on, and the result is on the job.
NOBODY_WAITS = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


def name(job: Job) -> str:
    """The execution's name: the job's id, so that starting it twice is starting it once; then `-1`, `-2` … for the
    sweeper's restarts."""
    return job.id if job.executions == 0 else f"{job.id}-{job.executions}"


def first(job: Job) -> Step:
    """Where the way of a job begins that nobody has begun to work on."""
    if job.provider == IN_HOUSE:
        return Step("listen")
    return Step("submit" if job.provider in PREDICTORS else "generate")


def start(job: Job, step: Step, *, called: str | None = None) -> None:
    """Start the job's execution at `step`; one that was started already under this name is left alone."""
    try:
        aws.stepfunctions().start_execution(
            stateMachineArn=settings().generation_arn,
            name=called or name(job),
            input=json.dumps({**step.state(job.id), "request_id": job.request_id}),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
            raise


def wake(job: Job) -> None:
    """Let the execution that waits for the job's result go on, if one does."""
    if job.task_token is None:
        return
    try:
        output = json.dumps({"job_id": job.id, "next": "store"})
        aws.stepfunctions().send_task_success(taskToken=job.task_token, output=output)
    except ClientError as error:
        if error.response["Error"]["Code"] not in NOBODY_WAITS:
            raise
        logger.info("nobody waits for this result", reason=error.response["Error"]["Code"])


def status(job: Job) -> str | None:
    """RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED; None when there is no such execution."""
    arn = settings().generation_arn.replace(":stateMachine:", ":execution:") + f":{name(job)}"
    try:
        return aws.stepfunctions().describe_execution(executionArn=arn)["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        return None
