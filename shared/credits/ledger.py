"""The ledger: accounts, holds and immutable entries in one table, one partition per account.

    sort key            item
    account             available, held, spent, granted, version; reconciled, where the reconciliation has got to
    hold#<job>          amount, captured, state: open | captured | released
    entry#<version>     one change of the balances: type, amount, and the three balances after it
    once#<id>           which entry a repeated grant has made already

Two sparse indexes are for the reconciliation: `reconciliation` has the accounts by when they are looked at next (a
change puts it at the beginning of its day, so it moves once a day), `open_holds` the holds that are open.

All amounts are whole credits. `available + held + spent = granted` at all times, and `held` is the sum of open holds.
Every change numbers itself with the account's next version and is conditional on the version before it, so that entries
have one order, carry exact balances, and no two writers can spend the same credit. Who loses the race reads the account
that beat it from the refusal and tries again.
"""

import random
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from shared.core import aws, dynamo, ids
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.errors import InsufficientCredits, TooManyJobs, Unavailable
from shared.core.settings import settings

EntryType = Literal["grant", "hold", "capture", "release", "revoke"]

ENTRY_PREFIX = "entry#"
RETRY_JOBS_AFTER_S = 5
RACES = 60
SHARDS = 4
DAY_S = 86400

# Nobody has changed the balances since they were read.
STILL_THIS_VERSION = "version = :version"
NO_ACCOUNT_YET = "attribute_not_exists(version)"
# A second settlement of the same hold must find nothing to do, however the retries fall.
STILL_HELD = "#state = :open AND amount = :amount"


@dataclass(frozen=True)
class Account:
    """The balances of an account at one version; version 0 is the account that nobody has granted anything yet.

    `in_flight` counts the unfinished jobs of each kind: a job has one open hold for as long as it is unfinished.
    """

    id: str
    available: int = 0
    held: int = 0
    spent: int = 0
    granted: int = 0
    version: int = 0
    in_flight: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(item: Item) -> "Account":
        return Account(
            item["account"],
            item["available"],
            item["held"],
            item["spent"],
            item["granted"],
            item["version"],
            item.get("in_flight", {}),
        )

    def with_jobs(self, kind: str, change: int) -> "Account":
        """The account with `change` more jobs of a kind under way."""
        return replace(self, in_flight={**self.in_flight, kind: max(0, self.in_flight.get(kind, 0) + change)})


@dataclass(frozen=True)
class Entry:
    """One line of the ledger; the balances are those after it."""

    id: str
    type: EntryType
    amount: int
    available: int
    held: int
    spent: int
    job_id: str | None
    created_at: str
    reason: str | None = None

    @staticmethod
    def of(item: Item) -> "Entry":
        return Entry(**{name: item.get(name) for name in Entry.__dataclass_fields__})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Change:
    """What a movement of credits writes, and the account after it."""

    account: Account
    writes: tuple[Write, ...]
    entries: tuple[Entry, ...]


class Overdrawn(ValueError):
    """A movement that would make a balance negative: a mistake, or an account that was remembered and has moved on."""


Decide = Callable[[Account], tuple[Change, Sequence[Write]]]
"""From the account as it is to what moves, and what else is written in the same transaction."""


def hold(account: Account, *, job: str, kind: str, amount: int, limit: int, now: float) -> Change:
    """available → held, for one job more of its kind. Raises InsufficientCredits, and TooManyJobs beyond `limit`."""
    if account.in_flight.get(kind, 0) >= limit:
        raise TooManyJobs(kind=kind, limit=limit, retry_after=RETRY_JOBS_AFTER_S)
    if amount > account.available:
        raise InsufficientCredits(needed=amount, available=account.available)
    after = replace(account, available=account.available - amount, held=account.held + amount).with_jobs(kind, 1)
    return _change(account, [("hold", amount, after)], now, job, also=[_open_hold(account.id, job, amount)])


def hold_batch(account: Account, *, batch: str, jobs: Sequence[tuple[str, int]], limit: int, now: float) -> Change:
    """available → held for many jobs (kind, amount) at once, as one hold that is split later. Raises as `hold`."""
    needed = sum(amount for _, amount in jobs)
    after = replace(account, available=account.available - needed, held=account.held + needed)
    for kind, _ in jobs:
        if after.in_flight.get(kind, 0) >= limit:
            raise TooManyJobs(kind=kind, limit=limit, retry_after=RETRY_JOBS_AFTER_S)
        after = after.with_jobs(kind, 1)
    if needed > account.available:
        raise InsufficientCredits(needed=needed, available=account.available)
    return _change(account, [("hold", needed, after)], now, batch, also=[_open_hold(account.id, batch, needed)])


def split_hold(account_id: str, batch: str, jobs: Sequence[tuple[str, int]], *, last: bool) -> list[Write]:
    """Writes that take the amounts of `jobs` (id, amount) out of a batch's hold into holds of their own; refused where
    that was done already. No balance changes. After the `last` nothing is left of the batch's hold."""
    taken = dynamo.change(
        settings().ledger_table,
        {"account": account_id, "sort": f"hold#{batch}"},
        "SET amount = amount - :taken" + (" REMOVE open_for" if last else ""),
        when="#state = :open AND amount >= :taken",
        names={"#state": "state"},
        values={"taken": sum(amount for _, amount in jobs), "open": "open"},
    )
    return [taken, *(_open_hold(account_id, job, amount) for job, amount in jobs)]


def capture(account: Account, *, job: str, kind: str, held: int, amount: int, now: float) -> Change:
    """held → spent, for `amount` of the `held` credits; what is left goes back to available in the same transaction."""
    if not 0 <= amount <= held:
        raise ValueError(f"cannot capture {amount} of a hold of {held}")
    spent = replace(account, held=account.held - amount, spent=account.spent + amount).with_jobs(kind, -1)
    steps: list[tuple[EntryType, int, Account]] = [("capture", amount, spent)]
    rest = held - amount
    if rest:
        steps.append(("release", rest, replace(spent, held=spent.held - rest, available=spent.available + rest)))
    return _change(account, steps, now, job, also=[_end_hold(account.id, job, held, amount, "captured")])


def release(account: Account, *, job: str, kind: str, held: int, now: float) -> Change:
    """held → available, all of it."""
    after = replace(account, held=account.held - held, available=account.available + held).with_jobs(kind, -1)
    return _change(
        account, [("release", held, after)], now, job, also=[_end_hold(account.id, job, held, 0, "released")]
    )


def grant(account: Account, *, amount: int, now: float, reason: str | None) -> Change:
    """New credits → available."""
    after = replace(account, available=account.available + amount, granted=account.granted + amount)
    return _change(account, [("grant", amount, after)], now, None, reason=reason)


def commit(account_id: str, decide: Decide) -> Change:
    """Write a change of the account, with the other writes that `decide` returns, in one transaction.

    `decide` is called with the account as it is; again if the account has moved meanwhile. What it raises is raised,
    once it has seen the account freshly read. Raises Refused when another condition than the account's did not hold:
    `found[0]` is then the account, and the members after it are the change's own writes and the other writes, in order.
    """
    remembered = _recent.get(account_id)
    account = remembered or read(account_id)
    for attempt in range(RACES):
        try:
            change, others = decide(account)
        except (InsufficientCredits, TooManyJobs, Overdrawn):
            if account is not remembered:
                raise
            account = read(account_id)
            remembered = None
            continue
        try:
            dynamo.transact([*change.writes, *others])
        except Refused as refused:
            _recent.pop(account_id, None)
            # The account's own refusal counts only alone: another condition is the answer, whatever the balances.
            if any(refused.refusals[len(change.entries) + 1 :]):
                raise
            met = refused.found[0]
            account = Account.of(met) if met else read(account_id)
            remembered = None
            time.sleep(random.uniform(0, min(0.005 * 2**attempt, 0.25)))
        else:
            _remember(change.account)
            return change
    raise Unavailable("Too much is happening on this account at once; try again.", code="busy", retry_after=1)


def read(account_id: str) -> Account:
    """The account as it is; one with nothing in it where none was ever granted anything."""
    item = dynamo.get(settings().ledger_table, {"account": account_id, "sort": "account"})
    return Account.of(item) if item else Account(account_id)


def entries(account_id: str, *, limit: int, cursor: str | None) -> tuple[list[Entry], str | None]:
    """A page of the account's entries, newest first."""
    items, after = dynamo.page(
        settings().ledger_table,
        partition=("account", account_id),
        sort=("sort", ENTRY_PREFIX),
        limit=limit,
        cursor=cursor,
    )
    return [Entry.of(item) for item in items], after


def grant_once(account_id: str, *, key: str, amount: int, now: float, reason: str | None) -> tuple[Entry, bool]:
    """Grant credits; a repeat with the same `key` meets the entry of the first and answers (that entry, True).

    The first `amount` and `reason` stand: comparing them with the repeat's is the caller's business.
    """

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        change = grant(account, amount=amount, now=now, reason=reason)
        once = {"sort": f"once#{key}", "account": account_id, **_fields(change.entries[0])}
        return change, [dynamo.put(settings().ledger_table, once)]

    try:
        return commit(account_id, decide).entries[0], False
    except Refused as refused:
        met = refused.found[-1]
        if met is None:
            raise
        return Entry.of(met), True


def _change(
    before: Account,
    steps: Sequence[tuple[EntryType, int, Account]],
    now: float,
    job: str | None,
    *,
    also: Sequence[Write] = (),
    reason: str | None = None,
) -> Change:
    """The account's update, an entry for each step, then `also`."""
    made = [
        Entry(ids.new("entry"), kind, amount, after.available, after.held, after.spent, job, iso(now), reason)
        for kind, amount, after in steps
    ]
    after = replace(steps[-1][2], version=before.version + len(steps))
    table = settings().ledger_table
    lines = [
        dynamo.put(
            table,
            {"sort": f"{ENTRY_PREFIX}{before.version + number:012d}", "account": before.id, **_fields(entry)},
        )
        for number, entry in enumerate(made, start=1)
    ]
    return Change(after, (_move(before, after, now), *lines, *also), tuple(made))


def reconcile_shard(account_id: str) -> str:
    """The partition of the `reconciliation` index that the account is in."""
    return f"accounts#{zlib.crc32(account_id.encode()) % SHARDS}"


def _move(before: Account, after: Account, now: float) -> Write:
    values = {"available": after.available, "held": after.held, "spent": after.spent, "granted": after.granted}
    if min(values.values()) < 0:
        raise Overdrawn(f"a balance of {before.id} would be negative: {values}")
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    first = before.version == 0
    known = {} if first else {"version": before.version}
    next_look = {"reconcile_at": int(now // DAY_S * DAY_S), "reconcile_shard": reconcile_shard(before.id)}
    return dynamo.change(
        settings().ledger_table,
        {"account": before.id, "sort": "account"},
        f"SET {assignments}, in_flight = :in_flight, version = :next"
        ", reconcile_at = :reconcile_at, reconcile_shard = :reconcile_shard",
        when=NO_ACCOUNT_YET if first else STILL_THIS_VERSION,
        values={**values, **known, **next_look, "in_flight": after.in_flight, "next": after.version},
    )


def _open_hold(account_id: str, job: str, amount: int) -> Write:
    item = {"sort": f"hold#{job}", "account": account_id, "amount": amount, "captured": 0, "state": "open"}
    return dynamo.put(settings().ledger_table, {**item, "open_for": account_id})


def open_holds(account_id: str) -> list[str]:
    """Ids of what the account has under way: jobs, and batches that are not split yet."""
    pages = (
        aws.dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=settings().ledger_table,
            IndexName="open_holds",
            KeyConditionExpression="open_for = :account",
            ExpressionAttributeValues=dynamo.attributes({":account": account_id}),
        )
    )
    holds = [dynamo.plain(item)["sort"] for page in pages for item in page["Items"]]
    return [str(hold).removeprefix("hold#") for hold in holds]


def _end_hold(account_id: str, job: str, held: int, captured: int, state: str) -> Write:
    return dynamo.change(
        settings().ledger_table,
        {"account": account_id, "sort": f"hold#{job}"},
        "SET #state = :state, captured = :captured REMOVE open_for",
        when=STILL_HELD,
        names={"#state": "state"},
        values={"state": state, "captured": captured, "open": "open", "amount": held},
    )


def _fields(entry: Entry) -> Item:
    return {name: value for name, value in vars(entry).items() if value is not None}


# The last version this process has written, per account: right more often than not, and what is wrong about it is found
# by the condition. It saves the read before the transaction.
_recent: OrderedDict[str, Account] = OrderedDict()
_RECENT_ACCOUNTS = 512


def _remember(account: Account) -> None:
    _recent[account.id] = account
    _recent.move_to_end(account.id)
    while len(_recent) > _RECENT_ACCOUNTS:
        _recent.popitem(last=False)
