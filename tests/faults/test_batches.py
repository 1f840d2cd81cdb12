"""Every AWS call of a batch's acceptance fails once before and once after it took effect: all of its jobs, or none."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, get_args
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import now
from shared.credits import ledger
from shared.jobs import batches
from shared.jobs import sweep as sweeper
from tests.faults import scenes
from tests.faults.scenes import Scene, make_due
from tests.inside import Calls, Effect, Fault, How, Killed, aws_calls, forget_answers, forget_everything, inside
from tests.support import TERMINAL, Json, Studio, job_rows, rows, sweep

CREDITS, SIZE, PRICE = 100, 2, 3 + 1
PATIENCE_S = 60

# With one job in a transaction: the door, the keys of both providers, the hold, a split for each job, a start for each,
# the view.
CALLS = (
    "GetSecretValue",
    "BatchGetItem",
    "UpdateItem",
    *["GetSecretValue"] * 2,
    "GetItem",
    *["TransactWriteItems"] * (1 + SIZE),
    "BatchGetItem",
    *["StartExecution"] * SIZE,
    "UpdateItem",
    "BatchGetItem",
)
LIMIT, ACCEPTS = CALLS.index("UpdateItem"), CALLS.index("TransactWriteItems")

FAULTS: list[Fault | None] = [
    None,
    *(Fault(call, effect, how) for call in range(len(CALLS)) for effect in get_args(Effect) for how in get_args(How)),
]


def named(fault: Fault | None) -> str:
    return f"{fault.call}-{CALLS[fault.call]}-{fault.effect}-{fault.how}" if fault else "calm"


@dataclass
class Outcome:
    """What the fault did at once, what the sweeper made of it, and the end."""

    studio: Studio
    scene: Scene
    calls: Calls
    answer: Any
    held: int
    swept: list[Json] = field(default_factory=list)
    batch: Json = field(default_factory=dict)
    broken_invariant: AssertionError | None = None


@pytest.fixture(scope="module")
def outcomes(stack: Stack) -> Iterator[dict[Fault | None, Outcome]]:
    found: dict[Fault | None, Outcome] = {}
    try:
        with inside(stack, TIME_SCALE="1"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "A_TRANSACTION", 1)
            for fault in FAULTS:
                found[fault] = _strike(stack, fault)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_look, found.values()))
        yield found
    finally:
        for outcome in found.values():
            outcome.studio.close()


def _strike(stack: Stack, fault: Fault | None) -> Outcome:
    """Let the handler meet its fault, the sweeper find what it left, and the caller repeat the request."""
    forget_everything()
    studio = Studio(stack, f"batch-{uuid4().hex[:12]}")
    ledger.grant_once(studio.account, key="start", amount=CREDITS, now=now(), reason=None)
    scene = scenes.create_many(studio, SIZE)
    forget_answers()
    with aws_calls(fault) as calls:
        try:
            answer = scene.run()
        except (Killed, Exception) as error:  # noqa: BLE001 Whatever it is, the batch has to survive it.
            answer = error
    account = ledger.read(studio.account)
    # A job that was quick is paid for already.
    outcome = Outcome(studio, scene, calls, answer, account.held + account.spent)
    try:
        studio.check_invariants()
    except AssertionError as error:
        outcome.broken_invariant = error
    sweeper._look_after(scene.job_id, sweeper.Round())
    outcome.swept = job_rows(stack, studio.account)
    scene.repeat()
    return outcome


def _look(outcome: Outcome) -> None:
    outcome.batch = ended(outcome.studio, outcome.scene.job_id)
    try:
        outcome.studio.check_invariants()
    except AssertionError as error:
        outcome.broken_invariant = outcome.broken_invariant or error


def ended(studio: Studio, batch_id: str) -> Json:
    """The batch once all of its jobs are over, or as it is when our patience is."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = studio.http.get(f"/batches/{batch_id}")
        assert answer.status_code == 200, answer.text
        if answer.json()["finished"] or time.monotonic() > deadline:
            return dict(answer.json())
        time.sleep(0.2)


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_the_fault_struck_the_call_it_was_meant_for(fault: Fault | None, outcomes: dict[Fault | None, Outcome]) -> None:
    calls = outcomes[fault].calls

    if fault is None:
        assert tuple(calls.names) == CALLS
        return
    assert calls.names[fault.call] == CALLS[fault.call]
    assert calls.tries == {"once": 2, "death": 1}.get(fault.how, calls.tries)
    assert calls.tries >= (3 if fault.how == "for_good" else 1)
    assert isinstance(outcomes[fault].answer, Killed) == (fault.how == "death")


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_a_batch_is_held_for_with_all_its_jobs_or_not_at_all(
    fault: Fault | None, outcomes: dict[Fault | None, Outcome]
) -> None:
    outcome = outcomes[fault]
    at = (fault.call, fault.effect) if fault else None
    # A limit that cannot be counted is none.
    harmless = fault is None or fault.how == "once" or (fault.call, fault.how) == (LIMIT, "for_good")
    accepted = harmless or (fault is not None and fault.call > ACCEPTS) or at == (ACCEPTS, "after")

    assert outcome.held == (PRICE if accepted else 0)
    assert len(outcome.swept) == (SIZE if accepted else 0)


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_every_job_of_it_ends_and_is_paid_for_once(fault: Fault | None, outcomes: dict[Fault | None, Outcome]) -> None:
    outcome = outcomes[fault]

    assert outcome.batch["counts"] == {"succeeded": SIZE}
    assert outcome.batch["credits"] == {"held": PRICE, "charged": PRICE}
    assert outcome.broken_invariant is None
    account = ledger_of(outcome.studio)
    assert (account["spent"], account["held"], account["in_flight"]) == (PRICE, 0, {"image": 0, "speech": 0})
    images = [job for job in outcome.batch["items"] if job["kind"] == "image"]
    assert [outcome.studio.simulated(job["id"])["prediction_count"] for job in images] == [1] * len(images)


def ledger_of(studio: Studio) -> Json:
    return next(item for item in rows(studio.stack, "ledger", account=studio.account) if item["sort"] == "account")


def test_the_sweeper_splits_off_what_a_dead_request_has_left(new_studio: Callable[..., Studio]) -> None:
    """More jobs than one transaction takes, and death between the first and the second."""
    studio, size = new_studio(), batches.A_TRANSACTION + 2
    with inside(studio.stack, TIME_SCALE="1"):
        scene = scenes.create_many(studio, size)
        forget_answers()
        with aws_calls(Fault(ACCEPTS + 2, "before", "death")) as calls, pytest.raises(Killed):
            scene.run()
    assert calls.names[ACCEPTS:] == ["TransactWriteItems"] * 3
    assert len(job_rows(studio.stack, studio.account)) == batches.A_TRANSACTION
    studio.check_invariants()

    make_due(studio.stack, scene.job_id)
    sweep(studio.stack)

    jobs = job_rows(studio.stack, studio.account)
    assert len(jobs) == size
    batch = ended(studio, scene.job_id)
    assert batch["counts"] == {"succeeded": size}
    assert {job["status"] for job in batch["items"]} <= TERMINAL
    assert ledger_of(studio)["in_flight"] == {"image": 0, "speech": 0}
