"""The publishing state machine: starting an execution, asking whether one runs."""

import json

from botocore.exceptions import ClientError

from shared.core import aws
from shared.core.settings import settings
from shared.publishing.steps import Step
from shared.publishing.table import Publication


def name(publication: Publication) -> str:
    """The execution's name: the publication's id, so that starting it twice is starting it once; then `-1`, `-2` …
    for the sweeper's restarts."""
    return publication.id if publication.executions == 0 else f"{publication.id}-{publication.executions}"


def start(publication: Publication, step: Step) -> None:
    """Start the publication's execution at `step`; one that was started already under this name is left alone."""
    try:
        aws.stepfunctions().start_execution(
            stateMachineArn=settings().publishing_arn,
            name=name(publication),
            input=json.dumps({**step.state(publication.id), "request_id": publication.request_id}),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
            raise


def running(publication: Publication) -> bool | None:
    """Whether its execution runs; None when there is no such execution."""
    arn = settings().publishing_arn.replace(":stateMachine:", ":execution:") + f":{name(publication)}"
    try:
        return aws.stepfunctions().describe_execution(executionArn=arn)["status"] == "RUNNING"
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        return None
