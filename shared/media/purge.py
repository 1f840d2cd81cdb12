"""Files without an asset: what was written to the bucket by somebody who did not live to record it.

Only assets that were announced over a day ago and not recorded at the first try are looked at (the index `pending`),
and of the bucket only the few keys that such an asset can have.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shared.core import aws, dynamo
from shared.core.dynamo import Item, Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.media import assets

AFTER_S = 86400
ENOUGH_TIME_S = 10


@dataclass
class Report:
    """How many announced assets were looked at, how many files belonged to none of them, and how many must wait."""

    checked: int = 0
    deleted: int = 0
    failed: int = 0
    left: int = 0


def purge(time_left: Callable[[], float], now: float) -> Report:
    """Delete the files of assets that never came about, while `time_left()` (seconds) lasts."""
    report = Report()
    for asset_id in _due(now - AFTER_S):
        if time_left() < ENOUGH_TIME_S:
            report.left += 1
            continue
        try:
            report.deleted += _tidy(asset_id, now)
            report.checked += 1
        except Exception:  # noqa: BLE001 It stays due; the others are looked at.
            logger.exception("could not look at this asset", asset=asset_id)
            report.failed += 1
    count("OrphanedObjects", report.deleted)
    count("AssetsNotPurged", report.failed + report.left)
    logger.info("purged", **vars(report))
    return report


def _tidy(asset_id: str, now: float) -> int:
    """Delete the files under the asset's name that are not the asset's; how many they were."""
    table, key = settings().assets_table, {"id": asset_id}
    try:
        # Whoever stores it again announces it again, so from here on nobody has begun to since a day ago.
        claim = {"claim": int(now), "before": now - AFTER_S}
        write = dynamo.change(table, key, "SET pending_at = :claim", when="pending_at <= :before", values=claim)
        item = dynamo.update(write)
        own = {item.get("key"), *item.get("previews", {}).values()}
        orphans = [name for name in _keys(asset_id) if name not in own]
        for name in orphans:
            logger.warning("a file without an asset", key=name, job_id=item.get("job_id"))
            aws.s3().delete_object(Bucket=settings().media_bucket, Key=name)
        _done(table, key, item)
    except Refused:
        logger.info("it is being stored again", asset=asset_id)
        return 0
    return len(orphans)


def _done(table: str, key: Item, item: Item) -> None:
    """Take it off the list. Raises Refused if somebody has announced it again."""
    claimed = {"claimed": item["pending_at"]}
    if "key" in item:
        unmark = "REMOVE pending_shard, pending_at"
        dynamo.update(dynamo.change(table, key, unmark, when="pending_at = :claimed", values=claimed))
    else:
        unrecorded = "pending_at = :claimed AND attribute_not_exists(#key)"
        dynamo.remove(table, key, when=unrecorded, names={"#key": "key"}, values=claimed)


def _due(before: float) -> Iterator[str]:
    for shard in range(assets.SHARDS):
        pages = (
            aws.dynamodb()
            .get_paginator("query")
            .paginate(
                TableName=settings().assets_table,
                IndexName="pending",
                KeyConditionExpression="pending_shard = :shard AND pending_at <= :before",
                ExpressionAttributeValues=dynamo.attributes({":shard": f"pending#{shard}", ":before": int(before)}),
            )
        )
        yield from (str(dynamo.plain(item)["id"]) for page in pages for item in page["Items"])


def _keys(asset_id: str) -> list[str]:
    """The keys of the bucket that are the asset's by their name: at the most one for each type of files, and its
    previews."""
    answer = aws.s3().list_objects_v2(Bucket=settings().media_bucket, Prefix=f"assets/{asset_id}.")
    return [found["Key"] for found in answer.get("Contents", [])]
