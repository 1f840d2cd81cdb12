"""What a provider may cost in a day: counted with each settlement, told of at 80 %, and at 100 % a closed door."""

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from api import create_batch, create_image, create_speech
from generation import store
from local.cloud import Stack
from shared.core import dynamo
from shared.core.errors import Unavailable
from shared.jobs import budget, settle, table
from shared.jobs.requests import SpeechRequest
from shared.providers.outcomes import Failure
from tests.faults.scenes import CONTEXT, accepted, api_event, ended, recorded
from tests.inside import Fault, Killed, aws_calls, forget_answers, inside
from tests.support import Json, Studio, rows

IMAGE_USD = 0.003
BUDGET_USD = 1000
TO_MIDNIGHT_S = 2.5 * 3600
REFUSED = "provider_budget_exhausted"


@pytest.fixture
def clock(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A deployment where Replicate has a budget, at half past nine in the evening of a day that nobody else has."""
    day = datetime(2030, 1, 1, 21, 30, tzinfo=UTC) + timedelta(days=random.randrange(100_000))
    now = [day.timestamp()]
    with inside(stack, TIME_SCALE="1", PROVIDER_BUDGETS_USD=f"replicate={BUDGET_USD}"):
        for module in (budget, settle):
            monkeypatch.setattr(module, "current_time", lambda: now[0])
        yield now


@pytest.fixture
def studio(clock: list[float], new_studio: Callable[..., Studio]) -> Iterator[Studio]:
    """An account whose jobs are over when the test is."""
    made = new_studio()
    yield made
    for item in rows(made.stack, "ledger", account=made.account):
        if item["sort"].startswith("hold#job_") and item["state"] == "open":
            end(item["sort"].removeprefix("hold#"))


def end(job_id: str) -> None:
    job = table.get(job_id)
    assert job is not None
    settle.fail(job, "failed", Failure("a_test", "A test."))


def spend(usd: float, now: float) -> None:
    """Jobs of others have cost this, and the minute is over in which this process would not know."""
    dynamo.transact([budget.spend("replicate", usd, now)])
    forget_answers()


def ask(studio: Studio, path: str, body: Json, key: str = "") -> Json:
    module = {"images": create_image, "speech": create_speech, "batches": create_batch}[path]
    event = api_event(studio, f"/v1/{path}", body, {"idempotency-key": key} if key else {})
    answer: Json = module.handler(event, CONTEXT)
    return answer


def reported(capsys: pytest.CaptureFixture[str]) -> list[Json]:
    """The metrics of budgets since the last look, as CloudWatch reads them from the log."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return [line for line in lines if "BudgetUsedPercent" in line]


def stored(studio: Studio) -> table.Job:
    """A job whose files are stored: its settlement is next."""
    job, state = ended(studio, "a picture")
    store.handler(state, None)
    found = table.get(job.id)
    assert found is not None
    return found


# What is counted


def test_what_a_job_has_cost_is_counted_once(clock: list[float], studio: Studio) -> None:
    job = stored(studio)
    assert budget.spent("replicate", clock[0]) == 0

    with aws_calls() as calls:
        settle.succeed(job)
    settle.succeed(job)

    assert calls.names.count("TransactWriteItems") == 1
    assert not {"PutItem", "UpdateItem"} & set(calls.names)
    assert budget.spent("replicate", clock[0]) == IMAGE_USD
    (row,) = rows(studio.stack, "jobs", id=job.id)
    assert (row["status"], float(row["cost_usd"])) == ("succeeded", IMAGE_USD)


@pytest.mark.parametrize("effect", ["before", "after"])
def test_a_settlement_that_dies_is_counted_with_its_money_or_not_at_all(
    clock: list[float], studio: Studio, effect: str
) -> None:
    job = stored(studio)
    forget_answers()
    with aws_calls(Fault(1, effect, "death")) as calls, pytest.raises(Killed):  # type: ignore[arg-type]
        settle.succeed(job)

    assert calls.names == ["GetItem", "TransactWriteItems"]
    assert budget.spent("replicate", clock[0]) == (IMAGE_USD if effect == "after" else 0)
    assert studio.credits()["spent"] == (3 if effect == "after" else 0)

    settle.succeed(job)
    assert budget.spent("replicate", clock[0]) == IMAGE_USD
    assert studio.credits()["spent"] == 3


def test_a_job_that_fails_has_cost_nothing(clock: list[float], studio: Studio) -> None:
    end(accepted(studio, "a failure").id)

    assert budget.spent("replicate", clock[0]) == 0


def test_costs_are_added_up_exactly_by_provider_and_day(clock: list[float], studio: Studio) -> None:
    for _ in range(30):
        spend(0.1, clock[0])

    assert budget.spent("replicate", clock[0]) == 3
    assert len(rows(studio.stack, "ledger", account=budget._partition("replicate", clock[0]))) > 1
    assert budget.spent("replicate", clock[0] + TO_MIDNIGHT_S) == 0
    assert budget.spent("kie", clock[0]) == 0


# What follows from it


def test_from_80_percent_on_every_request_is_accepted_and_reported(
    clock: list[float], studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(799.9, clock[0])
    assert ask(studio, "images", {"prompt": "unreported"})["statusCode"] == 202
    assert reported(capsys) == []

    spend(0.1, clock[0])
    assert ask(studio, "images", {"prompt": "reported"})["statusCode"] == 202
    spend(199.9, clock[0])
    assert ask(studio, "images", {"prompt": "reported again"})["statusCode"] == 202

    told = reported(capsys)
    assert [line["BudgetUsedPercent"] for line in told] == [[80.0], [pytest.approx(99.99)]]
    assert {line["provider"] for line in told} == {"replicate"}


def test_a_budget_that_is_spent_closes_the_provider_until_midnight(
    clock: list[float], studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(1000, clock[0])

    answer = ask(studio, "images", {"prompt": "too late"})

    problem = json.loads(answer["body"])
    assert (answer["statusCode"], problem["status"], problem["code"]) == (503, 503, REFUSED)
    assert answer["headers"]["retry-after"] == f"{TO_MIDNIGHT_S:.0f}"
    assert "1000" not in answer["body"]
    assert [line["BudgetUsedPercent"] for line in reported(capsys)] == [[100.0]]
    assert studio.credits() == {"available": 100, "held": 0, "spent": 0}

    clock[0] += TO_MIDNIGHT_S - 1
    assert ask(studio, "images", {"prompt": "still too late"})["headers"]["retry-after"] == "1"
    clock[0] += 1
    assert ask(studio, "images", {"prompt": "the next day"})["statusCode"] == 202


def test_other_providers_go_on(clock: list[float], studio: Studio) -> None:
    spend(1000, clock[0])
    image, speech = {"kind": "image", "prompt": "too late"}, {"kind": "speech", "text": "In time."}

    alone = ask(studio, "speech", {"text": "In time."})
    together = ask(studio, "batches", {"generations": [speech, speech]})
    mixed = ask(studio, "batches", {"generations": [speech, image]})

    assert (alone["statusCode"], together["statusCode"]) == (202, 202)
    assert (mixed["statusCode"], json.loads(mixed["body"])["code"]) == (503, REFUSED)
    made = [json.loads(alone["body"]), *json.loads(together["body"])["items"]]
    assert [studio.wait(job["id"])["status"] for job in made] == ["succeeded"] * 3


def test_a_job_under_way_finishes_and_is_counted(clock: list[float], studio: Studio) -> None:
    job = stored(studio)
    spend(1000, clock[0])

    settle.succeed(job)

    assert studio.job(job.id)["status"] == "succeeded"
    assert budget.spent("replicate", clock[0]) == 1000 + IMAGE_USD


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("images", {"prompt": "in time"}),
        ("batches", {"generations": [{"kind": "image", "prompt": "in time [sim delay=0]"}]}),
    ],
)
def test_a_repeat_of_what_was_accepted_is_answered(clock: list[float], studio: Studio, path: str, body: Json) -> None:
    first = ask(studio, path, body, key="one")
    spend(1000, clock[0])

    again = ask(studio, path, body, key="one")
    other = ask(studio, path, body, key="two")

    assert (first["statusCode"], again["statusCode"], other["statusCode"]) == (202, 202, 503)
    assert again["headers"]["idempotency-replayed"] == "true"
    assert json.loads(again["body"])["id"] == json.loads(first["body"])["id"]
    for job in json.loads(first["body"]).get("items", [json.loads(first["body"])]):
        studio.wait(job["id"])


def test_what_others_have_spent_is_known_after_seconds(clock: list[float], studio: Studio) -> None:
    budget.check("replicate")
    dynamo.transact([budget.spend("replicate", 1000, clock[0])])

    budget.check("replicate")
    clock[0] += budget.REMEMBER_S + 1
    with pytest.raises(Unavailable) as refused:
        budget.check("replicate")

    assert refused.value.code == REFUSED


def test_a_provider_without_a_budget_has_no_limit(clock: list[float], studio: Studio) -> None:
    dynamo.transact([budget.spend("openai", 1_000_000, clock[0])])

    assert recorded(studio, SpeechRequest(text="No limit.", model="gpt-4o-mini-tts")).provider == "openai"


def test_a_budget_of_nothing_is_spent_from_the_beginning(
    stack: Stack, new_studio: Callable[..., Studio], capsys: pytest.CaptureFixture[str]
) -> None:
    with inside(stack, PROVIDER_BUDGETS_USD="replicate=0"):
        answer = ask(new_studio(), "images", {"prompt": "never"})

    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, REFUSED)
