"""The reconciliation on the emulator's tables: healthy accounts add up, tampered ones are found and never repaired."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.clock import now
from shared.core.log import logger
from shared.core.settings import settings
from shared.credits import ledger, reconcile
from shared.credits.ledger import Account, Change
from shared.credits.reconcile import Balances
from tests.inside import aws_calls
from tests.support import Json

pytestmark = pytest.mark.usefixtures("product")

Move = Callable[[Account], Change]


@pytest.fixture
def account() -> str:
    return f"reconcile-{uuid4().hex[:12]}"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The lines of the log."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logger.registered_formatter)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def commit(account: str, move: Move) -> None:
    ledger.commit(account, lambda found: (move(found), []))


def live(account: str, *, jobs: int = 6) -> None:
    """Some history: a grant, and jobs of which one is still under way."""
    commit(account, lambda found: ledger.grant(found, amount=1000, now=now(), reason=None))
    for number in range(jobs):
        job = f"job_{uuid4().hex}"
        commit(
            account, lambda found, job=job: ledger.hold(found, job=job, kind="image", amount=10, limit=99, now=now())
        )
        if number == jobs - 1:
            return
        end = (
            (lambda found, job=job: ledger.capture(found, job=job, kind="image", held=10, amount=7, now=now()))
            if number % 2
            else (lambda found, job=job: ledger.release(found, job=job, kind="image", held=10, now=now()))
        )
        commit(account, end)


def row(account: str, sort: str = "account") -> Json:
    item = dynamo.get(settings().ledger_table, {"account": account, "sort": sort})
    assert item is not None
    return item


def tamper(account: str, sort: str = "account", **values: Any) -> None:
    """Change an item as somebody with access to the table would."""
    names = {f"#{name}": name for name in values}
    aws.dynamodb().update_item(
        TableName=settings().ledger_table,
        Key=dynamo.attributes({"account": account, "sort": sort}),
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames=names,
        ExpressionAttributeValues=dynamo.attributes({f":{name}": value for name, value in values.items()}),
    )


def due(account: str) -> bool:
    return account in reconcile._due(now())


def test_a_healthy_account_adds_up_and_is_then_left_alone(account: str) -> None:
    live(account)
    assert due(account)

    assert reconcile.check(account) == []

    item = row(account)
    assert Balances.of(item["reconciled"]) == Balances.of(item)
    assert item["reconcile_at"] > now() + 29 * 86400
    assert not due(account)


def test_the_next_change_makes_it_due_and_only_what_is_new_is_read(account: str) -> None:
    live(account)
    with aws_calls() as first:
        reconcile.check(account)
    with aws_calls() as quiet:
        assert reconcile.check(account) == []
    commit(account, lambda found: ledger.grant(found, amount=5, now=now(), reason=None))

    assert due(account)
    read = list(reconcile._entries(account, row(account)["reconciled"]["version"], row(account)["version"]))
    assert [entry["amount"] for entry in read] == [5]
    assert reconcile.check(account) == []
    assert first.names == ["GetItem", "Query", "Query", "UpdateItem"]
    assert quiet.names == ["GetItem", "Query", "UpdateItem"]


def test_a_batch_adds_up_before_while_and_after_it_is_split(account: str) -> None:
    commit(account, lambda found: ledger.grant(found, amount=100, now=now(), reason=None))
    jobs = [("image", 10), ("image", 20), ("portrait", 30)]
    batch = f"batch_{uuid4().hex}"
    named = [(f"job_{uuid4().hex}", amount) for _, amount in jobs]
    commit(account, lambda found: ledger.hold_batch(found, batch=batch, jobs=jobs, limit=99, now=now()))

    assert reconcile.check(account) == []
    dynamo.transact(ledger.split_hold(account, batch, named[:2], last=False))
    assert reconcile.check(account) == []
    dynamo.transact(ledger.split_hold(account, batch, named[2:], last=True))
    assert reconcile.check(account) == []

    open_holds = reconcile._query("open_for = :account", {":account": account}, index="open_holds")
    assert sorted(hold["amount"] for hold in open_holds) == [10, 20, 30]


@pytest.mark.parametrize("name", ["available", "held", "spent", "granted"])
def test_a_tampered_balance_is_found_told_and_not_repaired(
    account: str, name: str, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    live(account)
    reconcile.check(account)
    commit(account, lambda found: ledger.grant(found, amount=1, now=now(), reason=None))
    was = row(account)
    tamper(account, **{name: was[name] + 3})

    report = reconcile.reconcile(lambda: 900.0)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"CloudWatchMetrics"' in line]

    assert report.different >= 1
    (told,) = [line for line in lines if line.get("account") == account]
    assert told["level"] == "ERROR"
    assert f"{name} is {was[name] + 3}, the entries say {was[name]}" in told["differences"]
    (metric,) = [metric for metric in metrics if "LedgerDifference" in metric]
    assert metric["LedgerDifference"] == [report.different]
    assert row(account)[name] == was[name] + 3
    assert due(account)
    tamper(account, **{name: was[name]})
    assert reconcile.check(account) == []


def test_an_entry_that_was_rewritten_is_found(account: str) -> None:
    live(account)
    tamper(account, "entry#000000000003", amount=9999)

    found = reconcile.check(account)

    assert any("entry 3" in line for line in found)
    tamper(account, "entry#000000000003", amount=10)


def test_an_entry_that_was_taken_away_is_found(account: str) -> None:
    live(account)
    taken = {"account": account, "sort": "entry#000000000004"}
    item = row(account, taken["sort"])
    aws.dynamodb().delete_item(TableName=settings().ledger_table, Key=dynamo.attributes(taken))

    assert any("entry 4 is missing" in line for line in reconcile.check(account))
    dynamo.save(settings().ledger_table, item)


def test_a_quiet_accounts_balance_is_looked_at_within_the_month(account: str) -> None:
    live(account)
    reconcile.check(account)
    tamper(account, available=1_000_000, granted=1_000_000)

    assert not due(account)
    assert account in reconcile._due(now() + 31 * 86400)
    assert reconcile.check(account) != []
    item = row(account)["reconciled"]
    tamper(account, available=item["available"], granted=item["granted"])


def test_the_deployed_function_reports_what_it_has_checked(stack: Stack, account: str) -> None:
    live(account)

    answer = stack.client("lambda").invoke(FunctionName=stack.functions["ReconcileLedgerFunction"], Payload=b"{}")
    report = json.loads(answer["Payload"].read())

    assert "FunctionError" not in answer
    assert report["checked"] >= 1
    assert report["failed"] == report["left"] == 0
    assert row(account)["reconciled"]["version"] == row(account)["version"]
