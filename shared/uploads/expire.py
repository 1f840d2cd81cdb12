"""What has had its time: uploads whose file never came, uploads that nobody has used, assets that were deleted.

Only what the index `due` names is looked at, never the whole table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.core import aws, dynamo
from shared.core.dynamo import Item, Refused
from shared.core.errors import NotFound
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.media import library
from shared.media.assets import Asset
from shared.uploads import table, transfer
from shared.uploads.table import Upload

ENOUGH_TIME_S = 10


@dataclass
class Report:
    """How many unfinished uploads were forgotten, unused ones deleted, deleted assets removed for good; how many of
    those that were due were in use; and how many must wait."""

    unfinished: int = 0
    unused: int = 0
    removed: int = 0
    in_use: int = 0
    failed: int = 0
    left: int = 0


def expire(time_left: Callable[[], float], users_of: Callable[[str], list[str]], now: float) -> Report:
    """Do what is due, while `time_left()` (seconds) lasts; `users_of` tells which projects use an asset."""
    report = Report()
    for item_id in _due(now):
        if time_left() < ENOUGH_TIME_S:
            report.left += 1
            continue
        try:
            _one(item_id, users_of, now, report)
        except Exception:  # noqa: BLE001 It stays due; the others are looked at.
            logger.exception("could not expire this", item=item_id)
            report.failed += 1
    count("ExpiryFailed", report.failed + report.left)
    logger.info("expired", **vars(report))
    return report


def _one(item_id: str, users_of: Callable[[str], list[str]], now: float, report: Report) -> None:
    item = dynamo.get(settings().assets_table, {"id": item_id})
    if item is None or item.get("due_at", now + 1) > now:
        return
    if item_id.startswith("up_"):
        _unfinished(Upload.of(item), now)
        report.unfinished += 1
    elif "deleted_at" in item:
        report.removed += _remove(item)
    elif users_of(item_id):
        library.keep(item_id, account=item["account"])
        report.in_use += 1
    else:
        try:
            library.delete(Asset.of(item), now)
            report.unused += 1
        except NotFound:
            logger.info("it was deleted meanwhile", asset=item_id)


def _unfinished(upload: Upload, now: float) -> None:
    """Forget an upload whose file has not come; one that could not be inspected is told to be so."""
    if upload.state == "inspecting":
        logger.error("an upload could not be inspected", upload=upload.id, account=upload.account)
        count("InspectionsFailed")
        table.reject(upload.id, "inspection_failed", "the file could not be inspected", now)
        transfer.discard(upload)
    elif upload.state == "waiting" and table.remove(upload):
        transfer.discard(upload)


def _remove(item: Item) -> int:
    """Remove a deleted asset and its files; 0 if it was restored meanwhile.

    The row is marked first, so that nobody can restore what loses its files, and goes last, so that a repeat finds what
    is left.
    """
    name, key = settings().assets_table, {"id": item["id"]}
    when, deleted = "deleted_at = :deleted", {"deleted": item["deleted_at"]}
    mark = dynamo.change(name, key, f"SET {dynamo.REMOVING} = :yes", when=when, values={**deleted, "yes": True})
    try:
        dynamo.update(mark)
        for file in (item["key"], *item.get("previews", {}).values()):
            transfer.delete(file)
        dynamo.remove(name, key, when=when, values=deleted)
    except Refused:
        return 0
    return 1


def _due(now: float) -> Iterator[str]:
    for shard in range(library.SHARDS):
        pages = (
            aws.dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=settings().assets_table,
                IndexName="due",
                KeyConditionExpression="due_shard = :shard AND due_at <= :now",
                ExpressionAttributeValues=dynamo.attributes({":shard": f"due#{shard}", ":now": int(now)}),
            )
        )
        yield from (str(dynamo.plain(item)["id"]) for page in pages for item in page["Items"])
