"""Every conditional change of a job, from every status: what is not allowed is refused and changes nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import get_args
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core import aws, dynamo
from shared.core.clock import iso
from shared.core.dynamo import Refused
from shared.core.settings import settings
from shared.jobs import table
from shared.jobs.status import TERMINAL, TRANSITIONS, Status
from shared.jobs.table import Job
from shared.providers.outcomes import Failure, Output, Prediction
from tests.support import rows

pytestmark = pytest.mark.usefixtures("product")

NOW = time.time()
FAR = 10**11
SUCCESS = Prediction("p1", "succeeded", (Output("https://example.com/1.png"),))
OTHER = Prediction("p2", "succeeded", (Output("https://example.com/2.png"),))
WHY = Failure("provider_failed", "Why not.")

STATUSES: tuple[Status, ...] = get_args(Status)
ANY = set(STATUSES)
WORKING = {"queued", "submitting", "processing"}
WITHOUT_RESULT = {"prediction": "p1"}
WITH_RESULT = {"prediction": "p1", "result": SUCCESS}
AT_40 = {"progress": 40}


@dataclass(frozen=True)
class Change:
    """A change, the fields of the job it meets, the statuses it is allowed from, and the status it leads to."""

    name: str
    apply: Callable[[Job], object]
    allowed: set[str]
    leads_to: Status | None
    fields: dict[str, object]


def write(make: Callable[[Job], dynamo.Write]) -> Callable[[Job], object]:
    return lambda job: dynamo.transact([make(job)])


CHANGES = [
    Change("claim_attempt", lambda job: table.claim_attempt(job, NOW), {"queued", "submitting"}, "submitting", {}),
    Change("claim_attempt with a prediction", lambda job: table.claim_attempt(job, NOW), set(), None, WITHOUT_RESULT),
    Change(
        "claim_attempt that another has",
        lambda job: table.claim_attempt(replace(job, attempts=job.attempts - 1), NOW),
        set(),
        None,
        {},
    ),
    Change("requeue", lambda job: table.requeue(job, NOW), {"submitting"}, "queued", {}),
    Change("requeue with a prediction", lambda job: table.requeue(job, NOW), set(), None, WITHOUT_RESULT),
    Change("requeue of an older attempt", lambda job: table.requeue(replace(job, attempts=1), NOW), set(), None, {}),
    Change("lose_attempt", lambda job: table.lose_attempt(job, NOW), {"submitting"}, "submitting", {}),
    Change("lose_attempt with a prediction", lambda job: table.lose_attempt(job, NOW), set(), None, WITHOUT_RESULT),
    Change("adopt", lambda job: table.adopt(job.id, SUCCESS, NOW), {"submitting", "processing"}, "processing", {}),
    Change(
        "adopt again",
        lambda job: table.adopt(job.id, SUCCESS, NOW),
        {"submitting", "processing"},
        "processing",
        WITHOUT_RESULT,
    ),
    Change("adopt another", lambda job: table.adopt(job.id, OTHER, NOW), set(), None, WITHOUT_RESULT),
    Change(
        "record_result", lambda job: table.record_result(job.id, "replicate", SUCCESS, NOW), WORKING, "processing", {}
    ),
    Change(
        "record_result of the known",
        lambda job: table.record_result(job.id, "replicate", SUCCESS, NOW),
        WORKING,
        "processing",
        WITHOUT_RESULT,
    ),
    Change(
        "record_result again",
        lambda job: table.record_result(job.id, "replicate", SUCCESS, NOW),
        set(),
        None,
        WITH_RESULT,
    ),
    Change(
        "record_result of another",
        lambda job: table.record_result(job.id, "replicate", OTHER, NOW),
        set(),
        None,
        WITHOUT_RESULT,
    ),
    Change("record_result by another", lambda job: table.record_result(job.id, "kie", SUCCESS, NOW), set(), None, {}),
    Change(
        "record_late_result",
        lambda job: table.record_late_result(job, SUCCESS, NOW),
        {"failed", "canceled", "timed_out"},
        None,
        WITHOUT_RESULT,
    ),
    Change(
        "record_late_result of a job that never learned of it",
        lambda job: table.record_late_result(job, SUCCESS, NOW),
        {"failed", "canceled", "timed_out"},
        None,
        {},
    ),
    Change(
        "record_late_result again",
        lambda job: table.record_late_result(job, SUCCESS, NOW),
        set(),
        None,
        {**WITHOUT_RESULT, "late_result": SUCCESS},
    ),
    Change(
        "record_late_result of another",
        lambda job: table.record_late_result(job, OTHER, NOW),
        set(),
        None,
        WITHOUT_RESULT,
    ),
    Change("request_cancel", lambda job: table.request_cancel(job.id, NOW), WORKING, None, {}),
    Change("request_cancel with a result", lambda job: table.request_cancel(job.id, NOW), set(), None, WITH_RESULT),
    Change("start_storing without a result", lambda job: table.start_storing(job.id, NOW), set(), None, WITHOUT_RESULT),
    Change(
        "start_storing", lambda job: table.start_storing(job.id, NOW), {"processing", "storing"}, "storing", WITH_RESULT
    ),
    Change("attach_assets", lambda job: table.attach_assets(job.id, [{"id": "as_1"}], NOW), ANY, None, {}),
    Change("note_progress", lambda job: table.note_progress(job, 40, NOW), {"processing"}, None, {"progress": 39}),
    Change("note_progress that is no news", lambda job: table.note_progress(job, 40, NOW), set(), None, AT_40),
    Change(
        "generating",
        lambda job: table.generating(job, "key", NOW),
        {"submitting", "processing"},
        "processing",
        {},
    ),
    Change(
        "generating of an older attempt",
        lambda job: table.generating(replace(job, attempts=1), "key", NOW),
        set(),
        None,
        {},
    ),
    Change(
        "generated",
        lambda job: table.generated(job, SUCCESS, [{"id": "as_1"}], NOW),
        {"submitting", "processing"},
        "storing",
        {},
    ),
    Change(
        "generated again",
        lambda job: table.generated(job, SUCCESS, [{"id": "as_1"}], NOW),
        set(),
        None,
        {"result": SUCCESS},
    ),
    Change(
        "succeed",
        write(lambda job: table.succeed(job, charged=3, cost_usd=None, now=NOW)),
        {"storing"},
        "succeeded",
        WITH_RESULT,
    ),
    Change(
        "succeed at a known cost",
        write(lambda job: table.succeed(job, charged=3, cost_usd=0.012, now=NOW)),
        {"storing"},
        "succeeded",
        WITH_RESULT,
    ),
    Change("fail", write(lambda job: table.fail(job, "failed", WHY, NOW)), ANY - TERMINAL, "failed", {}),
    Change("cancel", write(lambda job: table.fail(job, "canceled", WHY, NOW)), ANY - TERMINAL, "canceled", {}),
    Change("time out", write(lambda job: table.fail(job, "timed_out", WHY, NOW)), ANY - TERMINAL, "timed_out", {}),
    Change(
        "time out with a prediction",
        write(lambda job: table.fail(job, "timed_out", WHY, NOW)),
        ANY - TERMINAL,
        "timed_out",
        WITHOUT_RESULT,
    ),
    Change("forget", lambda job: table.forget(job.id), ANY, None, {}),
    Change(
        "cancel in the queue",
        write(lambda job: table.fail(job, "canceled", WHY, NOW, origins=["queued"])),
        {"queued"},
        "canceled",
        {},
    ),
    Change("note_stop", lambda job: table.note_stop(job, NOW), {"processing"}, None, WITHOUT_RESULT),
    Change("note_stop with a result", lambda job: table.note_stop(job, NOW), set(), None, WITH_RESULT),
    Change("postpone_sweep", lambda job: table.postpone_sweep(job.id, FAR, NOW), ANY - TERMINAL, None, {}),
    Change("claim_sweep", lambda job: table.claim_sweep(job.id, FAR), ANY - TERMINAL, None, {}),
    Change("claim_sweep too early", lambda job: table.claim_sweep(job.id, FAR - 1), set(), None, {}),
    Change("next_execution", lambda job: table.next_execution(job, NOW), ANY - TERMINAL, None, {}),
    Change(
        "next_execution that another has",
        lambda job: table.next_execution(replace(job, executions=9), NOW),
        set(),
        None,
        {},
    ),
]


@pytest.fixture
def made() -> Iterator[list[str]]:
    """The ids of the jobs a test has put into the table; they disappear with it."""
    ids: list[str] = []
    yield ids
    for job_id in ids:
        aws.dynamodb().delete_item(TableName=settings().jobs_table, Key={"id": {"S": job_id}})


def put(made: list[str], status: Status, **fields: object) -> Job:
    """A job in the table; no sweeper ever finds it due."""
    job = Job(
        id=f"job_{uuid4().hex}",
        account="table-test",
        kind="image",
        model="flux-schnell",
        provider="replicate",
        status=status,
        request={"prompt": "a table"},
        request_hash="hash",
        hold=3,
        created_at=iso(NOW),
        updated_at=iso(NOW),
        accepted_at=NOW,
        deadline_at=NOW + 600,
        abandon_at=NOW + 1200,
        request_id="request",
        attempts=2,
        attempt="open",
    )
    job = replace(job, **fields)  # type: ignore[arg-type]
    item = {**job.item(), "sweep_at": FAR}
    if status in TERMINAL:
        del item["sweep_at"], item["open_shard"]
    aws.dynamodb().put_item(TableName=settings().jobs_table, Item=dynamo.attributes(item))
    made.append(job.id)
    return job


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_is_allowed_from_its_statuses_and_refused_from_all_others(
    stack: Stack, made: list[str], change: Change
) -> None:
    for status in STATUSES:
        job = put(made, status, **change.fields)
        before = rows(stack, "jobs", id=job.id)

        if status in change.allowed:
            change.apply(job)
            after = table.get(job.id)
            assert after is not None
            assert after.status == (change.leads_to or status)
            assert after.status == status or after.status in TRANSITIONS[status] or (status, after.status) in JUMPS
        else:
            with pytest.raises(Refused) as refused:
                change.apply(job)
            assert refused.value.found[0] is not None
            assert refused.value.found[0]["id"] == job.id
            assert rows(stack, "jobs", id=job.id) == before, status


# A webhook may tell of a prediction whose create call was believed to have made nothing; and the files of a provider
# that answers at once may be found although nobody has written that it had begun to answer.
JUMPS = {("queued", "processing"), ("submitting", "storing")}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_of_no_job_makes_none(change: Change, made: list[str]) -> None:
    job = put(made, "processing", **change.fields)
    nobody = replace(job, id=f"job_{uuid4().hex}")

    with pytest.raises(Refused) as refused:
        change.apply(nobody)

    assert refused.value.found == [None]
    assert table.get(nobody.id) is None


def test_a_job_that_ends_leaves_the_sweepers_sight(made: list[str]) -> None:
    job = put(made, "storing", task_token="token", **WITH_RESULT)
    assert job.id in table.due(table.shard(job.id), FAR, limit=500)

    dynamo.transact([table.succeed(job, charged=2, cost_usd=0.5, now=NOW)])

    after = table.get(job.id)
    assert after is not None
    assert (after.status, after.charged, after.cost_usd, after.task_token) == ("succeeded", 2, 0.5, None)
    assert job.id not in table.due(table.shard(job.id), FAR, limit=500)


def test_a_job_that_timed_out_with_a_prediction_is_remembered_until_it_is_forgotten(made: list[str]) -> None:
    job = put(made, "processing", task_token="token", **WITHOUT_RESULT)
    silent = put(made, "submitting")

    dynamo.transact([table.fail(each, "timed_out", WHY, NOW) for each in (job, silent)])

    lost = table.due(table.lost_shard(job.id), NOW, limit=500)
    assert job.id in lost
    assert silent.id not in lost + table.due(table.lost_shard(silent.id), FAR, limit=500)
    assert job.id not in table.due(table.shard(job.id), FAR, limit=500)
    table.forget(job.id)
    assert job.id not in table.due(table.lost_shard(job.id), FAR, limit=500)


def test_a_job_survives_the_table_unchanged(made: list[str]) -> None:
    job = put(
        made,
        "failed",
        error=WHY,
        metadata={"ключ": "значение"},
        result=replace(SUCCESS, status="failed", failure=WHY, units=1.5, cost_usd=0.25, outputs=()),
        late_result=SUCCESS,
        assets=({"id": "as_1", "bytes": 7},),
        cancel_requested_at=NOW,
        cost_usd=0.25,
        units=12.5,
        batch="batch_1",
        input_keys={"image": "assets/as_1.png"},
        provider_key="fingerprint",
        progress=40,
    )

    assert table.get(job.id) == job
