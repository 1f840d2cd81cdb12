"""Every AWS call of every handler that moves a job fails once before and once after it took effect; nothing is lost.

All faults are struck first, each on a job of its own; then the sweeper and the real workflow go on with all of them at
once, and the tests look at what came of each.
"""

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, get_args
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import now
from shared.credits import ledger
from shared.media import images, probe
from tests.faults import scenes
from tests.faults.scenes import Scene, make_due
from tests.inside import Calls, Effect, Fault, How, Killed, aws_calls, forget_answers, forget_everything, inside
from tests.support import TERMINAL, Json, Studio, job_rows, rows, sweep

CREDITS = 100
PATIENCE_S = 120


@dataclass(frozen=True)
class Subject:
    """A handler at work: `calls` are those of a calm run, in order; `ends` is how its job ends, whatever happens.

    `predictions` and `generations` are what providers that answer later or at once are asked for in all.
    """

    name: str
    scene: Callable[[Studio], Scene]
    calls: tuple[str, ...]
    ends: str = "succeeded"
    price: int = 3
    predictions: int = 1
    generations: int = 0


# Who it is, what was revoked, how often somebody was here.
DOOR = ("GetSecretValue", "BatchGetItem", "UpdateItem")
LIMIT = DOOR.index("UpdateItem")
ACCEPT = (*DOOR, "GetSecretValue", "GetItem", "TransactWriteItems")
CREATE = (*ACCEPT, "GetItem", "UpdateItem", "StartExecution")
ACCEPTS = CREATE.index("TransactWriteItems")
CREATE_SPEECH = (*ACCEPT, "StartExecution")
CANCEL = (*DOOR, "GetItem", "UpdateItem")
KEEP = ("UpdateItem", "PutObject", "HeadObject", "GetObject", "TransactWriteItems")
GENERATE = ("GetItem", "GetSecretValue", "GetItem", "UpdateItem", "UpdateItem", *KEEP, "UpdateItem")
CLAIM, BEGUN, KEPT = 3, 4, GENERATE.index("TransactWriteItems")

# Those first whose jobs need the longest to recover: nobody may touch an attempt that may still be on its way.
SUBJECTS = [
    Subject("create", scenes.create("[sim webhook=lost]"), CREATE),
    Subject("create_and_webhook", scenes.create("[sim delay=0]"), CREATE),
    Subject("create_speech", scenes.create_speech, CREATE_SPEECH, price=1, predictions=0, generations=1),
    Subject("generate", scenes.generate_speech, GENERATE, price=1, predictions=0, generations=1),
    Subject("submit", scenes.submit_queued, ("GetItem", "UpdateItem", "GetSecretValue", "GetItem", "UpdateItem")),
    Subject("submit_lost", scenes.submit_lost, ("GetItem", "GetSecretValue", "UpdateItem")),
    Subject("poll", scenes.poll_ended, ("GetItem", "GetSecretValue", "UpdateItem")),
    Subject("store", scenes.store_result, ("GetItem", "UpdateItem", *KEEP, "UpdateItem")),
    Subject("settle", scenes.settle_stored, ("GetItem", "GetItem", "TransactWriteItems", "GetItem")),
    Subject("fail", scenes.fail_failed, ("GetItem", "GetItem", "TransactWriteItems", "GetItem"), "failed"),
    Subject("receive", scenes.receive_webhook, ("GetSecretValue", "UpdateItem", "SendTaskSuccess")),
    Subject("cancel", scenes.cancel_running, (*CANCEL, "GetSecretValue", "UpdateItem", "SendTaskSuccess"), "canceled"),
    Subject(
        "cancel_queued",
        scenes.cancel_queued,
        (*CANCEL, "GetItem", "TransactWriteItems", "GetItem"),
        "canceled",
        predictions=0,
    ),
    Subject("sweep", scenes.sweep_orphan, ("UpdateItem", "DescribeExecution", "UpdateItem", "StartExecution")),
    Subject(
        "sweep_waiting",
        scenes.sweep_waiting,
        ("UpdateItem", "DescribeExecution", "GetSecretValue", "UpdateItem", "SendTaskSuccess", "UpdateItem"),
    ),
]


@dataclass(frozen=True)
class Case:
    subject: Subject
    fault: Fault | None

    @property
    def lost(self) -> bool:
        """Whether nobody can know what became of the call to a provider that answers at once: it is not repeated."""
        if self.fault is None or self.subject.calls is not GENERATE:
            return False
        at = (self.fault.call, self.fault.effect)
        if at == (CLAIM, "after"):
            return self.fault.how == "death"  # Whoever lives knows its own claim, or gives it back.
        between = CLAIM < self.fault.call < KEPT or at == (KEPT, "before")
        return between and self.fault.how != "once"

    @property
    def ends(self) -> str:
        return "failed" if self.lost else self.subject.ends

    def __str__(self) -> str:
        if self.fault is None:
            return f"{self.subject.name}-calm"
        name = self.subject.calls[self.fault.call]
        return f"{self.subject.name}-{self.fault.call}-{name}-{self.fault.effect}-{self.fault.how}"


@dataclass
class Outcome:
    """What the fault did at once, and everything that can be seen of the job in the end."""

    case: Case
    studio: Studio
    scene: Scene
    calls: Calls
    answer: Any
    accepted: bool
    job: Json = field(default_factory=dict)
    ledger: list[Json] = field(default_factory=list)
    simulated: Json = field(default_factory=dict)
    called: Json = field(default_factory=dict)
    file: bytes = b""
    jobs: int = 0
    objects: int = 0
    broken_invariant: AssertionError | None = None


CALM = [Case(subject, None) for subject in SUBJECTS]
FAULTS = [
    Case(subject, Fault(call, effect, how))
    for subject in SUBJECTS
    for call in range(len(subject.calls))
    for effect in get_args(Effect)
    for how in get_args(How)
    # A death within the decoder's C code would be thrown away there.
    if not (subject.calls is GENERATE and subject.calls[call] == "GetObject" and how == "death")
]


@pytest.fixture(scope="module")
def outcomes(stack: Stack) -> Iterator[dict[Case, Outcome]]:
    found: dict[Case, Outcome] = {}
    try:
        # The jobs get AWS's deadlines: here a job would be over before a lost attempt may be repeated.
        with inside(stack, TIME_SCALE="1"):
            for subject in SUBJECTS:
                forget_everything()
                cases = [case for case in CALM + FAULTS if case.subject is subject]
                struck = [_strike(stack, case) for case in cases]
                found |= {outcome.case: outcome for outcome in struck}
                for outcome in struck:
                    make_due(stack, outcome.scene.job_id)
                sweep(stack)
            _recover(stack, {outcome.scene.job_id for outcome in found.values()})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_look, found.values()))
        yield found
    finally:
        for outcome in found.values():
            outcome.studio.close()


def _strike(stack: Stack, case: Case) -> Outcome:
    """Let the handler meet its fault, and its caller repeat the request."""
    studio = Studio(stack, f"fault-{uuid4().hex[:12]}")
    ledger.grant_once(studio.account, key="start", amount=CREDITS, now=now(), reason=None)
    scene = case.subject.scene(studio)
    forget_answers()
    with aws_calls(case.fault) as calls:
        try:
            answer = scene.run()
        except (Killed, Exception) as error:  # noqa: BLE001 Whatever it is, the job has to survive it.
            answer = error
    accepted = len(rows(stack, "jobs", id=scene.job_id)) == 1
    holds = [item for item in rows(stack, "ledger", account=studio.account) if item["sort"].startswith("hold#")]
    assert accepted == bool(holds)
    scene.repeat()
    return Outcome(case, studio, scene, calls, answer, accepted)


def _recover(stack: Stack, job_ids: set[str]) -> None:
    """Sweep until every job has ended."""
    deadline = time.monotonic() + PATIENCE_S
    left = set(job_ids)
    while left and time.monotonic() < deadline:
        sweep(stack)
        time.sleep(1)
        left = {job_id for job_id in left if not _over(stack, job_id)}


def _over(stack: Stack, job_id: str) -> bool:
    return all(job["status"] in TERMINAL for job in rows(stack, "jobs", id=job_id))


def _look(outcome: Outcome) -> None:
    studio, stack, job_id = outcome.studio, outcome.studio.stack, outcome.scene.job_id
    outcome.job = studio.job(job_id)
    outcome.ledger = [item for item in rows(stack, "ledger", account=studio.account) if item.get("job_id") == job_id]
    outcome.simulated = studio.simulated(job_id)
    outcome.called = studio.called(outcome.scene.text) if outcome.scene.text else {}
    outcome.jobs = len(job_rows(stack, studio.account))
    for asset in outcome.job["assets"]:
        outcome.file = scenes.web.get(asset["url"]).content
        listed = stack.client("s3").list_objects_v2(Bucket=stack.buckets["media"], Prefix=f"assets/{asset['id']}")
        outcome.objects = listed["KeyCount"]
    try:
        studio.check_invariants()
    except AssertionError as error:
        outcome.broken_invariant = error


def _movements(entries: Sequence[Json]) -> list[tuple[str, int]]:
    return [(entry["type"], entry["amount"]) for entry in sorted(entries, key=lambda entry: entry["sort"])]


@pytest.mark.parametrize("case", CALM, ids=str)
def test_the_calls_of_a_calm_run(case: Case, outcomes: dict[Case, Outcome]) -> None:
    assert tuple(outcomes[case].calls.names) == case.subject.calls


@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_the_fault_struck_the_call_it_was_meant_for(case: Case, outcomes: dict[Case, Outcome]) -> None:
    calls, fault = outcomes[case].calls, case.fault
    assert fault is not None

    assert calls.names[fault.call] == case.subject.calls[fault.call]
    assert calls.tries == {"once": 2, "death": 1}.get(fault.how, calls.tries)
    if fault.how == "for_good":
        assert calls.tries >= 3
    if fault.how == "death":
        assert isinstance(outcomes[case].answer, Killed)


@pytest.mark.parametrize("case", CALM + FAULTS, ids=str)
def test_nothing_is_lost(case: Case, outcomes: dict[Case, Outcome]) -> None:
    outcome = outcomes[case]
    subject, ends_well = case.subject, case.ends == "succeeded"

    assert outcome.job["status"] == case.ends, outcome.job["error"]
    assert _movements(outcome.ledger) == [
        ("hold", subject.price),
        ("capture" if ends_well else "release", subject.price),
    ]
    assert outcome.job["credits"] == {"held": subject.price, "charged": subject.price if ends_well else 0}
    assert outcome.jobs == 1
    assert outcome.simulated["prediction_count"] == subject.predictions
    assert outcome.broken_invariant is None
    if case.lost:
        assert outcome.job["error"]["code"] == "outcome_unknown"

    assert len(outcome.job["assets"]) == (1 if ends_well else 0)
    for asset in outcome.job["assets"]:
        assert (len(outcome.file), hashlib.sha256(outcome.file).hexdigest()) == (asset["bytes"], asset["sha256"])
        assert _measured(outcome.file, asset["content_type"]) == (asset["width"], asset["height"], asset["duration_s"])
        assert outcome.objects == 1


def _measured(content: bytes, content_type: str) -> tuple[int | None, int | None, float | None]:
    if content_type.startswith("image/"):
        return (*images.measure(io.BytesIO(content), content_type), None)
    found = probe.measure(io.BytesIO(content), content_type)
    return found.width, found.height, found.duration_s


@pytest.mark.parametrize("case", [case for case in CALM + FAULTS if case.subject.generations], ids=str)
def test_nothing_is_paid_for_twice(case: Case, outcomes: dict[Case, Outcome]) -> None:
    called, fault = outcomes[case].called, case.fault
    # Of the lost, those had not called yet that died before the provider's answer was to be written down.
    begun = not case.lost or (fault is not None and fault.call >= BEGUN)

    assert called["call_count"] == called["billed_count"] == (case.subject.generations if begun else 0)


@pytest.mark.parametrize("case", [case for case in FAULTS if case.subject.calls in (CREATE, CREATE_SPEECH)], ids=str)
def test_a_create_is_accepted_with_its_hold_or_not_at_all(case: Case, outcomes: dict[Case, Outcome]) -> None:
    outcome, fault = outcomes[case], case.fault
    assert fault is not None
    transaction_took_effect = fault.call > ACCEPTS or (fault.call == ACCEPTS and fault.effect == "after")

    # A limit that cannot be counted is none.
    uncounted = (fault.call, fault.how) == (LIMIT, "for_good")
    assert outcome.accepted == (fault.how == "once" or uncounted or transaction_took_effect)
    if fault.how != "death":
        # A circuit that cannot be read is taken for closed.
        unread = case.subject.calls is CREATE and fault.call == ACCEPTS + 1
        harmless = fault.how == "once" or uncounted or unread
        assert outcome.answer["statusCode"] in ((202,) if harmless else (500, 503))
