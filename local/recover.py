"""`make recover`: run the recovery of lost predictions now, on the local cloud or on AWS (STACK=name), and tell what it
found."""

import json
import sys
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import CloudError, Stack
from local.up import state_dir

FUNCTION = "RecoverJobsFunction"
WORDS = {
    "listed": "predictions listed by providers",
    "settled": "of them settled already",
    "recovered": "of all recovered: adopted, recorded, or kept as late successes",
    "nobodys": "belong to no job (see the log)",
    "asked": "timed-out jobs asked about again",
    "forgotten": "of them need not be asked about any more",
    "silent": "providers or jobs that could not be asked",
    "failed": "could not be looked at (see the log)",
}


def main(stack_name: str | None) -> int:
    try:
        report = _on_aws(stack_name) if stack_name else locally(Stack.load(state_dir()))
    except (CloudError, ClientError, BotoCoreError) as error:
        print(f"recover: {error}", file=sys.stderr)
        return 1
    for name, words in WORDS.items():
        print(f"{report[name]:6d}  {words}")
    return 0


def locally(stack: Stack) -> dict[str, int]:
    """Run it on a local cloud; what it has counted."""
    return _invoke(stack.client("lambda"), stack.functions[FUNCTION])


def _on_aws(stack_name: str) -> dict[str, int]:
    found = boto3.client("cloudformation").describe_stack_resource(StackName=stack_name, LogicalResourceId=FUNCTION)
    client = boto3.client("lambda", config=Config(read_timeout=300, retries={"total_max_attempts": 1}))
    return _invoke(client, found["StackResourceDetail"]["PhysicalResourceId"])


def _invoke(client: Any, name: str) -> dict[str, int]:
    answer = client.invoke(FunctionName=name, Payload=b"{}")
    text = answer["Payload"].read()
    if "FunctionError" in answer:
        raise CloudError(f"the function failed: {text.decode(errors='replace')}")
    report: dict[str, int] = json.loads(text)
    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else None))
