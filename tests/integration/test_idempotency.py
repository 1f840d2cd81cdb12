"""The same thing asked for twice, one after the other and at once: grants and generations."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import now
from shared.core.errors import InsufficientCredits, Invalid
from shared.credits import ledger
from shared.jobs import accept
from shared.jobs.accept import Accepted
from shared.jobs.requests import ImageRequest, PortraitRequest, Request
from tests.inside import Fault, Killed, aws_calls, forget_answers
from tests.support import job_rows, rows

pytestmark = pytest.mark.usefixtures("product")


@pytest.fixture
def account() -> str:
    return f"twice-{uuid4().hex[:12]}"


def grant(account: str, amount: int = 100, key: str = "start") -> tuple[ledger.Entry, bool]:
    return ledger.grant_once(account, key=key, amount=amount, now=now(), reason="a test")


def ask(account: str, request: Request, key: str | None = "a key") -> Accepted:
    made = accept.offer(account, request)
    return accept.accept(account, request, made, idempotency_key=key, request_id=uuid4().hex)


def test_a_repeated_grant_answers_the_entry_of_the_first(account: str) -> None:
    first, repeated_first = grant(account, 7)
    second, repeated_second = grant(account, 9)

    assert (repeated_first, repeated_second) == (False, True)
    assert second == first
    assert ledger.read(account).available == 7


def test_twenty_grants_at_once_with_one_key_are_one(stack: Stack, account: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: grant(account), range(20)))

    assert len({entry.id for entry, _ in answers}) == 1
    assert [repeated for _, repeated in answers].count(False) == 1
    assert ledger.read(account).granted == 100
    assert ledger.read(account).version == 1


def test_grants_with_other_keys_or_of_other_accounts_are_their_own(account: str) -> None:
    other = f"{account}-2"

    grant(account, 1, "one")
    grant(account, 2, "two")
    grant(other, 4, "one")

    assert (ledger.read(account).available, ledger.read(other).available) == (3, 4)


@pytest.mark.parametrize("effect", ["before", "after"])
def test_a_grant_whose_answer_was_lost_is_made_once(account: str, effect: str) -> None:
    forget_answers()
    with aws_calls(Fault(1, effect, "death")) as calls, pytest.raises(Killed):  # type: ignore[arg-type]
        grant(account)
    assert calls.names == ["GetItem", "TransactWriteItems"]

    _, repeated = grant(account)

    assert repeated == (effect == "after")
    assert ledger.read(account).granted == 100


def test_a_repeated_request_meets_its_own_job(stack: Stack, account: str) -> None:
    grant(account)
    first = ask(account, ImageRequest(prompt="a lighthouse", count=2))
    second = ask(account, ImageRequest(prompt="a lighthouse", count=2))

    assert (first.replayed, second.replayed) == (False, True)
    assert second.job == first.job
    assert len(job_rows(stack, account)) == 1
    assert ledger.read(account).held == 6


@pytest.mark.parametrize(
    "other",
    [
        ImageRequest(prompt="a lighthouse."),
        ImageRequest(prompt="a lighthouse", count=1),
        ImageRequest(prompt="a lighthouse", metadata={"order": "1"}),
        PortraitRequest(prompt="a lighthouse"),
    ],
)
def test_another_request_under_the_same_key_is_refused_and_holds_nothing(account: str, other: Request) -> None:
    grant(account)
    ask(account, ImageRequest(prompt="a lighthouse"))

    with pytest.raises(Invalid) as refused:
        ask(account, other)

    assert refused.value.code == "idempotency_key_reused"
    assert ledger.read(account).held == 3


def test_the_same_key_of_another_account_is_another_job(account: str) -> None:
    other = f"{account}-2"
    grant(account)
    grant(other)
    request = ImageRequest(prompt="a lighthouse")

    assert ask(account, request).job.id != ask(other, request).job.id


def test_without_a_key_every_request_is_a_job(account: str) -> None:
    grant(account)
    request = ImageRequest(prompt="a lighthouse")

    assert ask(account, request, None).job.id != ask(account, request, None).job.id
    assert ledger.read(account).held == 6


def test_twenty_requests_at_once_with_one_key_are_one_job_and_one_hold(stack: Stack, account: str) -> None:
    grant(account)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask(account, ImageRequest(prompt="a lighthouse")), range(20)))

    assert [answer.replayed for answer in answers].count(False) == 1
    assert len({answer.job.id for answer in answers}) == 1
    assert len(job_rows(stack, account)) == 1
    held = [item for item in rows(stack, "ledger", account=account) if item["sort"].startswith("hold#")]
    assert len(held) == 1
    assert ledger.read(account).held == 3


def test_a_repeat_is_answered_although_the_credits_are_used_up(account: str) -> None:
    grant(account, 3)
    first = ask(account, ImageRequest(prompt="a lighthouse"))

    again = ask(account, ImageRequest(prompt="a lighthouse"))

    assert (again.replayed, again.job.id) == (True, first.job.id)
    with pytest.raises(InsufficientCredits):
        ask(account, ImageRequest(prompt="a lighthouse"), "another key")
