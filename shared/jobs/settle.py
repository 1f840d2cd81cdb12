"""The end of a job: its terminal status and its money move in one transaction, once."""

from collections.abc import Sequence

from aws_lambda_powertools.metrics import MetricUnit

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused, Write
from shared.core.log import count, gauge, logger, measure
from shared.credits import ledger
from shared.credits.ledger import Account, Change, Overdrawn
from shared.jobs import budget, catalog, prices, table
from shared.jobs.status import Ending
from shared.jobs.table import Job
from shared.providers.outcomes import Failure

CALLERS_OWN = ("invalid_input", "content_refused", "project_gone", "clip_gone")
"""What a job fails of that its caller can change."""


def succeed(job: Job) -> Job:
    """storing → succeeded; the hold is captured for what was delivered and the rest goes back."""
    now = current_time()
    model = catalog.models().get(job.model)
    charged, cost = prices.of(job, model) if model else prices.of_gone(job)

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        change = ledger.capture(account, job=job.id, kind=job.kind, held=job.hold, amount=charged, now=now)
        spend = [budget.spend(job.provider, cost, now)] if cost else []
        return change, [table.succeed(job, charged=charged, cost_usd=cost, now=now), *spend]

    return _once(job, decide)


def fail(job: Job, ending: Ending, failure: Failure) -> Job:
    """unfinished → failed | canceled | timed_out; the whole hold goes back."""
    now = current_time()

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        change = ledger.release(account, job=job.id, kind=job.kind, held=job.hold, now=now)
        return change, [table.fail(job, ending, failure, now)]

    return _once(job, decide)


def cancel_queued(job: Job, failure: Failure) -> Job:
    """queued → canceled, at once: nothing is at the provider. Raises Refused when the job is queued no more."""
    now = current_time()

    def decide(account: Account) -> tuple[Change, Sequence[Write]]:
        change = ledger.release(account, job=job.id, kind=job.kind, held=job.hold, now=now)
        return change, [table.fail(job, "canceled", failure, now, origins=["queued"])]

    return _once(job, decide)


def _once(job: Job, decide: ledger.Decide) -> Job:
    """Settle, or find that somebody has; either way the job as it is afterwards."""
    try:
        ledger.commit(job.account, decide)
    except (Refused, Overdrawn):
        # What was held for this job may be gone from the balances already: the account then cannot give it twice.
        settled = table.get(job.id)
        if settled is None or not settled.terminal:
            raise
        logger.info("settled already", status=settled.status)
        return settled
    settled = table.get(job.id)
    if settled is None:
        raise LookupError(f"{job.id} is gone")
    _tell(settled)
    logger.info("settled", status=settled.status, charged=settled.charged, held=job.hold)
    return settled


def _tell(job: Job) -> None:
    """The end of a job in numbers. What its caller has asked wrongly, or has called off, does not count as failed."""
    count(f"Job_{job.status}", kind=job.kind, provider=job.provider)
    if job.status == "succeeded":
        gauge("FailedPercent", 0)
        measure("JobSeconds", max(0.0, current_time() - job.accepted_at), MetricUnit.Seconds, kind=job.kind)
        measure("ProviderCostUsd", job.cost_usd or 0.0, MetricUnit.NoUnit, provider=job.provider)
    elif job.status != "canceled" and (job.error is None or job.error.code not in CALLERS_OWN):
        gauge("FailedPercent", 100)
