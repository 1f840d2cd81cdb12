"""The reconciliation's arithmetic: whatever was moved adds up, and whatever was tampered with does not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.dynamo import plain
from shared.credits import ledger
from shared.credits.ledger import Account, Change
from shared.credits.reconcile import Balances, differences
from tests.unit.helpers import Json

NOW = 1_790_848_800.0
MOVES = st.lists(st.tuples(st.sampled_from(["grant", "hold", "capture", "release"]), st.integers(1, 50)), max_size=30)


class Books:
    """An account with its entries as the table has them, and the holds that are open."""

    def __init__(self) -> None:
        self.account = Account("alice")
        self.entries: list[Json] = []
        self.open: dict[str, int] = {}

    def write(self, change: Change) -> None:
        self.account = change.account
        puts = [plain(write["Put"]["Item"]) for write in change.writes if "Put" in write]
        self.entries += [item for item in puts if item["sort"].startswith("entry#")]

    def move(self, number: int, kind: str, amount: int) -> None:
        job = next(iter(self.open), "")
        match kind:
            case "grant":
                self.write(ledger.grant(self.account, amount=amount, now=NOW, reason=None))
            case "hold" if amount <= self.account.available:
                self.open[f"job_{number}"] = amount
                hold = ledger.hold(self.account, job=f"job_{number}", kind="image", amount=amount, limit=99, now=NOW)
                self.write(hold)
            case "capture" if job:
                held = self.open.pop(job)
                spent = min(amount, held)
                self.write(ledger.capture(self.account, job=job, kind="image", held=held, amount=spent, now=NOW))
            case "release" if job:
                held = self.open.pop(job)
                self.write(ledger.release(self.account, job=job, kind="image", held=held, now=NOW))

    def balances(self) -> Balances:
        return Balances.of(vars(self.account))

    def differences(self, known: Balances, **tampered: Any) -> list[str]:
        entries = [entry for entry in self.entries if int(entry["sort"].removeprefix("entry#")) > known.version]
        return differences(known, replace(self.balances(), **tampered), entries, sum(self.open.values()))


def books_of(moves: list[tuple[str, int]]) -> tuple[Books, list[Balances]]:
    """The books after the moves, and their balances after each."""
    books, seen = Books(), [Balances()]
    for number, (kind, amount) in enumerate(moves):
        books.move(number, kind, amount)
        seen.append(books.balances())
    return books, seen


@given(MOVES, st.data())
def test_whatever_was_moved_adds_up_from_any_version_that_was_right(
    moves: list[tuple[str, int]], data: st.DataObject
) -> None:
    books, seen = books_of(moves)

    assert books.differences(data.draw(st.sampled_from(seen))) == []


@given(MOVES, st.sampled_from(["available", "held", "spent", "granted", "version"]), st.integers(-9, 9).filter(bool))
def test_a_balance_that_was_changed_alone_never_adds_up(moves: list[tuple[str, int]], name: str, by: int) -> None:
    books, _ = books_of(moves)
    was = getattr(books.balances(), name)

    assert any(name in told for told in books.differences(Balances(), **{name: was + by}))


HISTORY = [("grant", 30), ("hold", 10), ("hold", 5), ("capture", 7), ("release", 1)]


@pytest.mark.parametrize("number", range(5))
def test_an_entry_that_was_taken_out_is_missed(number: int) -> None:
    books, _ = books_of(HISTORY)
    del books.entries[number]

    assert any(f"entry {number + 1} is missing" in told for told in books.differences(Balances()))


@pytest.mark.parametrize("field", ["amount", "available", "held", "spent"])
def test_an_entry_that_was_rewritten_does_not_follow_from_the_one_before(field: str) -> None:
    books, _ = books_of(HISTORY)
    books.entries[1][field] += 1

    assert "entry 2 (hold" in books.differences(Balances())[0]


def test_a_hold_that_is_open_without_being_held_is_told() -> None:
    books, _ = books_of(HISTORY)
    books.open["job_9"] = 4

    assert books.differences(books.balances()) == [
        f"held is {books.account.held}, the open holds are {books.account.held + 4}"
    ]


def test_credits_from_nowhere_are_told_though_no_entry_has_changed() -> None:
    """Both balances that somebody with access to the table would have to change, and nobody has used the account."""
    books, _ = books_of(HISTORY)
    known = books.balances()

    told = books.differences(known, available=known.available + 100, granted=known.granted + 100)

    assert [line.split(" is ")[0] for line in told] == ["available", "granted"]
