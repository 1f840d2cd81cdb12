"""The sweeper: whatever was left behind at any point is started, finished or ended.

It decides nothing about a job itself. It makes sure that an execution of the workflow is looking after it, beginning at
the step that fits what the job has; that step asks the provider.
"""

from collections.abc import Callable

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.jobs import table, workflow
from shared.jobs.steps import Step, fail
from shared.jobs.table import Job

PAGE = 50
OVERDUE_AFTER_S = 300
"""A running execution that has not ended its job so long after abandon_at is not believed any more."""

HOPELESS_AFTER = 5
"""Executions that did not end an abandoned job, before it is ended without asking anybody."""


def sweep(time_left: Callable[[], float]) -> int:
    """Look after every due job while `time_left()` (seconds) lasts; how many were given a new execution."""
    restarted = 0
    for number in range(table.SHARDS):
        while time_left() > 10:
            due = table.due(f"open#{number}", current_time(), limit=PAGE)
            for job_id in due:
                restarted += _look_after(job_id)
            if len(due) < PAGE:
                break
    count("SweepRestarted", restarted)
    logger.info("swept", restarted=restarted)
    return restarted


def _look_after(job_id: str) -> bool:
    """Give the job an execution if none works on it."""
    now = current_time()
    logger.append_keys(job_id=job_id)
    try:
        job = table.postpone_sweep(job_id, now)
    except Refused:
        return False
    running = workflow.status(job)
    overdue = now > job.abandon_at + settings().scaled(OVERDUE_AFTER_S)
    if running == "RUNNING" and not overdue:
        return False
    logger.warning("nobody looks after this job", execution=running, status=job.status, overdue=overdue)
    if running is not None:
        try:
            job = table.next_execution(job, now)
        except Refused:
            return False
    workflow.start(job, _first_step(job, overdue=overdue))
    return True


def _first_step(job: Job, *, overdue: bool) -> Step:
    if overdue and job.executions >= HOPELESS_AFTER:
        return fail("timed_out", "internal_error", "The job could not be finished; nothing is charged.")
    if job.result is not None:
        return Step("store")
    return Step("submit" if job.prediction is None else "poll")
