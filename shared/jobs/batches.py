"""Batches: up to a hundred generations, accepted together or not at all.

One transaction holds the credits of all and records the batch with its jobs as they will be. The jobs are then split
off, a few dozen in a transaction: each takes its amount out of the batch's hold into a hold of its own, so `held` is
the sum of the open holds at every moment. Whoever goes on with a half-split batch (the sweeper) writes the same jobs
with the same ids, whatever has become of the catalogue, and repeats nothing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.core import aws, dynamo, ids, web
from shared.core.dynamo import Item, Refused, Write
from shared.core.errors import InsufficientCredits, Invalid, TooManyJobs, Unavailable
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.credits import ledger
from shared.credits.ledger import Account, Change
from shared.jobs import accept, table, workflow
from shared.jobs.accept import Offer
from shared.jobs.requests import REQUESTS, Request
from shared.jobs.table import Job

MOST = 100
A_TRANSACTION = 30
STARTERS = 8


@dataclass(frozen=True)
class Batch:
    """A batch as the jobs table has it; `jobs` are those that it was accepted as, in the order of its requests."""

    id: str
    account: str
    jobs: tuple[Job, ...]
    request_hash: str
    hold: int
    created_at: str
    request_id: str
    is_split: bool = False

    @staticmethod
    def of(item: Item) -> "Batch":
        values = {name: item[name] for name in Batch.__dataclass_fields__ if name in item}
        return Batch(**{**values, "jobs": tuple(Job(**job) for job in json.loads(values["jobs"]))})

    def item(self) -> Item:
        """The item of a batch that is not split yet, with the keys of the sweeper's index."""
        return {
            **vars(self),
            "jobs": json.dumps([job.fields() for job in self.jobs], ensure_ascii=False),
            "open_shard": table.shard(self.id),
            "sweep_at": self.jobs[0].accepted_at + settings().scaled(table.SWEEP_AFTER_S),
            "expires_at": int(self.jobs[0].accepted_at + table.KEEP_TERMINAL_S),
        }


def parse(generations: list[dict[str, Any]]) -> list[Request]:
    """The requests of a batch. Raises Invalid with pointers into `generations`."""
    errors: list[dict[str, str]] = []
    requests: list[Request] = []
    for number, generation in enumerate(generations):
        kind, fields = generation.get("kind"), {name: generation[name] for name in generation if name != "kind"}
        expected = REQUESTS.get(kind) if isinstance(kind, str) else None  # type: ignore[call-overload]
        if expected is None:
            errors.append({"pointer": f"/generations/{number}/kind", "detail": f"one of {', '.join(REQUESTS)}"})
            continue
        try:
            requests.append(TypeAdapter(expected).validate_python(fields))
        except ValidationError as error:
            errors += [
                {"pointer": "/".join(["/generations", str(number), *map(str, flaw["loc"])]), "detail": flaw["msg"]}
                for flaw in error.errors()
            ]
    if errors:
        raise Invalid("The request is not valid.", errors=errors)
    return requests


def offers(account_id: str, requests: Sequence[Request]) -> list[Offer]:
    """The price of every request. Raises Invalid with pointers into `generations`."""
    found, errors = [], []
    for number, request in enumerate(requests):
        try:
            found.append(accept.offer(account_id, request))
        except Invalid as problem:
            errors += [{**flaw, "pointer": f"/generations/{number}{flaw['pointer']}"} for flaw in problem.errors]
    if errors:
        raise Invalid("The request is not valid.", errors=errors)
    return found


def create(
    account_id: str, requests: list[dict[str, Any]], *, idempotency_key: str | None, request_id: str
) -> tuple[Batch, bool]:
    """Hold the credits of all, then split the jobs off and start them; the batch, and whether it is a repeat.

    Raises Invalid, InsufficientCredits, TooManyJobs and Unavailable, and nothing is held then.
    """
    parsed = parse(requests)
    made = offers(account_id, parsed)
    batch_id = ids.derived("batch", account_id, idempotency_key) if idempotency_key else ids.new("batch")
    jobs = tuple(
        accept.new_job(
            account_id,
            request,
            offer,
            job_id=ids.derived("job", batch_id, str(number)),
            request_id=request_id,
            batch=batch_id,
        )
        for number, (request, offer) in enumerate(zip(parsed, made, strict=True))
    )
    text = json.dumps(requests, sort_keys=True, ensure_ascii=False)
    batch = Batch(
        id=batch_id,
        account=account_id,
        jobs=jobs,
        request_hash=hashlib.sha256(text.encode()).hexdigest(),
        hold=sum(job.hold for job in jobs),
        created_at=jobs[0].created_at,
        request_id=request_id,
    )

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        wanted = [(job.kind, job.hold) for job in jobs]
        now = jobs[0].accepted_at
        change = ledger.hold_batch(account, batch=batch.id, jobs=wanted, limit=settings().jobs_in_flight, now=now)
        return change, [dynamo.put(settings().jobs_table, batch.item())]

    try:
        for provider in sorted({job.provider for job in jobs}):
            accept.check_provider(provider)
        ledger.commit(account_id, decide)
    except Refused as refused:
        met = refused.found[-1]
        if met is None:
            raise
        return _same(Batch.of(met), batch), True
    except (InsufficientCredits, TooManyJobs, Unavailable):
        # The repeat of a request that was accepted gets its answer, whatever has become of the account or the provider.
        known = find(batch.id) if idempotency_key else None
        if known is None:
            raise
        return _same(known, batch), True
    count("Batch_accepted")
    for kind, number in Counter(job.kind for job in jobs).items():
        count("Job_accepted", number, kind=kind)
    logger.info("batch accepted", batch=batch.id, jobs=len(jobs), held=batch.hold)
    split(batch)
    return batch, False


def _same(found: Batch, wanted: Batch) -> Batch:
    """The batch that is there already, split to its end. Raises Invalid when it came of another request."""
    if found.request_hash != wanted.request_hash:
        raise web.key_reused()
    if not found.is_split:
        split(found)
    return found


def find(batch_id: str) -> Batch | None:
    """The batch as it was recorded."""
    item = dynamo.get(settings().jobs_table, {"id": batch_id})
    return Batch.of(item) if item and "is_split" in item else None


def jobs_of(batch: Batch) -> list[Job]:
    """The batch's jobs as they are now; those that are not split off yet are missing."""
    wanted = [job.id for job in batch.jobs]
    request: Any = {
        settings().jobs_table: {
            "Keys": [dynamo.attributes({"id": job_id}) for job_id in wanted],
            "ConsistentRead": True,
        }
    }
    found: dict[str, Job] = {}
    while request:
        answer = aws.dynamodb().batch_get_item(RequestItems=request)
        for item in answer["Responses"].get(settings().jobs_table, []):
            job = Job.of(dynamo.plain(item))
            found[job.id] = job
        request = answer.get("UnprocessedKeys")
    return [found[job_id] for job_id in wanted if job_id in found]


def split(batch: Batch) -> None:
    """Split off and start the jobs that are not yet, then take the batch off the sweeper's list. May be repeated."""
    for new in batched(batch.jobs, A_TRANSACTION, strict=False):
        holds = [(job.id, job.hold) for job in new]
        last = new[-1] is batch.jobs[-1]
        try:
            dynamo.transact(
                [
                    *ledger.split_hold(batch.account, batch.id, holds, last=last),
                    *map(table.create, new),
                ]
            )
        except Refused:
            logger.info("these jobs are split off already", batch=batch.id)
    with ThreadPoolExecutor(STARTERS) as pool:
        list(pool.map(_start, jobs_of(batch)))
    _finish(batch)


def _start(job: Job) -> None:
    if not job.terminal:
        workflow.start(job, workflow.first(job))


def _finish(batch: Batch) -> None:
    write = dynamo.change(
        settings().jobs_table,
        {"id": batch.id},
        "SET is_split = :yes REMOVE sweep_at, open_shard",
        when="attribute_exists(id)",
        values={"yes": True},
    )
    dynamo.update(write)
