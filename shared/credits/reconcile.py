"""The reconciliation: every account's balances once more, from its entries and its open holds.

It reads an account from where it last found everything right (`reconciled`), so no more than what has happened since,
and only accounts that were changed since, or not looked at for a month: those are what the index `reconciliation` has
due. It tells of differences and repairs nothing; an account that has one stays due.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shared.core import aws, dynamo
from shared.core.clock import now as current_time
from shared.core.dynamo import Item, Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.credits import ledger
from shared.credits.ledger import ENTRY_PREFIX

ENOUGH_TIME_S = 30
QUIET_S = 30 * ledger.DAY_S
"""How long an account without changes is left alone."""

TRIES = 4
PAUSE_S = 0.5
"""An account that is being changed, or whose index is behind, looks wrong for a moment."""

MOST_TOLD = 5


@dataclass(frozen=True)
class Balances:
    """The balances of an account as of a version."""

    version: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    granted: int = 0

    @staticmethod
    def of(item: Mapping[str, Any]) -> "Balances":
        return Balances(**{name: item.get(name, 0) for name in Balances.__dataclass_fields__})


@dataclass
class Report:
    """How many accounts were looked at, and how many of them do not add up, could not be read, or must wait."""

    checked: int = 0
    different: int = 0
    failed: int = 0
    left: int = 0


def reconcile(time_left: Callable[[], float]) -> Report:
    """Look at every account that is due while `time_left()` (seconds) lasts."""
    report = Report()
    for account_id in _due(current_time()):
        if time_left() < ENOUGH_TIME_S:
            report.left += 1
            continue
        try:
            differences = check(account_id)
        except Exception:  # noqa: BLE001 One account that cannot be read is no reason to leave out the others.
            logger.exception("could not reconcile", account=account_id)
            report.failed += 1
            continue
        report.checked += 1
        if differences:
            report.different += 1
            logger.error("the ledger does not add up", account=account_id, differences=differences)
    count("LedgerChecked", report.checked)
    count("LedgerDifference", report.different)
    count("LedgerNotChecked", report.failed + report.left)
    logger.info("reconciled", **vars(report))
    return report


def check(account_id: str) -> list[str]:
    """What does not add up in an account; where everything does, remember how far it was read."""
    found: list[str] = []
    for attempt in range(TRIES):
        time.sleep(PAUSE_S * attempt)
        item = dynamo.get(settings().ledger_table, {"account": account_id, "sort": "account"})
        if item is None:
            return ["the account is gone"]
        known, told = Balances.of(item.get("reconciled", {})), Balances.of(item)
        found = differences(known, told, _entries(account_id, known.version, told.version), _open(account_id))
        if not found:
            _remember(account_id, told)
            return []
    return found


def differences(known: Balances, told: Balances, entries: Iterable[Item], open_holds: int) -> list[str]:
    """What is wrong with the balances `told`, given those of an earlier version and the entries between the two."""
    found = []
    balances = known
    for entry in entries:
        balances = _after(balances, entry)
        number = int(entry["sort"].removeprefix(ENTRY_PREFIX))
        if number != balances.version:
            found.append(f"entry {balances.version} is missing: the next is {number}")
            balances = replace(balances, version=number)
        if any(entry[name] != getattr(balances, name) for name in ("available", "held", "spent")):
            found.append(f"entry {number} ({entry['type']} {entry['amount']}) does not follow from the one before")
        if len(found) >= MOST_TOLD:
            return found
    for name in Balances.__dataclass_fields__:
        if getattr(told, name) != getattr(balances, name):
            found.append(f"{name} is {getattr(told, name)}, the entries say {getattr(balances, name)}")
    if told.available + told.held + told.spent != told.granted:
        found.append(f"{told.available} + {told.held} + {told.spent} is not the {told.granted} that were granted")
    if min(told.available, told.held, told.spent) < 0:
        found.append("a balance is negative")
    if told.held != open_holds:
        found.append(f"held is {told.held}, the open holds are {open_holds}")
    return found


def _after(balances: Balances, entry: Item) -> Balances:
    """The balances after an entry, whatever the entry itself says they are."""
    amount = entry["amount"]
    moved = replace(balances, version=balances.version + 1)
    match entry["type"]:
        case "grant":
            return replace(moved, available=moved.available + amount, granted=moved.granted + amount)
        case "hold":
            return replace(moved, available=moved.available - amount, held=moved.held + amount)
        case "capture":
            return replace(moved, held=moved.held - amount, spent=moved.spent + amount)
        case "release":
            return replace(moved, held=moved.held - amount, available=moved.available + amount)
        case "revoke":
            return replace(moved, available=moved.available - amount, granted=moved.granted - amount)
    return moved


def _due(now: float) -> Iterator[str]:
    """The accounts to be looked at, those that have waited longest first in each of the index's partitions."""
    for shard in range(ledger.SHARDS):
        values = {":shard": f"accounts#{shard}", ":now": int(now)}
        condition = "reconcile_shard = :shard AND reconcile_at <= :now"
        for item in _query(condition, values, index="reconciliation"):
            yield item["account"]


def _entries(account_id: str, after: int, until: int) -> Iterator[Item]:
    if until <= after:
        return iter(())
    values = {
        ":account": account_id,
        ":first": f"{ENTRY_PREFIX}{after + 1:012d}",
        ":last": f"{ENTRY_PREFIX}{until:012d}",
    }
    return _query("account = :account AND sort BETWEEN :first AND :last", values)


def _open(account_id: str) -> int:
    """The sum of the account's open holds."""
    return sum(hold["amount"] for hold in _query("open_for = :account", {":account": account_id}, index="open_holds"))


def _query(condition: str, values: Mapping[str, Any], *, index: str | None = None) -> Iterator[Item]:
    where: Any = {"IndexName": index} if index else {"ConsistentRead": True}
    pages = (
        aws.dynamodb()
        .get_paginator("query")
        .paginate(
            TableName=settings().ledger_table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=dynamo.attributes(values),
            **where,
        )
    )
    return (dynamo.plain(item) for page in pages for item in page["Items"])


def _remember(account_id: str, told: Balances) -> None:
    """Go on from here the next time: in a month, or when the account has changed, which it may have meanwhile."""
    table, key = settings().ledger_table, {"account": account_id, "sort": "account"}
    checkpoint = {"reconciled": vars(told)}
    later = {"later": int(current_time()) + QUIET_S, "version": told.version}
    quiet = dynamo.change(
        table,
        key,
        "SET reconciled = :reconciled, reconcile_at = :later",
        when=ledger.STILL_THIS_VERSION,
        values={**checkpoint, **later},
    )
    try:
        dynamo.update(quiet)
    except Refused:
        dynamo.update(
            dynamo.change(
                table, key, "SET reconciled = :reconciled", when="attribute_exists(version)", values=checkpoint
            )
        )
