"""Accepting a generation: the price, and one transaction for the account, the hold and the job."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.core import ids, web
from shared.core.clock import iso
from shared.core.clock import now as current_time
from shared.core.dynamo import Refused, Write
from shared.core.errors import InsufficientCredits, TooManyJobs, Unavailable
from shared.core.log import count, logger
from shared.core.settings import IN_HOUSE, settings
from shared.credits import ledger
from shared.credits.ledger import Account, Change
from shared.jobs import budget, callbacks, inputs, table
from shared.jobs.catalog import Model
from shared.jobs.requests import Request, units
from shared.jobs.table import Job
from shared.providers import keys
from shared.providers.registry import PREDICTORS


@dataclass(frozen=True)
class Offer:
    """What a request would be: the model, the fields with its defaults, the units of its price, the credits held."""

    model: Model
    fields: dict[str, Any]
    input_keys: dict[str, str]
    units: float
    credits: int


@dataclass(frozen=True)
class Accepted:
    """The job, and whether it had been accepted before under the same Idempotency-Key."""

    job: Job
    replayed: bool


def offer(account_id: str, request: Request) -> Offer:
    """The price of a request. Raises Invalid for what cannot be done, and Unavailable for a callback that could not be
    signed."""
    model = request.chosen_model()
    fields = request.fields(model)
    if request.callback_url is not None:
        callbacks.check(account_id, request.callback_url)
    found = inputs.resolve(request, model, account_id)
    wanted = units(model, fields, found.seconds)
    return Offer(model, fields, found.keys, wanted, model.price.of(wanted))


def accept(account_id: str, request: Request, made: Offer, *, idempotency_key: str | None, request_id: str) -> Accepted:
    """Hold the credits and record the job, together or not at all.

    Raises Invalid for an Idempotency-Key that was used with another body, InsufficientCredits, TooManyJobs, and
    Unavailable when the provider is not configured or its budget of the day is spent; nothing is held then.
    """
    job_id = ids.derived("job", account_id, idempotency_key) if idempotency_key else ids.new("job")
    job = new_job(account_id, request, made, job_id=job_id, request_id=request_id)

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        change = ledger.hold(
            account, job=job.id, kind=job.kind, amount=job.hold, limit=settings().jobs_in_flight, now=job.accepted_at
        )
        return change, [table.create(job)]

    logger.append_keys(job_id=job.id)
    try:
        check_provider(job.provider)
        ledger.commit(account_id, decide)
    except Refused as refused:
        met = refused.found[-1]
        if met is None:
            raise
        return Accepted(same(Job.of(met), job), replayed=True)
    except (InsufficientCredits, TooManyJobs, Unavailable):
        # The repeat of a request that was accepted gets its answer, whatever has become of the account or the provider.
        found = table.get(job.id) if idempotency_key else None
        if found is None:
            raise
        return Accepted(same(found, job), replayed=True)
    count("Job_accepted", kind=job.kind)
    logger.info("accepted", kind=job.kind, model=job.model, held=job.hold)
    return Accepted(job, replayed=False)


def check_provider(name: str) -> None:
    """Raises Unavailable while a provider has no keys, or once its budget of the day is spent."""
    if name != IN_HOUSE:
        keys.pool(name)
        budget.check(name)


def same(found: Job, wanted: Job) -> Job:
    """The job that is there already. Raises Invalid when it came of another request."""
    if found.request_hash != wanted.request_hash:
        raise web.key_reused()
    return found


def new_job(
    account: str, request: Request, made: Offer, *, job_id: str, request_id: str, batch: str | None = None
) -> Job:
    """The job as it is first recorded. A provider that answers at once is not called in the request: the job is queued;
    otherwise its first attempt is open, since whoever records it makes it right away (a batch does not)."""
    now = current_time()
    scale = settings().time_scale
    at_once = made.model.provider in PREDICTORS and batch is None
    # What was asked for, as the caller wrote it: defaults that change with a release must not break a repeat.
    body = json.dumps(request.model_dump(exclude_unset=True), sort_keys=True, ensure_ascii=False)
    return Job(
        id=job_id,
        account=account,
        kind=request.kind,
        model=made.model.id,
        provider=made.model.provider,
        provider_model=made.model.provider_model,
        status="submitting" if at_once else "queued",
        request=made.fields,
        request_hash=hashlib.sha256(f"{request.kind}\0{body}".encode()).hexdigest(),
        input_keys=made.input_keys,
        units=made.units,
        hold=made.credits,
        batch=batch,
        created_at=iso(now),
        updated_at=iso(now),
        accepted_at=now,
        deadline_at=now + made.model.deadline_s * scale,
        abandon_at=now + made.model.abandon_s * scale,
        request_id=request_id,
        metadata=request.metadata,
        callback_url=request.callback_url,
        attempts=1 if at_once else 0,
        attempt="open" if at_once else "none",
        attempt_at=now if at_once else 0,
    )
