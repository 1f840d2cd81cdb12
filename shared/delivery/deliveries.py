"""The deliveries table: one item for the callback of a job, by the job's id, kept for 90 days.

Two kinds of items beside it: `slot#…`, of which an account has two, so that a receiver that is slow keeps no more than
two workers waiting; and `gone#…`, a URL that has answered 410. The index `by_due` (due_shard, due) has what is pending
by the time that the sweeper is to look after it, and in the shard `dead` what was given up, by the time of that.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shared.core import aws, dynamo, ids
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.settings import settings

State = Literal["pending", "delivered", "disabled", "dead"]

SHARDS = 4
DEAD = "dead"
KEEP_S = 90 * 24 * 3600
KEEP_SLOT_S = 24 * 3600
SLOTS = 2
MOST_ATTEMPTS = 30
"""So many attempts are remembered, the newest."""

STATE = {"#state": "state"}
FREE = "(attribute_not_exists(lease) OR leased_until < :now)"
"""Nobody is at it, or whoever was has died."""


@dataclass(frozen=True)
class Attempt:
    """One line of the delivery log: `at` is RFC 3339, `error` a class: timeout, no_answer, no_address,
    address_refused."""

    at: str
    status_code: int | None
    error: str | None
    duration_ms: int


@dataclass(frozen=True)
class Delivery:
    """A callback as the table has it. `tries` counts the attempts of the current schedule, also one that died on the
    way; `next_attempt_at` (epoch seconds) is when the next is due, while it is pending. The index has no `body`."""

    id: str
    account: str
    webhook_id: str
    type: str
    url: str
    request_id: str
    state: State
    created_at: str
    body: str = ""
    tries: int = 0
    next_attempt_at: float | None = None
    attempts: tuple[Attempt, ...] = ()
    redelivered_at: float = 0
    redelivery: str | None = None
    lease: str | None = None

    @staticmethod
    def of(item: Item) -> "Delivery":
        values = {name: item[name] for name in Delivery.__dataclass_fields__ if name in item}
        return Delivery(**{**values, "attempts": tuple(Attempt(**line) for line in item.get("attempts", ()))})

    @property
    def gone_key(self) -> Item:
        """The key of the mark that this URL of this account wants no callbacks any more."""
        digest = hashlib.sha256(f"{self.account}\0{self.url}".encode()).hexdigest()
        return {"id": f"gone#{digest}"}


def create(delivery: Delivery, look_at: float, now: float) -> Write:
    """A transaction's write of a new one; refused where it is there already."""
    values = {name: value for name, value in asdict(delivery).items() if value is not None}
    return dynamo.put(
        settings().deliveries_table,
        {**values, **_waiting(delivery.id, look_at), "expires_at": int(now + KEEP_S)},
    )


def get(job_id: str) -> Delivery | None:
    """The delivery as it is now."""
    item = dynamo.get(settings().deliveries_table, {"id": job_id})
    return Delivery.of(item) if item else None


class Busy(Exception):
    """All of the account's slots are taken."""


class Gone(Exception):
    """The URL has answered 410 before."""


def claim(delivery: Delivery, now: float, until: float) -> tuple[Delivery, str]:
    """Take the delivery and one of its account's slots until then; the delivery, and the slot. This counts as a try,
    so that one which kills its worker comes to an end as well.

    Raises Busy, Gone, and Refused when it is not due or somebody else is at it.
    """
    lease = ids.new("lease")
    for number in range(SLOTS):
        slot = f"slot#{delivery.account}#{number}"
        try:
            dynamo.transact(_claim(delivery, slot, lease, now, until))
        except Refused as refused:
            if refused.refusals[0]:
                raise
            if refused.refusals[2]:
                raise Gone from refused
            continue
        item = {**asdict(delivery), "lease": lease, "tries": delivery.tries + 1}
        return Delivery.of(item), slot
    raise Busy


def _claim(delivery: Delivery, slot: str, lease: str, now: float, until: float) -> Sequence[Write]:
    table = settings().deliveries_table
    held = {"lease": lease, "until": until, "now": now}
    return [
        dynamo.change(
            table,
            {"id": delivery.id},
            "SET lease = :lease, leased_until = :until, tries = tries + :one, due = :due",
            when=f"#state = :pending AND next_attempt_at <= :now AND {FREE}",
            names=STATE,
            values={**held, "one": 1, "pending": "pending", "due": _due(delivery.id, until)},
        ),
        dynamo.change(
            table,
            {"id": slot},
            "SET lease = :lease, leased_until = :until, expires_at = :expires",
            when=FREE,
            values={**held, "expires": int(now + KEEP_SLOT_S)},
        ),
        {
            "ConditionCheck": {
                "TableName": table,
                "Key": dynamo.attributes(delivery.gone_key),
                "ConditionExpression": "attribute_not_exists(id)",
            }
        },
    ]


def release(slot: str, delivery: Delivery) -> None:
    """Give the slot back, unless somebody has it who thought us dead."""
    write = dynamo.change(
        settings().deliveries_table,
        {"id": slot},
        "REMOVE lease, leased_until",
        when="lease = :lease",
        values={"lease": delivery.lease},
    )
    _unless_refused(write)


def end(delivery: Delivery, state: State, attempt: Attempt | None, now: float) -> None:
    """pending → delivered | disabled | dead. Raises Refused when somebody else has gone on with it."""
    shard = {"due_shard": DEAD, "due": _due(delivery.id, now)} if state == "dead" else {}
    _record(
        delivery,
        "#state = :state" + (", due_shard = :due_shard, due = :due" if shard else ""),
        "next_attempt_at" if shard else "next_attempt_at, due_shard, due",
        attempt,
        state=state,
        **shard,
    )


def plan(delivery: Delivery, attempt: Attempt, next_attempt_at: float, look_at: float) -> None:
    """Remember the attempt and when the next is due. Raises Refused when somebody else has gone on with it."""
    _record(
        delivery,
        "next_attempt_at = :next, due = :due",
        "",
        attempt,
        next=next_attempt_at,
        due=_due(delivery.id, look_at),
    )


def _record(delivery: Delivery, assignment: str, remove: str, attempt: Attempt | None, **values: Any) -> None:
    log = [asdict(line) for line in (*delivery.attempts, *([attempt] if attempt else []))][-MOST_ATTEMPTS:]
    write = dynamo.change(
        settings().deliveries_table,
        {"id": delivery.id},
        f"SET {assignment}, attempts = :log REMOVE lease, leased_until" + (f", {remove}" if remove else ""),
        when="#state = :pending AND " + ("lease = :lease" if delivery.lease else "attribute_not_exists(lease)"),
        names=STATE,
        values={**values, "log": log, "pending": "pending", **({"lease": delivery.lease} if delivery.lease else {})},
    )
    dynamo.update(write)


def put_off(delivery: Delivery, look_at: float) -> None:
    """Let the sweeper look later, since a message is under way."""
    write = dynamo.change(
        settings().deliveries_table,
        {"id": delivery.id},
        "SET due = :due",
        when="#state = :pending AND attribute_not_exists(lease)",
        names=STATE,
        values={"due": _due(delivery.id, look_at), "pending": "pending"},
    )
    _unless_refused(write)


def start_again(delivery: Delivery, now: float, look_at: float, *, gap: float, request: str | None) -> Delivery:
    """Begin the whole schedule anew, whatever came of it before. Raises Refused if that happened less than `gap`
    seconds ago, or an attempt is under way."""
    write = dynamo.change(
        settings().deliveries_table,
        {"id": delivery.id},
        "SET #state = :pending, tries = :zero, next_attempt_at = :now, redelivered_at = :now, due_shard = :due_shard"
        + (", due = :due, redelivery = :request" if request else ", due = :due"),
        when=f"redelivered_at <= :before AND {FREE}",
        names=STATE,
        values={
            "pending": "pending",
            "zero": 0,
            "now": now,
            "before": now - gap,
            **_waiting(delivery.id, look_at),
            **({"request": request} if request else {}),
        },
    )
    return Delivery.of(dynamo.update(write))


def mark_gone(delivery: Delivery, now: float) -> None:
    """This URL of this account wants no callbacks any more."""
    dynamo.save(settings().deliveries_table, {**delivery.gone_key, "expires_at": int(now + KEEP_S)})


def forget_gone(delivery: Delivery) -> None:
    """The account wants to try this URL again."""
    aws.dynamodb().delete_item(TableName=settings().deliveries_table, Key=dynamo.attributes(delivery.gone_key))


def overdue(shard: int, now: float, *, limit: int) -> list[Delivery]:
    """Those that the sweeper is to look after, the longest-waiting first."""
    answer = aws.dynamodb().query(
        TableName=settings().deliveries_table,
        IndexName="by_due",
        KeyConditionExpression="due_shard = :due_shard AND due <= :now",
        ExpressionAttributeValues=dynamo.attributes({":due_shard": f"due#{shard}", ":now": iso(now)}),
        Limit=limit,
    )
    return [Delivery.of(dynamo.plain(item)) for item in answer["Items"]]


def dead(*, limit: int, cursor: str | None) -> tuple[list[Delivery], str | None]:
    """A page of those that were given up, the latest first."""
    items, after = dynamo.page(
        settings().deliveries_table,
        index="by_due",
        partition=("due_shard", DEAD),
        sort=("due", ""),
        also_key="id",
        limit=limit,
        cursor=cursor,
    )
    return [Delivery.of(item) for item in items], after


def _waiting(job_id: str, look_at: float) -> Item:
    return {"due_shard": f"due#{zlib.crc32(job_id.encode()) % SHARDS}", "due": _due(job_id, look_at)}


def _due(job_id: str, at: float) -> str:
    return f"{iso(at)}#{job_id}"


def _unless_refused(write: Write) -> None:
    try:
        dynamo.update(write)
    except Refused:
        return
