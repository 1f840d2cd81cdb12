"""The movements of credits: whatever the order, every invariant of the ledger holds after each of them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from shared.core import aws, dynamo
from shared.core.dynamo import Refused, Write, plain
from shared.core.errors import InsufficientCredits, TooManyJobs, Unavailable
from shared.credits import ledger
from shared.credits.ledger import Account, Change, Entry

NOW = 1_790_848_800.0
ALICE = Account("alice", available=10, held=0, spent=0, granted=10, version=1)


def hold(account: Account, amount: int, *, job: str = "job_1") -> Change:
    return ledger.hold(account, job=job, kind="image", amount=amount, limit=LIMIT, now=NOW)


LIMIT = 3
KINDS = ("image", "video")


@dataclass
class Books:
    """An account with its unfinished jobs, its open holds as they were written, and every entry about it."""

    account: Account = field(default_factory=lambda: Account("alice"))
    jobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)
    unsplit: dict[str, list[str]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)

    def write(self, change: Change) -> None:
        assert change.account.version == self.account.version + len(change.entries)
        self.account = change.account
        self.entries += change.entries
        self.apply(change.writes)

    def apply(self, writes: Sequence[Write]) -> None:
        """What the writes do to the holds in the table."""
        for write in writes:
            if "Put" in write:
                held = plain(write["Put"]["Item"])
                if held["sort"].startswith("hold#"):
                    assert held["sort"] not in self.holds
                    self.holds[held["sort"]] = held["amount"]
                    assert held["open_for"] == "alice"
                    self.listed.add(held["sort"])
                continue
            if "REMOVE open_for" in write["Update"]["UpdateExpression"]:
                self.listed.remove(plain(write["Update"]["Key"])["sort"])
            sort = plain(write["Update"]["Key"])["sort"]
            values = plain(write["Update"]["ExpressionAttributeValues"])
            if ":taken" in values:
                self.holds[sort] -= values[":taken"]
            elif sort.startswith("hold#"):
                assert self.holds.pop(sort) == values[":amount"]

    def full(self, *kinds: str) -> bool:
        """Whether these jobs more would be too many."""
        under_way = Counter(kind for kind, _ in self.jobs.values()) + Counter(kinds)
        return any(under_way[kind] > LIMIT for kind in kinds)

    def check(self) -> None:
        account = self.account
        assert min(account.available, account.held, account.spent) >= 0
        assert account.available + account.held + account.spent == account.granted
        assert account.held == sum(self.holds.values()) == sum(amount for _, amount in self.jobs.values())
        assert account.version == len(self.entries)
        assert account.held == sum(self.holds[sort] for sort in self.listed)
        assert not any(amount for sort, amount in self.holds.items() if sort not in self.listed)

        under_way = Counter(kind for kind, _ in self.jobs.values())
        assert {kind: number for kind, number in account.in_flight.items() if number} == under_way
        assert all(number <= LIMIT for number in account.in_flight.values())

        total = {kind: sum(e.amount for e in self.entries if e.type == kind) for kind in EFFECTS}
        for balance in ("available", "held", "spent"):
            assert getattr(account, balance) == sum(EFFECTS[kind][balance] * total[kind] for kind in EFFECTS)


# What one credit of an entry does to the balances.
EFFECTS = {
    "grant": {"available": 1, "held": 0, "spent": 0},
    "hold": {"available": -1, "held": 1, "spent": 0},
    "capture": {"available": 0, "held": -1, "spent": 1},
    "release": {"available": 1, "held": -1, "spent": 0},
}

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["grant", "hold", "batch", "split", "capture", "release"]),
        st.integers(0, 50),
        st.integers(0, 10),
    ),
    max_size=40,
)


@given(MOVES)
def test_any_sequence_of_movements_keeps_the_invariants(moves: list[tuple[str, int, int]]) -> None:
    books = Books()

    for number, (move, amount, which) in enumerate(moves):
        kind = KINDS[which % 2]
        # A job of a batch ends only after it has a hold of its own.
        own = sorted(job for job in books.jobs if f"hold#{job}" in books.holds)
        chosen = own[which % len(own)] if own else None
        match move:
            case "grant":
                books.write(ledger.grant(books.account, amount=amount, now=NOW, reason=None))
            case "hold":
                take_one(books, f"job_{number}", kind, amount)
            case "batch":
                take_many(books, f"batch_{number}", [(KINDS[at % 2], amount // 4 + at) for at in range(which % 6 + 1)])
            case "split" if books.unsplit:
                batch = sorted(books.unsplit)[which % len(books.unsplit)]
                split_some(books, batch, which % 3 + 1)
            case "capture" if chosen:
                of_kind, held = books.jobs.pop(chosen)
                spent = min(amount, held)
                books.write(ledger.capture(books.account, job=chosen, kind=of_kind, held=held, amount=spent, now=NOW))
            case "release" if chosen:
                of_kind, held = books.jobs.pop(chosen)
                books.write(ledger.release(books.account, job=chosen, kind=of_kind, held=held, now=NOW))
        books.check()


def take_one(books: Books, job: str, kind: str, amount: int) -> None:
    def hold() -> Change:
        return ledger.hold(books.account, job=job, kind=kind, amount=amount, limit=LIMIT, now=NOW)

    if books.full(kind):
        with pytest.raises(TooManyJobs):
            hold()
    elif amount > books.account.available:
        with pytest.raises(InsufficientCredits):
            hold()
    else:
        books.jobs[job] = (kind, amount)
        books.write(hold())


def take_many(books: Books, batch: str, jobs: list[tuple[str, int]]) -> None:
    def hold() -> Change:
        return ledger.hold_batch(books.account, batch=batch, jobs=jobs, limit=LIMIT, now=NOW)

    if books.full(*(kind for kind, _ in jobs)):
        with pytest.raises(TooManyJobs):
            hold()
    elif sum(amount for _, amount in jobs) > books.account.available:
        with pytest.raises(InsufficientCredits):
            hold()
    else:
        books.unsplit[batch] = [f"{batch}_{number}" for number in range(len(jobs))]
        books.jobs |= dict(zip(books.unsplit[batch], jobs, strict=True))
        books.write(hold())
        (entry,) = books.entries[-1:]
        assert (entry.type, entry.amount, entry.job_id) == ("hold", sum(amount for _, amount in jobs), batch)


def split_some(books: Books, batch: str, most: int) -> None:
    before = books.account
    some, rest = books.unsplit[batch][:most], books.unsplit[batch][most:]
    books.apply(ledger.split_hold("alice", batch, [(job, books.jobs[job][1]) for job in some], last=not rest))
    books.unsplit[batch] = rest
    if not rest:
        del books.unsplit[batch]
        assert books.holds[f"hold#{batch}"] == 0, "all of it has been split off"
    assert books.account == before


def test_a_split_is_refused_by_the_table_where_it_was_done_already() -> None:
    taken, *holds = ledger.split_hold("alice", "batch_1", [("job_1", 3), ("job_2", 4)], last=False)

    assert taken["Update"]["ConditionExpression"] == "#state = :open AND amount >= :taken"
    values = plain(taken["Update"]["ExpressionAttributeValues"])
    assert (plain(taken["Update"]["Key"])["sort"], values[":taken"]) == ("hold#batch_1", 7)
    assert [plain(write["Put"]["Item"])["sort"] for write in holds] == ["hold#job_1", "hold#job_2"]
    assert all("attribute_not_exists" in write["Put"]["ConditionExpression"] for write in holds)


def test_a_kind_that_has_all_its_jobs_under_way_says_so_and_others_go_on() -> None:
    full = replace(ALICE, in_flight={"image": LIMIT})

    with pytest.raises(TooManyJobs) as refused:
        ledger.hold(full, job="job_1", kind="image", amount=1, limit=LIMIT, now=NOW)

    assert (refused.value.status, refused.value.fields) == (429, {"limit": LIMIT})
    assert int(refused.value.headers["retry-after"]) > 0
    taken = ledger.hold(full, job="job_1", kind="video", amount=1, limit=LIMIT, now=NOW)
    assert taken.account.in_flight == {"image": LIMIT, "video": 1}


def test_the_jobs_of_a_batch_count_each_for_its_kind() -> None:
    jobs = [("image", 1), ("video", 5), ("image", 2)]

    taken = ledger.hold_batch(ALICE, batch="batch_1", jobs=jobs, limit=2, now=NOW).account

    assert (taken.available, taken.held, taken.in_flight) == (2, 8, {"image": 2, "video": 1})
    with pytest.raises(TooManyJobs):
        ledger.hold_batch(ALICE, batch="batch_1", jobs=jobs, limit=1, now=NOW)
    with pytest.raises(InsufficientCredits) as refused:
        ledger.hold_batch(ALICE, batch="batch_1", jobs=[*jobs, ("video", 3)], limit=2, now=NOW)
    assert refused.value.fields == {"needed": 11, "available": 10}


def test_what_is_under_way_is_written_with_the_balances() -> None:
    written = hold(ALICE, 4).writes[0]["Update"]

    assert "in_flight = :in_flight" in written["UpdateExpression"]
    assert plain(written["ExpressionAttributeValues"])[":in_flight"] == {"image": 1}


def test_an_account_from_before_jobs_were_counted_counts_from_nothing() -> None:
    item = {"account": "alice", "available": 1, "held": 3, "spent": 0, "granted": 4, "version": 2}

    account = Account.of(item)

    assert account.in_flight == {}
    ended = ledger.release(account, job="job_1", kind="image", held=3, now=NOW).account
    assert ended.in_flight == {"image": 0}


@given(MOVES)
def test_every_entry_carries_the_balances_after_it(moves: list[tuple[str, int, int]]) -> None:
    books = Books()
    for number, (_, amount, _) in enumerate(moves):
        job = f"job_{number}"
        books.write(ledger.grant(books.account, amount=amount, now=NOW, reason=None))
        books.write(hold(books.account, amount, job=job))
        books.write(ledger.capture(books.account, job=job, kind="image", held=amount, amount=amount // 2, now=NOW))

    balances = {"available": 0, "held": 0, "spent": 0}
    for entry in books.entries:
        balances = {name: balances[name] + EFFECTS[entry.type][name] * entry.amount for name in balances}
        assert {name: getattr(entry, name) for name in balances} == balances


def test_a_partial_capture_releases_the_rest_in_the_same_change() -> None:
    account = Account("alice", available=5, held=10, spent=0, granted=15, version=7)

    change = ledger.capture(account, job="job_1", kind="image", held=10, amount=4, now=NOW)

    assert [(entry.type, entry.amount) for entry in change.entries] == [("capture", 4), ("release", 6)]
    first, second = change.entries
    assert (first.available, first.held, first.spent) == (5, 6, 4)
    assert (second.available, second.held, second.spent) == (11, 0, 4)
    assert change.account == Account(
        "alice", available=11, held=0, spent=4, granted=15, version=9, in_flight={"image": 0}
    )


def test_a_full_capture_releases_nothing() -> None:
    account = Account("alice", available=0, held=10, spent=0, granted=10, version=2)

    change = ledger.capture(account, job="job_1", kind="image", held=10, amount=10, now=NOW)

    assert [(entry.type, entry.amount) for entry in change.entries] == [("capture", 10)]


@pytest.mark.parametrize("amount", [-1, 11])
def test_a_capture_outside_of_the_hold_is_refused(amount: int) -> None:
    account = Account("alice", available=50, held=30, spent=0, granted=80, version=2)

    with pytest.raises(ValueError, match="cannot capture"):
        ledger.capture(account, job="job_1", kind="image", held=10, amount=amount, now=NOW)


def test_a_movement_that_would_make_a_balance_negative_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        ledger.release(ALICE, job="job_1", kind="image", held=1, now=NOW)


def test_a_hold_of_more_than_is_available_says_both_numbers() -> None:
    with pytest.raises(InsufficientCredits) as refused:
        hold(ALICE, 11)

    assert (refused.value.fields["needed"], refused.value.fields["available"]) == (11, 10)
    assert refused.value.status == 402


def test_a_hold_of_exactly_what_is_available_is_taken() -> None:
    assert hold(ALICE, 10).account.available == 0


def test_a_change_writes_the_account_first_under_the_version_it_was_decided_on() -> None:
    change = hold(ALICE, 4)

    account, entry, held = (next(iter(write.values())) for write in change.writes)
    assert account["ConditionExpression"] == ledger.STILL_THIS_VERSION
    assert plain(account["ExpressionAttributeValues"])[":version"] == 1
    assert plain(account["ExpressionAttributeValues"])[":next"] == 2
    assert plain(entry["Item"])["sort"] == "entry#000000000002"
    assert plain(held["Item"]) == {
        "sort": "hold#job_1",
        "account": "alice",
        "amount": 4,
        "captured": 0,
        "state": "open",
        "open_for": "alice",
    }
    assert "attribute_not_exists" in entry["ConditionExpression"]
    assert "attribute_not_exists" in held["ConditionExpression"]


def test_the_end_of_a_hold_is_written_only_while_it_is_open_with_that_amount() -> None:
    account = Account("alice", available=0, held=10, spent=0, granted=10, version=2)

    for change in (
        ledger.capture(account, job="job_1", kind="image", held=10, amount=3, now=NOW),
        ledger.release(account, job="job_1", kind="image", held=10, now=NOW),
    ):
        end = change.writes[-1]["Update"]
        assert plain(end["Key"])["sort"] == "hold#job_1"
        assert end["ConditionExpression"] == ledger.STILL_HELD
        values = plain(end["ExpressionAttributeValues"])
        assert (values[":open"], values[":amount"]) == ("open", 10)


def test_the_first_grant_makes_the_account() -> None:
    change = ledger.grant(Account("bob"), amount=7, now=NOW, reason="welcome")

    assert change.writes[0]["Update"]["ConditionExpression"] == ledger.NO_ACCOUNT_YET
    assert change.entries[0].reason == "welcome"
    assert change.entries[0].job_id is None


# From here on with the answers of DynamoDB written down.


@pytest.fixture
def table(environment: pytest.MonkeyPatch) -> Iterator[Stubber]:
    environment.setattr(time, "sleep", lambda _: None)
    with Stubber(aws.dynamodb()) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def item(account: Account) -> Any:
    return dynamo.attributes({"account": account.id, "sort": "account", **vars(account)})


def refuse(table: Stubber, *met: Account | None) -> None:
    """Cancel the next transaction; `met` is what each write has met, None where it was not refused."""
    reasons = [{"Code": "ConditionalCheckFailed", "Item": item(found)} if found else {"Code": "None"} for found in met]
    table.add_client_error(
        "transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons}
    )


def take(amount: int) -> ledger.Decide:
    return lambda account: (hold(account, amount), [])


def test_a_writer_that_lost_the_race_decides_again_by_the_account_that_won(table: Stubber) -> None:
    moved = Account("alice", available=6, held=4, spent=0, granted=10, version=2, in_flight={"image": 1})
    table.add_response("get_item", {"Item": item(ALICE)})
    refuse(table, moved, None, None)
    table.add_response("transact_write_items", {})

    change = ledger.commit("alice", take(6))

    assert change.account == replace(moved, available=0, held=10, version=3, in_flight={"image": 2})


def test_the_account_is_not_read_again_after_a_change_of_this_process(table: Stubber) -> None:
    table.add_response("get_item", {"Item": item(ALICE)})
    table.add_response("transact_write_items", {})
    table.add_response("transact_write_items", {})

    ledger.commit("alice", take(1))
    change = ledger.commit("alice", take(1))

    assert change.account.available == 8


def test_nobody_is_told_of_missing_credits_from_memory(table: Stubber) -> None:
    table.add_response("get_item", {"Item": item(ALICE)})
    table.add_response("transact_write_items", {})
    ledger.commit("alice", take(10))
    table.add_response("get_item", {"Item": item(Account("alice", 90, 10, 0, 100, 3))})
    table.add_response("transact_write_items", {})

    change = ledger.commit("alice", take(50))

    assert change.account.available == 40


def test_an_account_that_nobody_has_granted_anything_has_no_credits(table: Stubber) -> None:
    table.add_response("get_item", {})

    with pytest.raises(InsufficientCredits) as refused:
        ledger.commit("nobody", take(3))

    assert refused.value.fields == {"needed": 3, "available": 0}


def test_another_refused_condition_is_the_answer_even_if_the_account_has_moved_too(table: Stubber) -> None:
    table.add_response("get_item", {"Item": item(ALICE)})
    refuse(table, ALICE, None, ALICE)

    with pytest.raises(Refused) as refused:
        ledger.commit("alice", take(1))

    assert refused.value.refusals == [True, False, True]


def test_who_loses_every_race_is_told_to_try_again(table: Stubber) -> None:
    table.add_response("get_item", {"Item": item(ALICE)})
    for _ in range(ledger.RACES):
        refuse(table, ALICE, None, None)

    with pytest.raises(Unavailable) as busy:
        ledger.commit("alice", take(1))

    assert busy.value.code == "busy"
    assert busy.value.headers["retry-after"] == "1"


def test_a_repeated_grant_meets_the_entry_of_the_first(table: Stubber) -> None:
    made = ledger.grant(Account("bob"), amount=7, now=NOW, reason="welcome").entries[0]
    once = {"sort": "once#key", "account": "bob", **{k: v for k, v in vars(made).items() if v is not None}}
    table.add_response("get_item", {"Item": item(ALICE)})
    reasons: list[Any] = [{"Code": "None"}, {"Code": "None"}]
    reasons.append({"Code": "ConditionalCheckFailed", "Item": dynamo.attributes(once)})
    table.add_client_error(
        "transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons}
    )

    entry, replayed = ledger.grant_once("bob", key="key", amount=9, now=NOW, reason=None)

    assert (entry, replayed) == (made, True)
