"""Accepting a generation: the price, and one transaction for the account, the hold and the job."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from shared.core import ids, web
from shared.core.clock import iso
from shared.core.clock import now as current_time
from shared.core.dynamo import Refused, Write
from shared.core.errors import InsufficientCredits
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.credits import ledger
from shared.credits.ledger import Account, Change
from shared.jobs import table
from shared.jobs.catalog import Model
from shared.jobs.requests import Request
from shared.jobs.table import Job


@dataclass(frozen=True)
class Accepted:
    """The job, and whether it had been accepted before under the same Idempotency-Key."""

    job: Job
    replayed: bool


def price(request: Request) -> tuple[Model, int]:
    """The model that would do it and the credits that would be held. Raises Invalid for what cannot be done."""
    model = request.chosen_model()
    request.check(model)
    return model, model.price.of(request.units())


def accept(account_id: str, request: Request, *, idempotency_key: str | None, request_id: str) -> Accepted:
    """Hold the credits and record the job as `submitting`, together or not at all.

    Raises Invalid (also for an Idempotency-Key that was used with another body) and InsufficientCredits.
    """
    model, amount = price(request)
    job = _new_job(account_id, request, model=model, amount=amount, key=idempotency_key, request_id=request_id)

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        return ledger.hold(account, job=job.id, amount=amount, now=job.accepted_at), [table.create(job)]

    logger.append_keys(job_id=job.id)
    try:
        ledger.commit(account_id, decide)
    except Refused as refused:
        met = refused.found[-1]
        if met is None:
            raise
        return Accepted(_same(Job.of(met), job), replayed=True)
    except InsufficientCredits:
        # The repeat of a request that was accepted gets its answer, whatever is left on the account.
        found = table.get(job.id) if idempotency_key else None
        if found is None:
            raise
        return Accepted(_same(found, job), replayed=True)
    count("Job_accepted")
    logger.info("accepted", kind=job.kind, model=job.model, held=amount)
    return Accepted(job, replayed=False)


def _same(found: Job, wanted: Job) -> Job:
    if found.request_hash != wanted.request_hash:
        raise web.key_reused()
    return found


def _new_job(account: str, request: Request, *, model: Model, amount: int, key: str | None, request_id: str) -> Job:
    now = current_time()
    scale = settings().time_scale
    # What was asked for, as the caller wrote it: defaults that change with a release must not break a repeat.
    body = json.dumps(request.model_dump(exclude_unset=True), sort_keys=True, ensure_ascii=False)
    return Job(
        id=ids.derived("job", account, key) if key else ids.new("job"),
        account=account,
        kind=request.kind,
        model=model.id,
        provider=model.provider,
        status="submitting",
        request=request.provider_fields(),
        request_hash=hashlib.sha256(f"{request.kind}\0{body}".encode()).hexdigest(),
        hold=amount,
        created_at=iso(now),
        updated_at=iso(now),
        accepted_at=now,
        deadline_at=now + model.deadline_s * scale,
        abandon_at=now + model.abandon_s * scale,
        request_id=request_id,
        metadata=request.metadata,
        attempts=1,
        attempt="open",
        attempt_at=now,
    )
