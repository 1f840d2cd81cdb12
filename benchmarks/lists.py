"""What a page of a list takes of a short and of a long one: 100 items and 100,000.

The emulator sorts everything that an index has for each query, so its times say nothing of DynamoDB's. What a page asks
of DynamoDB does: how many calls, and how many items these look at (`ScannedCount`), which is what is billed and waited
for. What is left, the time of our own processor, is told beside it. The code runs in this process, against tables like
those of the stack but without streams: nobody is to be told of a hundred thousand inventions.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import batched
from typing import Any
from uuid import uuid4

from benchmarks.report import Row
from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.clock import iso
from shared.core.dynamo import Item
from shared.credits import ledger
from shared.jobs import table as jobs
from shared.media import library
from shared.media.library import Wanted
from shared.projects import table as projects
from shared.projects import usage
from shared.publishing import table as publications
from shared.publishing.table import Publication, Target
from tests.inside import inside
from tests.support import Json, Studio, rows

SHORT, LONG = 100, 100_000
LIMIT = 1.3
PAGE = 20
TIMES = {SHORT: 15, LONG: 2}
WRITERS = 4
KINDS = ("image", "portrait", "video", "music")
TABLES = ("jobs", "assets", "publications", "ledger", "projects", "project_lists")

type Call = Callable[[str], object]


@dataclass(frozen=True)
class Taken:
    """By one page: calls of DynamoDB, items that these have looked at, seconds of our own processor."""

    calls: int
    looked_at: int
    seconds: float

    def __truediv__(self, other: "Taken") -> float:
        """The worse of the ratios of what is asked of DynamoDB."""
        return max(self.calls / other.calls, self.looked_at / other.looked_at)


def pages(stack: Stack) -> list[Row]:
    """A row for each list."""
    studio = Studio(stack, "bench-lists")
    studio.grant(100)
    one = _one_of_each(studio)
    names = {name: _like(stack, name) for name in TABLES}
    with inside(stack, **{f"{name.upper()}_TABLE": table for name, table in names.items()}):
        for account, count in ((f"short-{SHORT}", SHORT), (f"long-{LONG}", LONG)):
            for name, row in one.items():
                _fill(names[name], row, account, count)
            _saved_often(names["projects"], account, count)
            _edited(names["projects"], account, count)
        return [_row(name, call) for name, call in LISTS.items()]


def _saved(account: str) -> object:
    return projects.versions(account, f"pr_{account.partition('-')[0]}", limit=PAGE, cursor=None)


def _users(account: str) -> None:
    assert len(usage.of_asset(f"as_logo{account.partition('-')[0]}")) == 3


LISTS: Mapping[str, Call] = {
    "assets": lambda account: library.page(account, Wanted(), limit=PAGE, cursor=None),
    "assets of a kind, every fourth": lambda account: library.page(
        account, Wanted(kind="image"), limit=PAGE, cursor=None
    ),
    "assets found by two words, every fourth": lambda account: library.page(
        account, Wanted(query="image lighthouse"), limit=PAGE, cursor=None
    ),
    "assets found by a word that none has": lambda account: library.page(
        account, Wanted(query="xyzzy"), limit=PAGE, cursor=None
    ),
    "jobs": lambda account: jobs.page(account, limit=PAGE, cursor=None, kind=None, status=None),
    "jobs of a kind and status, every fourth": lambda account: jobs.page(
        account, limit=PAGE, cursor=None, kind="image", status="succeeded"
    ),
    "jobs of a status that none has": lambda account: jobs.page(
        account, limit=PAGE, cursor=None, kind=None, status="failed"
    ),
    "publications": lambda account: publications.page(account, limit=PAGE, cursor=None, asset_id=None, status=None),
    "publications of an asset that has none": lambda account: publications.page(
        account, limit=PAGE, cursor=None, asset_id="as_0", status=None
    ),
    "entries of the ledger": lambda account: ledger.entries(account, limit=PAGE, cursor=None),
    "versions of a project, saved so often": _saved,
    "projects": lambda account: projects.page(account, limit=PAGE, cursor=None),
    "projects that use an asset, three of them": _users,
}


def _row(name: str, call: Call) -> Row:
    short, long = (_taken(partial(call, account), TIMES[count]) for account, count in (
        (f"short-{SHORT}", SHORT), (f"long-{LONG}", LONG)))  # fmt: skip
    ratio = long / short
    measured = (
        f"{ratio:.2f} × ({short.calls} → {long.calls} calls, {short.looked_at} → {long.looked_at} items, "
        f"{short.seconds * 1000:.1f} → {long.seconds * 1000:.1f} ms)"
    )
    return Row(f"a page of {name}, {SHORT} → {LONG:,}", measured, f"≤ {LIMIT} ×", ratio <= LIMIT)


def _taken(page: Callable[[], object], times: int) -> Taken:
    """Of several runs the fastest: what disturbs a run only ever makes it longer."""
    counts: list[int] = []

    def count(parsed: Json, **_: Any) -> None:
        answered = sum(map(len, parsed.get("Responses", {}).values()))
        counts.append(int(parsed.get("ScannedCount", answered or int("Item" in parsed))))

    seconds = []
    events = aws.dynamodb().meta.events
    events.register("after-call.dynamodb", count)
    try:
        for _ in range(times):
            counts.clear()
            begun = time.process_time()
            page()
            seconds.append(time.process_time() - begun)
    finally:
        events.unregister("after-call.dynamodb", count)
    return Taken(len(counts), sum(counts), min(seconds))


def _one_of_each(studio: Studio) -> dict[str, Item]:
    """Rows as the stack writes them: of a job, its asset, its hold; of a publication that nobody publishes."""
    stack = studio.stack
    job = studio.run("a lighthouse at dusk")
    assert job["status"] == "succeeded", job
    (kept,) = rows(stack, "jobs", id=job["id"])
    (asset,) = rows(stack, "assets", id=job["assets"][0]["id"])
    entries = [row for row in rows(stack, "ledger", account=studio.account) if row["sort"].startswith("entry#")]
    studio.close()
    with inside(stack):
        now = float(kept["accepted_at"])
        target = Target("channel", "A channel", "linkedin", state="published", post_id="post")
        made = Publication("pub", "", "as_1", "assets/x", "image/png", "now", now, "Hello", (target,), "published", "",
                           iso(now), iso(now), now, now, "request")  # fmt: skip
        publication = dynamo.plain(dynamo.attributes(made.item()))
    return {"jobs": kept, "assets": asset, "ledger": entries[-1], "publications": publication}


def _like(stack: Stack, name: str) -> str:
    """An empty table with the keys and the indexes of one of the stack's, and no stream."""
    client = stack.client("dynamodb")
    table = client.describe_table(TableName=stack.tables[name])["Table"]
    copy = f"bench-{name}-{uuid4().hex[:8]}"
    indexes = [
        {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
        for index in table.get("GlobalSecondaryIndexes", [])
    ]
    client.create_table(
        TableName=copy,
        KeySchema=table["KeySchema"],
        AttributeDefinitions=table["AttributeDefinitions"],
        BillingMode="PAY_PER_REQUEST",
        **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
    )
    return copy


def _fill(table: str, row: Item, account: str, count: int) -> None:
    """So many rows like this one, each a second younger than the one before; the kinds take turns."""
    shown = dynamo.attributes({name: value for name, value in row.items() if name not in UNFINISHED})

    def requests() -> Iterator[Json]:
        for number in range(count):
            kind, at = KINDS[number % len(KINDS)], iso(1_700_000_000 + number)
            one = f"{kind}-{account}-{number:06d}"
            own = {"account": {"S": account}, "kind": {"S": kind}, "prompt": {"S": f"{kind}: a lighthouse"}}
            if "sort" in row:
                own["sort"] = {"S": f"{ledger.ENTRY_PREFIX}{number:012d}"}
            else:
                own |= {"id": {"S": one}, "created": {"S": f"{at}#{one}"}, "shelf": {"S": account}}
            yield {"PutRequest": {"Item": {**shown, **own}}}

    _write(table, requests())


UNFINISHED = {"open_shard", "sweep_at", "expires_at", "pending_shard", "pending_at", "due_shard", "due_at"}


def _write(table: str, requests: Iterator[Any]) -> None:
    client = aws.dynamodb()

    def put(some: tuple[Any, ...]) -> None:
        answer = client.batch_write_item(RequestItems={table: list(some)})
        assert not answer.get("UnprocessedItems")

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(put, batched(requests, 25, strict=False)))


def _saved_often(table: str, account: str, times: int) -> None:
    """A project in its version number `times`; as always the last fifty are kept."""
    project, at = f"pr_{account.partition('-')[0]}", iso(1_700_000_000)
    summary = {"id": project, "account": account, "version": times, "title": "x", "clips": 0, "created": at,
               "created_at": at, "updated_at": at}  # fmt: skip
    versions = [
        {"id": f"{project}#{number % projects.KEPT:02d}", "version": number, "title": "x", "bytes": 9, "saved_at": at,
         "saved_by": account, "document": "{}"}
        for number in range(times, times - projects.KEPT, -1)
    ]  # fmt: skip
    _write(table, ({"PutRequest": {"Item": dynamo.attributes(item)}} for item in [summary, *versions]))


def _edited(table: str, account: str, count: int) -> None:
    """So many projects of ten assets each, three of which use another one, too."""
    logo = f"as_logo{account.partition('-')[0]}"
    users = [f"pr_{account.partition('-')[0]}{number:06d}" for number in (0, count // 2, count - 1)]

    used = [f"as_{part:026d}" for part in range(3)]
    shown = {"account": account, "version": 1, "title": "Harbour", "clips": 10, "duration_s": 30, "assets": used}
    alike = dynamo.attributes({**shown, "created_at": iso(0), "updated_at": iso(0)})
    with_logo = {"assets": dynamo.serialize([*used, logo])}

    def requests() -> Iterator[Json]:
        for number in range(count):
            one = f"pr_{account.partition('-')[0]}{number:06d}"
            own = {"id": {"S": one}, "created": {"S": f"{iso(1_600_000_000 + number)}#{one}"}}
            yield {"PutRequest": {"Item": {**alike, **own, **(with_logo if one in users else {})}}}

    _write(table, requests())
    for user in users:
        usage.hint(user, [logo], 1_600_000_000)
