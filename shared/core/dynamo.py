"""DynamoDB in plain Python values: items in and out, transactions that retry what may be retried, pages by cursor."""

import base64
import binascii
import random
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from shared.core import aws
from shared.core.errors import BadRequest, Unavailable
from shared.core.log import logger

Item = dict[str, Any]
Write = Any
"""One member of TransactItems: `{"Put": {…}}` or `{"Update": {…}}` (boto3-stubs: TransactWriteItemTypeDef)."""

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()

TRANSACTION_ATTEMPTS = 12


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
    answer = aws.dynamodb().get_item(TableName=table, Key=attributes(key), ConsistentRead=True)
    return plain(answer["Item"]) if "Item" in answer else None


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


def update(write: Write) -> Item:
    """Apply one `change` alone and return the item after it. Raises Refused with the item it met."""
    try:
        answer = aws.dynamodb().update_item(**write["Update"], ReturnValues="ALL_NEW")
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        met: Any = error.response.get("Item")
        raise Refused([True], [plain(met) if met else None]) from error
    return plain(answer["Attributes"])


def transact(writes: Sequence[Write]) -> None:
    """All the writes or none. Raises Refused when a condition does not hold.

    botocore does not retry a cancelled transaction. Only a conflict with another transaction is worth it, with jitter;
    a refused condition is an answer.
    """
    for attempt in range(TRANSACTION_ATTEMPTS):
        try:
            aws.dynamodb().transact_write_items(TransactItems=[*writes])
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
    is given: it must be what follows the last `#` of the sort value. `where` filters on equality. A cursor says only a
    sort value: the partition is always the caller's own, so a cursor of somebody else's list opens nothing.
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
    after = _read_cursor(cursor, sort[1])
    while len(items) <= limit:
        if after:
            start = {partition[0]: partition[1], sort[0]: after}
            if also_key:
                start[also_key] = after.rpartition("#")[2]
            query["ExclusiveStartKey"] = attributes(start)
        answer = aws.dynamodb().query(**query, Limit=limit + 1 if not filters else 100)
        items += [plain(item) for item in answer["Items"]]
        last = answer.get("LastEvaluatedKey")
        if not last:
            break
        after = plain(last)[sort[0]]
    more = len(items) > limit
    items = items[:limit]
    return items, _write_cursor(items[-1][sort[0]]) if more else None


def _write_cursor(sort_value: str) -> str:
    return base64.urlsafe_b64encode(sort_value.encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None, prefix: str) -> str | None:
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
