"""The sweeper: whatever was left behind at any point is started, finished or ended.

It decides nothing about a job itself. It makes sure that an execution of the workflow is looking after it, beginning at
the step that fits what the job has; that step asks the provider. While an execution waits for a webhook, the sweeper
asks in its place, so that waiting costs the workflow no transition, and wakes it when there is something to know.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from aws_lambda_powertools.metrics import MetricUnit

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import about, count, logger, measure
from shared.core.settings import settings
from shared.jobs import batches, decide, observe, table, workflow
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job
from shared.providers.registry import PREDICTORS

PAGE = 50
ENOUGH_TIME_S = 15
"""As long as one job may take: a provider that does not answer, and a few AWS calls."""

OVERDUE_AFTER_S = 300
"""A running execution that has not ended its job so long after abandon_at is not believed any more."""

HOPELESS_AFTER = 5
"""Executions that did not end an abandoned job, before it is ended without asking anybody."""


@dataclass
class Round:
    """What a sweep has come upon: jobs that were given a new execution, jobs that should have ended long ago, and the
    providers that did not answer and are not asked again."""

    restarted: int = 0
    overdue: int = 0
    silent: set[str] = field(default_factory=set)


def sweep(time_left: Callable[[], float]) -> int:
    """Look after every due job while `time_left()` (seconds) lasts; how many were given a new execution."""
    met = Round()
    for number in range(table.SHARDS):
        while time_left() > ENOUGH_TIME_S:
            due = table.due(f"open#{number}", current_time(), limit=PAGE)
            for job_id in due:
                if time_left() > ENOUGH_TIME_S:
                    _try(job_id, met)
            if len(due) < PAGE:
                break
    count("SweepRestarted", met.restarted)
    measure("JobsOverdue", met.overdue, MetricUnit.Count)
    logger.info("swept", restarted=met.restarted, overdue=met.overdue)
    return met.restarted


def _try(job_id: str, met: Round) -> None:
    """Look after one job; whatever is wrong with it is no reason to leave the others alone."""
    with about(job_id, None):
        try:
            met.restarted += _look_after(job_id, met)
        except Exception:  # noqa: BLE001 It stays due, or comes again in a minute.
            logger.exception("could not look after this job")
            count("SweepFailed")


def _look_after(job_id: str, met: Round) -> bool:
    """Give the job an execution if none works on it, and say so; ask for the news if one waits."""
    now = current_time()
    if job_id.startswith("batch_"):
        return _go_on_with(job_id)
    try:
        job = table.claim_sweep(job_id, now)
    except Refused:
        return False
    logger.append_keys(request_id=job.request_id)
    running = workflow.status(job)
    overdue = now > job.abandon_at + settings().scaled(OVERDUE_AFTER_S)
    met.overdue += overdue
    if running == "RUNNING" and not overdue:
        if job.provider not in met.silent and not observe.look(job):
            met.silent.add(job.provider)
        _look_again(job, now)
        return False
    logger.warning("nobody looks after this job", execution=running, status=job.status, overdue=overdue)
    if running is not None:
        try:
            job = table.next_execution(job, now)
        except Refused:
            return False
    workflow.start(job, _first_step(job, overdue=overdue))
    return True


def _go_on_with(batch_id: str) -> bool:
    """Split off what is left of a batch whose request died half way."""
    batch = batches.find(batch_id)
    if batch is None or batch.is_split:
        return False
    logger.warning("going on with a batch", batch=batch_id)
    batches.split(batch)
    return True


def _look_again(job: Job, now: float) -> None:
    try:
        table.postpone_sweep(job.id, decide.next_look(job, now, settings().time_scale), now)
    except Refused:
        logger.info("the job has ended meanwhile")


def _first_step(job: Job, *, overdue: bool) -> Step:
    if overdue and job.executions >= HOPELESS_AFTER:
        return fail("timed_out", "internal_error", "The job could not be finished; nothing is charged.")
    if job.provider not in PREDICTORS:
        return workflow.first(job)
    if job.result is not None:
        return Step("store")
    return Step("poll") if job.prediction is not None else workflow.first(job)
