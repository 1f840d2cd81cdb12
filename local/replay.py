"""`make replay`: write down what the audit has missed, locally or on AWS (STACK=name).

A message of AuditDeadLetters names a range of a stream's records that AuditFunction could not write down. The stream
has the records themselves for a day; they are handed to the function again, and the message is deleted once it has
taken them.
"""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import batched
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import CloudError, Stack
from local.scheduled import stack_of
from local.up import state_dir

FUNCTION, QUEUE = "AuditFunction", "AuditDeadLetters"
BATCH = 50

type Json = dict[str, Any]
type Clients = Callable[..., Any]


def main(stack_name: str | None) -> int:
    try:
        if stack_name:
            replayed, lost = replay(boto3.client, stack_name)
        else:
            stack = Stack.load(state_dir())
            replayed, lost = replay(stack.client, stack.stack_name)
    except (CloudError, ClientError, BotoCoreError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    print(f"{replayed:6d}  records written down")
    print(f"{lost:6d}  ranges that their stream no longer has; their messages stay in {QUEUE}")
    return 1 if lost else 0


def replay(client: Clients, stack_name: str) -> tuple[int, int]:
    """How many records were handed over again, and how many messages name records that are gone."""
    queue, function = (_physical(client, stack_name, name) for name in (QUEUE, FUNCTION))
    replayed = lost = 0
    while messages := client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            told = json.loads(message["Body"])["DDBStreamBatchInfo"]
            try:
                records = list(_records(client("dynamodbstreams"), told))
            except client("dynamodbstreams").exceptions.TrimmedDataAccessException:
                lost += 1
                continue
            for some in batched(records, BATCH, strict=False):
                _hand_over(client("lambda"), function, list(some))
            client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            replayed += len(records)
    return replayed, lost


def _physical(client: Clients, stack_name: str, logical: str) -> str:
    found = client("cloudformation").describe_stack_resource(StackName=stack_name, LogicalResourceId=logical)
    name: str = found["StackResourceDetail"]["PhysicalResourceId"]
    return name


def _records(streams: Any, told: Json) -> Iterator[Json]:
    """The records of a range, as Lambda would get them."""
    iterator = streams.get_shard_iterator(
        StreamArn=told["streamArn"],
        ShardId=told["shardId"],
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        SequenceNumber=told["startSequenceNumber"],
    ).get("ShardIterator")
    while iterator:
        answer = streams.get_records(ShardIterator=iterator)
        for record in answer["Records"]:
            change = record["dynamodb"]
            if int(change["SequenceNumber"]) > int(told["endSequenceNumber"]):
                return
            time = change["ApproximateCreationDateTime"].timestamp()
            yield {
                **record,
                "eventSourceARN": told["streamArn"],
                "dynamodb": {**change, "ApproximateCreationDateTime": time},
            }
        if not answer["Records"]:
            return
        iterator = answer.get("NextShardIterator")


def _hand_over(client: Any, function: str, records: list[Json]) -> None:
    answer = client.invoke(FunctionName=function, Payload=json.dumps({"Records": records}).encode())
    text = answer["Payload"].read().decode(errors="replace")
    if "FunctionError" in answer or json.loads(text)["batchItemFailures"]:
        raise CloudError(f"{FUNCTION} could not write them down: {text}")


if __name__ == "__main__":
    sys.exit(main(stack_of(sys.argv[1:])))
