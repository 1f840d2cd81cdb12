"""What is left of projects by whoever does not live to tidy up: documents in the bucket that no version has, and the
histories of deleted projects.

Each stands in a list before it can be left over, and is taken off it in the transaction that gives a document its
version. So what is still there an hour later belongs to nobody, and `clear` deletes it without a look at the bucket or
at the versions: a live version's document has never been on the list since it lives.
"""

import zlib
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import aws, dynamo
from shared.core.dynamo import Item, Write
from shared.core.log import logger
from shared.core.settings import settings

SHARDS = 4
SETTLED_S = 3600
"""No function lives a quarter as long: what one of them was about has come to its end by then."""


def row(what: str, now: float) -> Item:
    """The list's entry of a document (its key in the bucket) or a deleted project (its id)."""
    shard = zlib.crc32(what.encode()) % SHARDS
    return {"list_id": f"leftover#{shard}", "entry": f"{int(now):012d}#{what}"}


def announce(entry: Item) -> None:
    """Put it on the list now."""
    dynamo.save(settings().project_lists_table, entry)


def added(entry: Item) -> Write:
    """A transaction's write that puts it on the list."""
    return {"Put": {"TableName": settings().project_lists_table, "Item": dynamo.attributes(entry)}}


def settled(entry: Item) -> Write:
    """A transaction's write that takes it off the list: from now on it is somebody's."""
    return {"Delete": {"TableName": settings().project_lists_table, "Key": dynamo.attributes(entry)}}


def name_of(entry: Item) -> str:
    """What an entry is about."""
    return str(entry["entry"]).partition("#")[2]


def done(entry: Item) -> None:
    """It is gone, and its entry may go."""
    dynamo.discard(settings().project_lists_table, entry)


def clear(entry: Item) -> None:
    """Delete the document, and then its entry, if it is on the list (still)."""
    if dynamo.get(settings().project_lists_table, entry) is None:
        return
    aws.s3().delete_object(Bucket=settings().media_bucket, Key=name_of(entry))
    done(entry)


def try_to_clear(entry: Item) -> None:
    """Delete the document if that goes at once; if not it stays on the list."""
    try:
        clear(entry)
    except (ClientError, BotoCoreError) as error:
        logger.warning("a document stays for the purge", key=name_of(entry), reason=str(error))


def due(now: float) -> Iterator[Item]:
    """The entries that are older than anybody who could still be at work on them."""
    for shard in range(SHARDS):
        yield from dynamo.partition(
            settings().project_lists_table,
            partition=("list_id", f"leftover#{shard}"),
            sort="entry",
            below=f"{int(now - SETTLED_S):012d}",
        )
