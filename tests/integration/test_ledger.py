"""The ledger under many writers at once, on the emulator's real DynamoDB transactions."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import now
from shared.core.dynamo import Refused, Write
from shared.core.errors import InsufficientCredits
from shared.credits import ledger
from shared.credits.ledger import Account, Change
from tests.support import Json, rows

pytestmark = pytest.mark.usefixtures("product")

WRITERS = 32
MOVES = 6


@pytest.fixture
def account() -> str:
    return f"ledger-{uuid4().hex[:12]}"


def grant(account: str, amount: int) -> None:
    ledger.commit(account, lambda found: (ledger.grant(found, amount=amount, now=now(), reason=None), []))


def hold(account: str, job: str, amount: int, *, limit: int = 1000) -> Change:
    def decide(found: Account) -> tuple[Change, Sequence[Write]]:
        return ledger.hold(found, job=job, kind="image", amount=amount, limit=limit, now=now()), []

    return ledger.commit(account, decide)


def capture(account: str, job: str, held: int, amount: int) -> Change:
    def decide(found: Account) -> tuple[Change, Sequence[Write]]:
        return ledger.capture(found, job=job, kind="image", held=held, amount=amount, now=now()), []

    return ledger.commit(account, decide)


def release(account: str, job: str, held: int) -> Change:
    def decide(found: Account) -> tuple[Change, Sequence[Write]]:
        return ledger.release(found, job=job, kind="image", held=held, now=now()), []

    return ledger.commit(account, decide)


def partition(stack: Stack, account: str) -> tuple[Json, list[Json], dict[str, Json]]:
    """The account, its entries in order, its holds by job."""
    items = {item["sort"]: item for item in rows(stack, "ledger", account=account)}
    entries = [items[sort] for sort in sorted(items) if sort.startswith("entry#")]
    holds = {sort.removeprefix("hold#"): item for sort, item in items.items() if sort.startswith("hold#")}
    return items["account"], entries, holds


@dataclass
class Tally:
    """What one writer has seen succeed."""

    granted: int = 0
    spent: int = 0
    held: int = 0
    entries: int = 0
    refused: int = 0
    open: list[tuple[str, int]] = field(default_factory=list)


def move_at_random(account: str, seed: int) -> Tally:
    chance, tally = random.Random(seed), Tally()
    for number in range(MOVES):
        what = chance.choice(["hold", "hold", "capture", "release", "grant"])
        if what == "grant":
            amount = chance.randint(1, 9)
            grant(account, amount)
            tally.granted += amount
            tally.entries += 1
        elif what == "hold" or not tally.open:
            job, amount = f"job_{seed}_{number}", chance.randint(1, 9)
            try:
                hold(account, job, amount)
            except InsufficientCredits:
                tally.refused += 1
                continue
            tally.open.append((job, amount))
            tally.held += amount
            tally.entries += 1
        else:
            job, held = tally.open.pop(chance.randrange(len(tally.open)))
            tally.held -= held
            if what == "release":
                release(account, job, held)
                tally.entries += 1
            else:
                amount = chance.randint(0, held)
                capture(account, job, held, amount)
                tally.spent += amount
                tally.entries += 2 if amount < held else 1
    return tally


def test_no_change_of_32_writers_is_lost(stack: Stack, account: str) -> None:
    grant(account, 50)

    with ThreadPoolExecutor(WRITERS) as pool:
        tallies = list(pool.map(lambda seed: move_at_random(account, seed), range(WRITERS)))

    found, entries, holds = partition(stack, account)
    granted, spent = 50 + sum(tally.granted for tally in tallies), sum(tally.spent for tally in tallies)
    held = sum(tally.held for tally in tallies)
    assert (found["granted"], found["spent"], found["held"]) == (granted, spent, held)
    assert found["available"] == granted - spent - held
    assert found["version"] == len(entries) == 1 + sum(tally.entries for tally in tallies)
    assert [entry["sort"] for entry in entries] == [f"entry#{number:012d}" for number in range(1, len(entries) + 1)]
    still_open = {job for tally in tallies for job, _ in tally.open}
    assert {job for job, hold in holds.items() if hold["state"] == "open"} == still_open
    assert found["in_flight"] == {"image": len(still_open)}
    assert_every_entry_follows_from_the_one_before(entries)


def assert_every_entry_follows_from_the_one_before(entries: list[Json]) -> None:
    available = held = spent = 0
    for entry in entries:
        amount = entry["amount"]
        match entry["type"]:
            case "grant":
                available += amount
            case "hold":
                available, held = available - amount, held + amount
            case "capture":
                held, spent = held - amount, spent + amount
            case "release":
                held, available = held - amount, available + amount
        assert (entry["available"], entry["held"], entry["spent"]) == (available, held, spent)
        assert min(available, held, spent) >= 0


def test_of_a_hundred_holds_on_ten_credits_ten_win(stack: Stack, account: str) -> None:
    grant(account, 10)

    def attempt(number: int) -> bool:
        try:
            hold(account, f"job_{number}", 1)
        except InsufficientCredits as refusal:
            return refusal.fields != {"needed": 1, "available": 0}
        return True

    started = time.monotonic()
    with ThreadPoolExecutor(100) as pool:
        won = list(pool.map(attempt, range(100)))
    took = time.monotonic() - started

    assert sum(won) == 10
    found, entries, holds = partition(stack, account)
    assert (found["available"], found["held"], len(entries), len(holds)) == (0, 10, 11, 10)
    assert_every_entry_follows_from_the_one_before(entries)
    assert took < 20, f"100 threads took {took:.1f} s"


def test_a_hold_has_one_end_however_many_try(stack: Stack, account: str) -> None:
    grant(account, 10)
    hold(account, "job", 10)

    def settle(number: int) -> bool:
        try:
            if number % 2:
                capture(account, "job", 10, 4)
            else:
                release(account, "job", 10)
        except (Refused, ValueError):
            # ValueError: the account that was read after the settlement has nothing held any more.
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(settle, range(16)))

    assert sum(won) == 1
    found, entries, holds = partition(stack, account)
    assert holds["job"]["state"] in ("captured", "released")
    assert found["held"] == 0
    assert_every_entry_follows_from_the_one_before(entries)


def test_a_stale_memory_of_the_account_refuses_nobody(stack: Stack, account: str) -> None:
    grant(account, 1)
    hold(account, "first", 1)
    remembered = dict(ledger._recent)

    ledger._recent.clear()
    grant(account, 5)
    ledger._recent.update(remembered)
    hold(account, "second", 5)

    assert partition(stack, account)[0]["available"] == 0


def test_the_other_write_of_a_transaction_decides_over_it(stack: Stack, account: str) -> None:
    grant(account, 10)
    hold(account, "job", 3)

    with pytest.raises(Refused) as refused:
        hold(account, "job", 3)

    assert refused.value.found[-1] is not None
    assert refused.value.found[-1]["amount"] == 3
    assert partition(stack, account)[0]["held"] == 3
