"""The audit behind the tables' streams: nothing that is written skips it, whoever writes, and nothing is told twice."""

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from local import replay
from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.acting import as_actor
from shared.core.clock import now
from shared.core.settings import settings
from shared.credits import ledger
from tests.support import Json, rows

pytestmark = pytest.mark.usefixtures("product")

SECRETS = {"hash": "5ecre7" * 10, "salt": "5ecre7-salt", "secrets": [{"secret": "whsec_5ecre75ecre75ecre7"}]}


@pytest.fixture
def account() -> str:
    return f"audit-{uuid4().hex[:12]}"


def told(stack: Stack, account: str, enough: Callable[[list[Json]], bool]) -> list[Json]:
    """The account's audit, oldest first, once there is enough in it."""
    deadline = time.monotonic() + 30
    while not enough(found := sorted(rows(stack, "audit", account=account), key=lambda row: row["at"])):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def invoke(stack: Stack, event: Json) -> Json:
    name = stack.functions["AuditFunction"]
    answer = stack.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
    payload: Json = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return payload


@pytest.mark.parametrize(
    ("table", "key"),
    [("jobs_table", "job_{}"), ("assets_table", "as_{}"), ("access_table", "key#{}")],
)
def test_every_audited_table_tells_its_changes_without_secrets(
    stack: Stack, account: str, table: str, key: str
) -> None:
    name = getattr(settings(), table)
    item = {"id": key.format(uuid4().hex), "account": account}
    with as_actor("alice", address="203.0.113.7", request_id="req-1"):
        dynamo.transact([dynamo.put(name, {**item, "state": "new", **SECRETS})])
    with as_actor("bob", request_id="req-2"):
        change = dynamo.change(
            name,
            {"id": item["id"]},
            "SET #s = :s",
            when="attribute_exists(id)",
            values={"s": "old"},
            names={"#s": "state"},
        )
        dynamo.update(change)
        dynamo.remove(name, {"id": item["id"]}, when="attribute_exists(id)", values={})

    found = told(stack, account, lambda found: len(found) >= 3)

    assert [(row["action"], row["actor"], row.get("address")) for row in found] == [
        ("created", "alice", "203.0.113.7"),
        ("changed", "bob", None),
        ("deleted", "bob", None),
    ]
    assert found[1]["changes"] == {"state": {"before": "new", "after": "old"}}
    assert "5ecre7" not in json.dumps(found, default=str)


def test_a_grant_is_told_with_every_item_that_it_wrote(stack: Stack, account: str) -> None:
    with as_actor("root", address="203.0.113.7", request_id="req-9"):
        ledger.grant_once(account, key="k", amount=5, now=now(), reason="welcome")

    found = told(stack, account, lambda found: len(found) >= 3)

    assert {(row["item"], row["actor"], row["request_id"]) for row in found} == {
        (item, "root", "req-9") for item in ("balance", "entry", "grant")
    }


def test_a_write_around_our_code_is_told_as_nobodys(stack: Stack, account: str) -> None:
    with as_actor("alice"):
        ledger.grant_once(account, key="k", amount=5, now=now(), reason=None)
    aws.dynamodb().update_item(
        TableName=settings().ledger_table,
        Key=dynamo.attributes({"account": account, "sort": "account"}),
        UpdateExpression="SET available = :more",
        ExpressionAttributeValues={":more": {"N": "500"}},
    )

    found = told(stack, account, lambda found: len(found) >= 4)

    assert (found[-1]["actor"], found[-1]["item"]) == ("system:unknown", "balance")
    assert found[-1]["changes"] == {"available": {"before": 5, "after": 500}}
    put_right = dynamo.change(
        settings().ledger_table,
        {"account": account, "sort": "account"},
        "SET available = :less",
        when="attribute_exists(version)",
        values={"less": 5},
    )
    dynamo.update(put_right)


def records(stack: Stack, account: str, **more: Any) -> Json:
    """What the jobs table's stream would say of a job that is gone."""
    table = stack.tables["jobs"]
    image = dynamo.attributes({"id": "job_x", "account": account, "status": "failed", "task_token": "5ecre7-token"})
    change = {"ApproximateCreationDateTime": now(), "SequenceNumber": "4421584500000000017450439091", "OldImage": image}
    arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}/stream/2026-09-01T08:00:00.000"
    return {
        "Records": [
            {"eventID": uuid4().hex, "eventName": "REMOVE", "eventSource": "aws:dynamodb", "dynamodb": change}
            | {"eventSourceARN": arn, **more}
        ]
    }


def test_a_record_that_is_delivered_again_adds_nothing(stack: Stack, account: str) -> None:
    event = records(stack, account)
    invoke(stack, event)
    once = rows(stack, "audit", account=account)

    invoke(stack, event)
    invoke(stack, {"Records": event["Records"] * 3})

    assert len(once) == 1
    assert rows(stack, "audit", account=account) == once


def test_what_a_ttl_has_removed_is_told_as_expired(stack: Stack, account: str) -> None:
    identity = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    invoke(stack, records(stack, account, userIdentity=identity))

    (row,) = rows(stack, "audit", account=account)
    assert (row["action"], row["actor"]) == ("expired", "system:expiry")
    assert row["changes"]["status"] == {"before": "failed"}
    assert "5ecre7" not in json.dumps(row, default=str)
    assert 399 * 86400 < float(row["expires_at"]) - time.time() <= 400 * 86400


def test_what_was_given_up_is_written_down_from_the_stream_itself(stack: Stack, account: str) -> None:
    """As if the function had failed: the entries are lost, and the range of their records is in the dead letters."""
    ledger.grant_once(account, key="k", amount=5, now=now(), reason=None)
    before = told(stack, account, lambda found: len(found) >= 3)
    for row in before:
        key = {name: {"S": row[name]} for name in ("account", "at")}
        aws.dynamodb().delete_item(TableName=settings().audit_table, Key=key)
    streams = stack.client("dynamodbstreams")
    (stream,) = streams.list_streams(TableName=stack.tables["ledger"])["Streams"]
    (shard,) = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
    numbers = sorted(int(row["at"].split("#")[1]) for row in before)
    known = streams.get_shard_iterator(
        StreamArn=stream["StreamArn"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    spelled = [
        record["dynamodb"]["SequenceNumber"]
        for record in _all_records(streams, known)
        if int(record["dynamodb"]["SequenceNumber"]) in numbers
    ]
    info = {"shardId": shard["ShardId"], "streamArn": stream["StreamArn"], "batchSize": len(spelled)}
    info |= {"startSequenceNumber": spelled[0], "endSequenceNumber": spelled[-1]}
    queue = replay._physical(stack.client, stack.stack_name, replay.QUEUE)
    stack.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps({"DDBStreamBatchInfo": info}))

    replayed, lost = replay.replay(stack.client, stack.stack_name)

    assert (replayed >= 3, lost) == (True, 0)
    after = sorted(rows(stack, "audit", account=account), key=lambda row: row["at"])
    assert after == before
    assert "Messages" not in stack.client("sqs").receive_message(QueueUrl=queue)


def _all_records(streams: Any, iterator: str) -> list[Json]:
    found: list[Json] = []
    while True:
        answer = streams.get_records(ShardIterator=iterator)
        found += answer["Records"]
        if not answer["Records"] or "NextShardIterator" not in answer:
            return found
        iterator = answer["NextShardIterator"]
