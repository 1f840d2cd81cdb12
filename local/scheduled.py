"""Running a scheduled function now, on the local cloud or on AWS, and telling in words what it reports."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import CloudError, Stack
from local.up import state_dir

LONGEST_S = 900


def run(name: str, function: str, words: Mapping[str, str], stack_name: str | None) -> dict[str, int] | None:
    """Invoke the function of this logical id and print its report; None if that cannot be done, which is printed."""
    try:
        report = _on_aws(function, stack_name) if stack_name else locally(function, Stack.load(state_dir()))
    except (CloudError, ClientError, BotoCoreError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    for field, meaning in words.items():
        print(f"{report[field]:6d}  {meaning}")
    return report


def stack_of(arguments: list[str]) -> str | None:
    """The stack that the command line names; None for the local cloud."""
    return arguments[0] if arguments and arguments[0] else None


def locally(function: str, stack: Stack) -> dict[str, int]:
    """Invoke it on a local cloud; what it reports."""
    return _invoke(stack.client("lambda"), stack.functions[function])


def _on_aws(function: str, stack_name: str) -> dict[str, int]:
    found = boto3.client("cloudformation").describe_stack_resource(StackName=stack_name, LogicalResourceId=function)
    client = boto3.client("lambda", config=Config(read_timeout=LONGEST_S, retries={"total_max_attempts": 1}))
    return _invoke(client, found["StackResourceDetail"]["PhysicalResourceId"])


def _invoke(client: Any, name: str) -> dict[str, int]:
    answer = client.invoke(FunctionName=name, Payload=b"{}")
    text = answer["Payload"].read()
    if "FunctionError" in answer:
        raise CloudError(f"the function failed: {text.decode(errors='replace')}")
    report: dict[str, int] = json.loads(text)
    return report
