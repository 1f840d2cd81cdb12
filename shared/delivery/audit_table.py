"""The audit as it is kept and read: one partition per account, two indexes of keys by resource and by day.

    account, at           the table: `at` is the time, then what makes it the only one and keeps the stream's order
    resource, at          index by_resource
    day (and shard), at   index by_day, for administrators

The indexes hold keys only, since an entry is written once and read hardly ever.
"""

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from shared.core import dynamo
from shared.core.clock import iso
from shared.core.dynamo import Item
from shared.core.errors import BadRequest
from shared.core.settings import settings
from shared.delivery import audit

CURSOR = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z#\d{40}#[0-9a-f]{8}")


@dataclass(frozen=True)
class Search:
    """What is asked for; `since` and `until` are epoch seconds, and `until` itself is not in it."""

    since: float
    until: float
    account: str | None = None
    resource: str | None = None


def save(row: Item) -> None:
    """Keep an entry; once more is still once."""
    dynamo.save(settings().audit_table, row)


def page(search: Search, *, limit: int, cursor: str | None) -> tuple[list[Item], str | None]:
    """A page of what is found, newest first, and the cursor of the next."""
    low, high = iso(search.since), min(iso(search.until), _after(cursor))
    if high <= low:
        return [], None
    if search.resource:
        keys = _newest("resource", search.resource, low, high, limit + 1, index="by_resource", account=search.account)
    elif search.account:
        keys = _newest("account", search.account, low, high, limit + 1)
    else:
        keys = list(islice(_by_day(low, high, limit + 1), limit + 1))
    more = len(keys) > limit
    keys = keys[:limit]
    whole = keys if not search.resource and search.account else _whole(keys)
    return whole, dynamo.write_cursor(keys[-1]["at"]) if more else None


def _after(cursor: str | None) -> str:
    value = dynamo.read_cursor(cursor, "") or "~"
    if cursor is not None and (not CURSOR.fullmatch(value) or not _is_date(value[:10])):
        raise BadRequest("This cursor is not one of ours.", code="bad_cursor")
    return value


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _newest(
    name: str, value: str, low: str, high: str, limit: int, *, index: str | None = None, account: str | None = None
) -> list[Item]:
    where = {"account": account} if index and account else None
    table = settings().audit_table
    return dynamo.newest(
        table, partition=(name, value), sort="at", low=low, high=high, limit=limit, index=index, where=where
    )


def _by_day(low: str, high: str, limit: int) -> Iterator[Item]:
    """Keys of the entries of all accounts, day by day, newest first."""
    last = min(high, iso(datetime.now(UTC).timestamp() + 60))
    date = datetime.fromisoformat(last[:10]).date()
    while low[:10] <= date.isoformat():
        shards = [
            _newest("day", audit.day(date.isoformat(), shard), low, high, limit, index="by_day")
            for shard in range(audit.SHARDS)
        ]
        yield from heapq.merge(*shards, key=lambda item: str(item["at"]), reverse=True)
        date -= timedelta(days=1)


def _whole(keys: list[Item]) -> list[Item]:
    """The entries of keys that an index has told, in their order."""
    wanted: list[dict[str, Any]] = [{"account": key["account"], "at": key["at"]} for key in keys]
    return dynamo.many(settings().audit_table, wanted)
