"""DynamoDB in plain Python values: items in and out, transactions that retry what may be retried, pages by cursor.

Every write goes through here, and whatever it writes to an audited table says who wrote it (`changed_by`).
"""

import base64
import binascii
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import batched
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from shared.core import aws
from shared.core.acting import acting
from shared.core.clock import iso, now
from shared.core.errors import BadRequest, Unavailable
from shared.core.log import logger
from shared.core.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
Write = Any
"""One member of TransactItems: `{"Put": {…}}` or `{"Update": {…}}` (boto3-stubs: TransactWriteItemTypeDef)."""

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()

TRANSACTION_ATTEMPTS = 12
READS = 3
WRITES = 8
WRITTEN_AT_ONCE = 25
LONGEST_KEY = 1024
"""Bytes of a sort key; those of a partition key may be twice as many, and no key of ours is a tenth of it."""

CHANGED_BY = "changed_by"
REMOVING = "removing"
"""Stands on an item from just before it is removed: its last signature is that of whoever removes it."""
SET = re.compile(r"\bSET\s+")


class Refused(Exception):
    """A condition did not hold. `found[i]` is the item that the i-th write met, None where it met no refusal."""

    def __init__(self, refusals: Sequence[bool], found: Sequence[Item | None]) -> None:
        super().__init__(f"condition refused at {[i for i, refusal in enumerate(refusals) if refusal]}")
        self.refusals = refusals
        self.found = found


def serialize(value: Any) -> Any:
    """A Python value as a DynamoDB attribute value."""
    return _serializer.serialize(_storable(value))


def attributes(values: Mapping[str, Any]) -> Any:
    """A mapping of names to Python values as one of names to attribute values."""
    return {name: serialize(value) for name, value in values.items()}


def plain(item: Mapping[str, Any]) -> Item:
    """An item as Python values: whole numbers are int, others float."""
    return {name: _natural(_deserializer.deserialize(value)) for name, value in item.items()}


def _storable(value: Any) -> Any:
    if isinstance(value, float):
        # Numbers as DynamoDB itself would write them: 1, not 1.0.
        return Decimal(int(value) if value.is_integer() else repr(value))
    if isinstance(value, Mapping):
        return {name: _storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return value


def _natural(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _natural(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_natural(inner) for inner in value]
    return value


def get(table: str, key: Item) -> Item | None:
    """The item as it is now (a consistent read)."""
    if any(len(str(part).encode("utf-8", "surrogatepass")) > LONGEST_KEY for part in key.values()):
        return None  # DynamoDB would call it a mistake; whoever asks with an id that somebody made up means no harm.
    answer = aws.dynamodb().get_item(TableName=table, Key=attributes(key), ConsistentRead=True)
    return plain(answer["Item"]) if "Item" in answer else None


def get_all(table: str, ids: Sequence[str], *, attributes_of: Sequence[str] = ()) -> dict[str, Item]:
    """The items of a table with the key `id` as they are now, by id, whole or only some attributes; at most 100. Raises
    Unavailable when the table does not give all of them."""
    keys: dict[str, Any] = {"Keys": [attributes({"id": one}) for one in ids], "ConsistentRead": True}
    if attributes_of:
        names = {f"#{number}": name for number, name in enumerate(attributes_of)}
        keys |= {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
    found: dict[str, Item] = {}
    wanted: Any = {table: keys}
    for _ in range(READS):
        answer = aws.dynamodb().batch_get_item(RequestItems=wanted)
        found |= {str(item["id"]): item for item in map(plain, answer.get("Responses", {}).get(table, []))}
        wanted = answer.get("UnprocessedKeys")
        if not wanted:
            return found
    raise Unavailable("Too much is happening at once; try again.", code="busy", retry_after=1)


def put(table: str, item: Item) -> Write:
    """A transaction's write of a new item; refused where one with its key exists."""
    first = next(iter(item))
    return {
        "Put": {
            "TableName": table,
            "Item": attributes(item),
            "ConditionExpression": "attribute_not_exists(#key)",
            "ExpressionAttributeNames": {"#key": first},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def change(
    table: str,
    key: Item,
    expression: str,
    *,
    when: str,
    values: Mapping[str, Any],
    names: Mapping[str, str] | None = None,
) -> Write:
    """A transaction's change of an item under the condition `when`; `values` are the `:name`s of both expressions."""
    update = {
        "TableName": table,
        "Key": attributes(key),
        "UpdateExpression": expression,
        "ConditionExpression": when,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if values:
        update["ExpressionAttributeValues"] = {f":{name}": serialize(value) for name, value in values.items()}
    if names:
        update["ExpressionAttributeNames"] = dict(names)
    return {"Update": update}


def update(write: Write, *, client: "DynamoDBClient | None" = None) -> Item:
    """Apply one `change` alone and return the item after it. Raises Refused with the item it met."""
    try:
        answer = (client or aws.dynamodb()).update_item(**_signed(write)["Update"], ReturnValues="ALL_NEW")
    except ClientError as error:
        _raise_refused(error)
        raise
    return plain(answer["Attributes"])


def save(table: str, item: Item) -> None:
    """Put an item in the place of whatever is there."""
    write: Write = {"Put": {"TableName": table, "Item": attributes(item)}}
    aws.dynamodb().put_item(**_signed(write)["Put"])


def remove(
    table: str, key: Item, *, when: str, values: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> None:
    """Delete an item of an audited table under the condition `when`. Raises Refused with the item it met.

    The item is signed first: one that is gone cannot say who has removed it.
    """
    sign = change(table, key, f"SET {REMOVING} = :yes", when=when, values={**values, "yes": True}, names=names)
    signed = update(sign)
    try:
        aws.dynamodb().delete_item(
            TableName=table,
            Key=attributes(key),
            ConditionExpression="changed_by = :signed",
            ExpressionAttributeValues=attributes({":signed": signed[CHANGED_BY]}),
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        _raise_refused(error)
        raise


def put_all(table: str, items: Sequence[Item]) -> None:
    """Put any number of items in the place of whatever is there, of a table that is not audited. They come about one by
    one. Raises Unavailable when the table does not take all of them."""
    _write_all(table, [{"PutRequest": {"Item": attributes(item)}} for item in items])


def delete_all(table: str, keys: Sequence[Item]) -> None:
    """Delete any number of items of a table that is not audited, whether they are there or not; as `put_all`."""
    _write_all(table, [{"DeleteRequest": {"Key": attributes(key)}} for key in keys])


def _write_all(table: str, requests: Sequence[Any]) -> None:
    for some in batched(requests, WRITTEN_AT_ONCE, strict=False):
        left: Any = {table: list(some)}
        for attempt in range(WRITES):
            left = aws.dynamodb().batch_write_item(RequestItems=left).get("UnprocessedItems")
            if not left:
                break
            time.sleep(random.uniform(0, min(0.02 * 2**attempt, 0.5)))
        else:
            raise Unavailable("Too much is happening at once; try again.", code="busy", retry_after=1)


def discard(
    table: str,
    key: Item,
    *,
    when: str | None = None,
    values: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Delete an item of a table that is not audited, whether it is there or not; under the condition `when`, if one is
    given. Raises Refused."""
    condition: Any = {}
    if when is not None:
        condition = {
            "ConditionExpression": when,
            "ExpressionAttributeValues": attributes({f":{name}": value for name, value in (values or {}).items()}),
        }
        condition |= {"ExpressionAttributeNames": dict(names)} if names else {}
    try:
        aws.dynamodb().delete_item(TableName=table, Key=attributes(key), **condition)
    except ClientError as error:
        _raise_refused(error)
        raise


def _raise_refused(error: ClientError) -> None:
    """Raise Refused with the item that the condition of a single write met, if it was the condition."""
    if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
        met: Any = error.response.get("Item")
        raise Refused([True], [plain(met) if met else None]) from error


def _audited() -> tuple[str, ...]:
    told = settings()
    return (
        told.jobs_table,
        told.ledger_table,
        told.assets_table,
        told.access_table,
        told.publications_table,
        told.projects_table,
    )


def _signed(write: Write) -> Write:
    """The write with who does it and when, where the table is audited. The time tells two writes of one actor apart, so
    that a write which goes around this code is seen to be nobody's."""
    (kind, what), *_ = write.items()
    if what["TableName"] not in _audited() or kind not in ("Put", "Update"):
        return write
    actor = acting()
    told = {"actor": actor.name, "address": actor.address, "request_id": actor.request_id, "at": iso(now())}
    by = serialize({name: value for name, value in told.items() if value})
    if kind == "Put":
        return {kind: {**what, "Item": {**what["Item"], CHANGED_BY: by}}}
    expression, found = SET.subn("SET changed_by = :changed_by, ", what["UpdateExpression"], count=1)
    if not found:
        expression += " SET changed_by = :changed_by"
    values = {**what.get("ExpressionAttributeValues", {}), ":changed_by": by}
    return {kind: {**what, "UpdateExpression": expression, "ExpressionAttributeValues": values}}


def transact(writes: Sequence[Write]) -> None:
    """All the writes or none. Raises Refused when a condition does not hold.

    botocore does not retry a cancelled transaction. Only a conflict with another transaction is worth it, with jitter;
    a refused condition is an answer.
    """
    signed = [_signed(write) for write in writes]
    for attempt in range(TRANSACTION_ATTEMPTS):
        try:
            aws.dynamodb().transact_write_items(TransactItems=signed)
            return
        except ClientError as error:
            reasons: list[dict[str, Any]] = error.response.get("CancellationReasons", [])  # type: ignore[assignment]
            codes = {reason.get("Code") for reason in reasons}
            if "ConditionalCheckFailed" in codes:
                refusals = [reason.get("Code") == "ConditionalCheckFailed" for reason in reasons]
                found = [plain(reason["Item"]) if reason.get("Item") else None for reason in reasons]
                raise Refused(refusals, found) from error
            in_progress = error.response["Error"]["Code"] == "TransactionInProgressException"
            if not in_progress and not (codes and codes <= {"TransactionConflict", "ThrottlingError", "None", None}):
                raise
        time.sleep(random.uniform(0, min(0.02 * 2**attempt, 0.5)))
    logger.error("transaction gave up", attempts=TRANSACTION_ATTEMPTS)
    raise Unavailable("Too much is happening on this account at once; try again.", code="busy", retry_after=1)


LOOKED_AT = 100
"""How many items are looked at for a page with a filter: a long list answers as fast as a short one, a page at a
time."""


def page(
    table: str,
    *,
    partition: tuple[str, str],
    sort: tuple[str, str],
    index: str | None = None,
    limit: int,
    cursor: str | None,
    also_key: str | None = None,
    where: Mapping[str, str] | None = None,
) -> tuple[list[Item], str | None]:
    """A page of a partition, newest (highest sort key) first, and the cursor of the next page.

    `partition` is (attribute, value), `sort` (attribute, prefix); `also_key` names the table's own key where `index`
    is given: it must be what follows the first `#` of the sort value. `where` filters on equality; such a page may be
    short, or empty, and yet have a next one. A cursor says only a sort value: the partition is always the caller's own,
    so a cursor of somebody else's list opens nothing.
    """
    names = {"#partition": partition[0]}
    values: Item = {":partition": partition[1]}
    condition = "#partition = :partition"
    if sort[1]:  # DynamoDB refuses an empty prefix.
        names["#sort"], values[":prefix"] = sort
        condition += " AND begins_with(#sort, :prefix)"
    filters = []
    for number, (name, value) in enumerate((where or {}).items()):
        names[f"#f{number}"], values[f":f{number}"] = name, value
        filters.append(f"#f{number} = :f{number}")
    query: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": attributes(values),
        "ScanIndexForward": False,
    }
    if index:
        query["IndexName"] = index
    if filters:
        query["FilterExpression"] = " AND ".join(filters)

    items: list[Item] = []
    after = read_cursor(cursor, sort[1])
    while len(items) <= limit:
        if after:
            start = {partition[0]: partition[1], sort[0]: after}
            if also_key:
                start[also_key] = after.partition("#")[2]
            query["ExclusiveStartKey"] = attributes(start)
        answer = aws.dynamodb().query(**query, Limit=LOOKED_AT if filters else limit + 1)
        items += [plain(item) for item in answer["Items"]]
        last = answer.get("LastEvaluatedKey")
        after = plain(last)[sort[0]] if last else None
        if filters or after is None:
            break
    if len(items) > limit:
        items = items[:limit]
        after = items[-1][sort[0]]
    return items, write_cursor(after) if after is not None else None


def partition(
    table: str,
    *,
    partition: tuple[str, str],
    sort: str,
    below: str | None = None,
    newest_first: bool = False,
) -> Iterator[Item]:
    """The items of a partition as they are now (consistent reads), in the order of their sort values, those that are
    lower than `below`; read as far as they are asked for."""
    names, values = {"#partition": partition[0]}, {":partition": partition[1]}
    condition = "#partition = :partition"
    if below is not None:
        names["#sort"], values[":below"] = sort, below
        condition += " AND #sort < :below"
    pages = (
        aws.dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=table,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=attributes(values),
            ConsistentRead=True,
            ScanIndexForward=not newest_first,
        )
    )
    yield from (plain(item) for found in pages for item in found["Items"])


def newest(
    table: str,
    *,
    partition: tuple[str, str],
    sort: str,
    low: str,
    high: str,
    limit: int,
    index: str | None = None,
    where: Mapping[str, str] | None = None,
) -> list[Item]:
    """At most `limit` items of a partition whose sort value is at least `low` and below `high`, newest first; `where`
    filters on equality."""
    filters = {name: serialize(value) for name, value in (where or {}).items()}
    query: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "#partition = :partition AND #sort BETWEEN :low AND :high",
        "ExpressionAttributeNames": {
            "#partition": partition[0],
            "#sort": sort,
            **{f"#w_{name}": name for name in filters},
        },
        "ExpressionAttributeValues": {
            **attributes({":partition": partition[1], ":low": low, ":high": high}),
            **{f":w_{name}": value for name, value in filters.items()},
        },
        "ScanIndexForward": False,
        "Limit": limit + 1,
    }
    if index:
        query["IndexName"] = index
    if filters:
        query["FilterExpression"] = " AND ".join(f"#w_{name} = :w_{name}" for name in filters)
    found: list[Item] = []
    while len(found) < limit:
        answer = aws.dynamodb().query(**query)
        found += [item for item in map(plain, answer["Items"]) if item[sort] != high]
        if "LastEvaluatedKey" not in answer:
            break
        query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    return found[:limit]


def many(table: str, keys: Sequence[Item]) -> list[Item]:
    """The items with these keys (at most 100), in their order; what is not there is left out."""
    found: list[Item] = []
    request: Any = {table: {"Keys": [attributes(key) for key in keys]}} if keys else None
    while request:
        answer = aws.dynamodb().batch_get_item(RequestItems=request)
        found += [plain(item) for item in answer["Responses"].get(table, [])]
        request = answer.get("UnprocessedKeys")
    return [item for key in keys for item in found if all(item[name] == value for name, value in key.items())]


def write_cursor(sort_value: str) -> str:
    """The cursor that goes on after the item with this sort value."""
    return base64.urlsafe_b64encode(sort_value.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, prefix: str) -> str | None:
    """The sort value of a cursor of ours. Raises BadRequest for anything else."""
    if cursor is None:
        return None
    try:
        value = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        value = ""
    readable = value.isascii() and value.isprintable() and 0 < len(value) <= 200
    # Every sort value of ours goes on after its last #; what follows there becomes a key, which cannot be empty.
    if not readable or not value.startswith(prefix) or value.endswith("#"):
        raise BadRequest("This cursor is not one of ours.", code="bad_cursor")
    return value
