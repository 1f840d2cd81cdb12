"""The jobs table: one item a job, and every change of it under the condition that makes it safe to repeat.

Two indexes: `by_account` (account, created) for lists, `unfinished` (open_shard, sweep_at) for the sweeper. A job that
ends leaves the second, so it is as large as the work in flight and never as the history.
"""

import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import aws, dynamo, ids
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.settings import settings
from shared.jobs.catalog import Kind
from shared.jobs.status import TERMINAL, Ending, Status, before
from shared.providers.outcomes import Failure, Output, Prediction

SHARDS = 4
KEEP_TERMINAL_S = 90 * 24 * 3600
NAMES = {"#status": "status"}
INLINE = "inline"
"""Stands for a result's `data`, which is too large for the job and is fetched again."""

# A create attempt is `open` from before the provider is called until its outcome is written; `unknown` when the answer
# was lost, so that something may have been created; `none` when nothing was.
Attempt = Literal["open", "unknown", "none"]


@dataclass(frozen=True)
class Job:
    """A job as the table has it. Times `*_at` are epoch seconds, except created_at and updated_at (RFC 3339).

    `provider_model` is what the provider calls the model: its predictions can be asked about when the catalogue has it
    no more. `units` are those of the model's price that were asked for; `provider_key` is the fingerprint of the key
    that the prediction was made with; `progress` is the furthest that the provider has told of. `claim` names the claim
    of the last create attempt. `seq` counts the changes.
    """

    id: str
    account: str
    kind: Kind
    model: str
    provider: str
    status: Status
    request: dict[str, Any]
    request_hash: str
    hold: int
    created_at: str
    updated_at: str
    accepted_at: float
    deadline_at: float
    abandon_at: float
    request_id: str
    provider_model: str = ""
    input_keys: dict[str, str] = field(default_factory=dict)
    units: float = 1
    batch: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    callback_url: str | None = None
    charged: int = 0
    cost_usd: float | None = None
    error: Failure | None = None
    assets: tuple[dict[str, Any], ...] = ()
    attempts: int = 0
    attempt: Attempt = "none"
    attempt_at: float = 0
    claim: str | None = None
    prediction: str | None = None
    provider_key: str | None = None
    progress: int = 0
    result: Prediction | None = None
    late_result: Prediction | None = None
    cancel_requested_at: float | None = None
    stopped_at: float | None = None
    task_token: str | None = field(default=None, repr=False)
    executions: int = 0
    store_attempts: int = 0
    seq: int = 0

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL

    @staticmethod
    def of(item: Item) -> "Job":
        values = {name: item[name] for name in Job.__dataclass_fields__ if name in item}
        for name in ("result", "late_result"):
            if name in values:
                values[name] = _prediction(values[name])
        if "error" in values:
            values["error"] = Failure(**values["error"])
        if "assets" in values:
            values["assets"] = tuple(values["assets"])
        return Job(**values)

    def fields(self) -> dict[str, Any]:
        """What has a value."""
        return {name: value for name, value in vars(self).items() if value is not None and value != ()}

    def item(self) -> Item:
        """The item of an unfinished job, with the keys of both indexes."""
        values = self.fields()
        values |= {name: _prediction_item(values[name]) for name in ("result", "late_result") if name in values}
        values |= {"error": vars(self.error)} if self.error else {}
        return {
            **values,
            "created": f"{self.created_at}#{self.id}",
            "open_shard": shard(self.id),
            "sweep_at": self.accepted_at + settings().scaled(SWEEP_AFTER_S),
        }


SWEEP_AFTER_S = 60
"""How long a job may take for one step before the sweeper looks whether somebody still works on it."""


def shard(job_id: str) -> str:
    """The partition of the `unfinished` index that the job is in."""
    return f"open#{zlib.crc32(job_id.encode()) % SHARDS}"


def lost_shard(job_id: str) -> str:
    """The partition of the same index for jobs that timed out with a prediction under way."""
    return shard(job_id).replace("open#", "lost#")


def untold_shard(job_id: str) -> str:
    """The partition of the same index for jobs that are over, and whose callback nobody has taken on yet."""
    return shard(job_id).replace("open#", "untold#")


UNTOLD_SHARDS = tuple(f"untold#{number}" for number in range(SHARDS))
LOST_SHARDS = tuple(f"lost#{number}" for number in range(SHARDS))


def create(job: Job) -> Write:
    """A transaction's write of a new job; refused where it exists already (a repeated Idempotency-Key)."""
    return dynamo.put(settings().jobs_table, job.item())


def get(job_id: str) -> Job | None:
    """The job as it is now."""
    item = dynamo.get(settings().jobs_table, {"id": job_id})
    return Job.of(item) if item and "status" in item else None  # A batch has none.


def page(
    account: str, *, limit: int, cursor: str | None, kind: str | None, status: str | None
) -> tuple[list[Job], str | None]:
    """A page of the account's jobs, newest first."""
    wanted = {name: value for name, value in (("kind", kind), ("status", status)) if value}
    items, after = dynamo.page(
        settings().jobs_table,
        index="by_account",
        partition=("account", account),
        sort=("created", ""),
        also_key="id",
        limit=limit,
        cursor=cursor,
        where=wanted,
    )
    return [Job.of(item) for item in items], after


def claim_attempt(job: Job, now: float) -> Job:
    """queued | submitting → submitting, one create attempt more. Raises Refused if somebody else has claimed it.

    Every claim has a name of its own. botocore repeats a write whose answer was lost, and the repeat must not take the
    claim that it meets for another's; and if there is no answer at all, the claim is given back: whoever raises here
    calls nobody.
    """
    claim = ids.new("claim")
    try:
        return _change(
            job.id,
            "SET #status = :submitting, attempts = :next, attempt = :open, attempt_at = :now, claim = :claim",
            "attempts = :attempts AND #status IN (:queued, :submitting) AND attribute_not_exists(prediction)",
            now=now,
            submitting="submitting",
            queued="queued",
            next=job.attempts + 1,
            attempts=job.attempts,
            open="open",
            claim=claim,
        )
    except Refused as refused:
        found = met(refused)
        if found is not None and (found.claim, found.attempt, found.status) == (claim, "open", "submitting"):
            return found
        raise
    except (BotoCoreError, ClientError):
        with suppress(Refused):
            _give_back(job.id, claim, now)
        raise


def _give_back(job_id: str, claim: str, now: float) -> Job:
    """submitting → queued: nobody was called under this claim. Raises Refused when it is not the job's."""
    return _change(
        job_id,
        "SET #status = :queued, attempt = :none",
        "claim = :claim AND attempt = :open AND #status = :submitting",
        now=now,
        queued="queued",
        submitting="submitting",
        none="none",
        open="open",
        claim=claim,
    )


def requeue(job: Job, now: float) -> Job:
    """submitting → queued: the attempt has created nothing."""
    return _end_attempt(job, now, "queued", "none")


def lose_attempt(job: Job, now: float) -> Job:
    """The attempt's answer was lost; the job stays submitting until the prediction is looked up."""
    return _end_attempt(job, now, "submitting", "unknown")


def _end_attempt(job: Job, now: float, status: Status, attempt: Attempt) -> Job:
    return _change(
        job.id,
        "SET #status = :status, attempt = :attempt",
        "#status = :submitting AND attempts = :attempts AND attribute_not_exists(prediction)",
        now=now,
        status=status,
        attempt=attempt,
        attempts=job.attempts,
        submitting="submitting",
    )


# A job belongs to one prediction: the first that is known. A webhook may be faster than the create call's answer.
THIS_PREDICTION = "(attribute_not_exists(prediction) OR prediction = :prediction)"


def adopt(job_id: str, prediction: Prediction, now: float, *, key: str | None = None) -> Job:
    """submitting → processing: the prediction is known, and the fingerprint of the key that made it where that is.

    Raises Refused for a job with another one, or that is over.
    """
    keyed: dict[str, Any] = {"key": key} if key else {}
    return _change(
        job_id,
        "SET #status = :processing, prediction = :prediction, attempt = :none"
        + (", provider_key = :key" if key else ""),
        f"#status IN (:submitting, :processing) AND {THIS_PREDICTION}",
        now=now,
        processing="processing",
        submitting="submitting",
        prediction=prediction.id,
        none="none",
        **keyed,
    )


def note_progress(job: Job, progress: int, now: float) -> Job:
    """Write how far the provider is; it never goes back. Raises Refused when that is no news."""
    return _change(
        job.id,
        "SET progress = :progress",
        "#status = :processing AND progress < :progress",
        now=now,
        progress=progress,
        processing="processing",
    )


def generating(job: Job, key: str, now: float) -> Job:
    """submitting → processing, for a provider that has begun to answer with the files. Raises Refused if it is over.

    Writing it again is no refusal: when its answer was lost, the repeat must not cost the paid files.
    """
    return _change(
        job.id,
        "SET #status = :processing, provider_key = :key",
        "#status IN (:submitting, :processing) AND attempts = :attempts",
        now=now,
        processing="processing",
        submitting="submitting",
        attempts=job.attempts,
        key=key,
    )


def work(job_id: str, now: float) -> Job:
    """queued → processing, for what we do ourselves and may do again. Raises Refused for a job that is over or done."""
    return _change(
        job_id,
        "SET #status = :processing",
        "#status IN (:queued, :processing)",
        now=now,
        queued="queued",
        processing="processing",
    )


def generated(job: Job, result: Prediction, assets: list[dict[str, Any]], now: float) -> Job:
    """processing → storing with everything stored: by a provider that answers with the files, or by ourselves. Raises
    Refused."""
    return _change(
        job.id,
        "SET #status = :storing, #result = :result, assets = :assets, attempt = :none",
        "#status IN (:processing, :submitting) AND attribute_not_exists(#result)",
        names={"#result": "result"},
        now=now,
        storing="storing",
        processing="processing",
        submitting="submitting",
        result=_prediction_item(result),
        assets=assets,
        none="none",
    )


def record_result(job_id: str, provider: str, prediction: Prediction, now: float) -> Job:
    """Write how the prediction has ended, once. Raises Refused with the job it met (None if there is none)."""
    return _change(
        job_id,
        "SET #status = :processing, prediction = :prediction, attempt = :none, #result = :result",
        "provider = :provider AND attribute_not_exists(#result) AND #status IN (:queued, :submitting, :processing)"
        f" AND {THIS_PREDICTION}",
        names={"#result": "result"},
        now=now,
        processing="processing",
        submitting="submitting",
        queued="queued",
        provider=provider,
        prediction=prediction.id,
        none="none",
        result=_prediction_item(prediction),
    )


def record_late_result(job: Job, prediction: Prediction, now: float) -> Job:
    """Write the success of a job that is over without one, also of one that never learned of its prediction.

    Raises Refused if that is written already.
    """
    return _change(
        job.id,
        "SET late_result = :result, prediction = :prediction",
        f"attribute_not_exists(late_result) AND {THIS_PREDICTION} AND #status IN (:failed, :canceled, :timed_out)",
        now=now,
        failed="failed",
        canceled="canceled",
        timed_out="timed_out",
        prediction=prediction.id,
        result=_prediction_item(prediction),
    )


def request_cancel(job_id: str, now: float) -> Job:
    """Remember that the caller wants it to stop. Raises Refused when it is too late for that."""
    return _change(
        job_id,
        "SET cancel_requested_at = if_not_exists(cancel_requested_at, :now)",
        "#status IN (:queued, :submitting, :processing) AND attribute_not_exists(#result)",
        names={"#result": "result"},
        now=now,
        queued="queued",
        submitting="submitting",
        processing="processing",
    )


def note_stop(job: Job, now: float) -> Job:
    """Remember that we have asked the provider to stop it, because its deadline has come. Raises Refused when the job
    has a result or is over."""
    return _change(
        job.id,
        "SET stopped_at = if_not_exists(stopped_at, :now)",
        "#status = :processing AND attribute_not_exists(#result)",
        names={"#result": "result"},
        now=now,
        processing="processing",
    )


def start_storing(job_id: str, now: float) -> Job:
    """processing → storing, or storing once more. Raises Refused for a job that is over or has no result."""
    return _change(
        job_id,
        "SET #status = :storing, store_attempts = if_not_exists(store_attempts, :zero) + :one",
        "#status IN (:processing, :storing) AND attribute_exists(#result)",
        names={"#result": "result"},
        now=now,
        storing="storing",
        processing="processing",
        zero=0,
        one=1,
    )


def attach_assets(job_id: str, assets: list[dict[str, Any]], now: float) -> Job:
    """Write what was stored. Raises Refused when there is no such job."""
    return _change(job_id, "SET assets = :assets", "attribute_exists(id)", now=now, assets=assets)


def forget(job_id: str) -> None:
    """A job that timed out need not be asked about any more."""
    write = dynamo.change(
        settings().jobs_table, {"id": job_id}, "REMOVE open_shard, sweep_at", when="attribute_exists(id)", values={}
    )
    dynamo.update(write)


def succeed(job: Job, *, charged: int, cost_usd: float | None, now: float) -> Write:
    """storing → succeeded, as a transaction's write."""
    if cost_usd is None:
        return _end(job, "succeeded", now, "charged = :charged", charged=charged)
    return _end(job, "succeeded", now, "charged = :charged, cost_usd = :cost", charged=charged, cost=cost_usd)


def fail(job: Job, ending: Ending, failure: Failure, now: float, *, origins: list[Status] | None = None) -> Write:
    """unfinished (or only one of `origins`) → failed | canceled | timed_out, as a transaction's write."""
    names = {"#error": "error"}
    return _end(job, ending, now, "#error = :error", names=names, origins=origins, error=vars(failure))


def told(job: Job, now: float) -> Write:
    """The callback of a job that is over is taken on, as a transaction's write."""
    lost = _is_lost(job, job.status)
    return dynamo.change(
        settings().jobs_table,
        {"id": job.id},
        "SET open_shard = :lost, sweep_at = :now" if lost else "REMOVE open_shard, sweep_at",
        when="open_shard = :untold",
        values={"untold": untold_shard(job.id), **({"lost": lost_shard(job.id), "now": now} if lost else {})},
    )


def due(shard_name: str, now: float, *, limit: int) -> list[str]:
    """Ids of unfinished jobs that nobody has reported on for a while, the longest-waiting first."""
    answer = aws.dynamodb().query(
        TableName=settings().jobs_table,
        IndexName="unfinished",
        KeyConditionExpression="open_shard = :shard AND sweep_at <= :now",
        ExpressionAttributeValues=dynamo.attributes({":shard": shard_name, ":now": now}),
        Limit=limit,
    )
    return [str(dynamo.plain(item)["id"]) for item in answer["Items"]]


def postpone_sweep(job_id: str, until: float, now: float) -> Job:
    """Leave an unfinished job alone until then. Raises Refused when it is over."""
    return _change(job_id, "SET sweep_at = :until", "attribute_exists(sweep_at)", now=now, until=until)


def claim_sweep(job_id: str, now: float) -> Job:
    """Claim the job for this sweep. Raises Refused if another sweep was faster or the job is over."""
    return _change(
        job_id,
        "SET sweep_at = :later",
        "sweep_at <= :now",
        now=now,
        later=now + settings().scaled(SWEEP_AFTER_S),
    )


def next_execution(job: Job, now: float) -> Job:
    """Count one execution more, whose name is then free. Raises Refused if somebody else has."""
    return _change(
        job.id,
        "SET executions = :next",
        "executions = :executions AND attribute_exists(sweep_at)",
        now=now,
        next=job.executions + 1,
        executions=job.executions,
    )


def met(refused: Refused) -> Job | None:
    """The job that a refused change has found."""
    return Job.of(refused.found[0]) if refused.found[0] else None


def _end(
    job: Job,
    status: Status,
    now: float,
    assignment: str,
    *,
    names: dict[str, str] | None = None,
    origins: list[Status] | None = None,
    **values: Any,
) -> Write:
    remembered: dict[str, Any] = {}
    if job.callback_url is not None:
        remembered = {"shard": untold_shard(job.id), "sweep": now + settings().scaled(SWEEP_AFTER_S)}
    elif _is_lost(job, status):
        remembered = {"shard": lost_shard(job.id), "sweep": now}
    keep = ", open_shard = :shard, sweep_at = :sweep REMOVE task_token"
    drop = " REMOVE sweep_at, open_shard, task_token"
    allowed = {f"from{number}": origin for number, origin in enumerate(origins or before(status))}
    return dynamo.change(
        settings().jobs_table,
        {"id": job.id},
        f"SET #status = :status, updated_at = :updated, expires_at = :expires, {assignment}"
        + (keep if remembered else drop)
        + " ADD seq :one",
        # A terminal status never changes; a second settlement finds nothing to do.
        when=f"#status IN ({', '.join(f':{name}' for name in allowed)})",
        names={**NAMES, **(names or {})},
        values={
            "status": status,
            "updated": iso(now),
            "expires": int(now + KEEP_TERMINAL_S),
            "one": 1,
            **allowed,
            **remembered,
            **values,
        },
    )


def _is_lost(job: Job, status: Status) -> bool:
    """Whether something may yet be heard of a job that is over, since it timed out with a prediction under way; then
    `recover` asks for it."""
    return status == "timed_out" and job.prediction is not None


def _change(
    job_id: str, expression: str, when: str, *, now: float, names: dict[str, str] | None = None, **values: Any
) -> Job:
    if ":now" in expression or ":now" in when:
        values["now"] = now
    used = NAMES if "#status" in expression + when else {}
    write = dynamo.change(
        settings().jobs_table,
        {"id": job_id},
        f"{expression}, updated_at = :updated ADD seq :one",
        when=when,
        names={**used, **(names or {})},
        values={"updated": iso(now), **values, "one": 1},
    )
    return Job.of(dynamo.update(write))


def _prediction(item: Item) -> Prediction:
    failure = item.get("failure")
    return Prediction(
        id=item["id"],
        status=item["status"],
        outputs=tuple(Output(**output) for output in item.get("outputs", ())),
        failure=Failure(**failure) if failure else None,
        units=item.get("units"),
        cost_usd=item.get("cost_usd"),
        data=INLINE if item.get("inline") else None,
    )


def _prediction_item(prediction: Prediction) -> Item:
    item: Item = {
        "id": prediction.id,
        "status": prediction.status,
        "outputs": [vars(output) for output in prediction.outputs],
        "inline": prediction.data is not None,
    }
    if prediction.failure:
        item["failure"] = vars(prediction.failure)
    told = {"units": prediction.units, "cost_usd": prediction.cost_usd}
    return item | {name: value for name, value in told.items() if value is not None}
