"""A caller's own job."""

from shared.core.errors import NotFound
from shared.core.log import logger
from shared.jobs import table
from shared.jobs.table import Job


def own(job_id: str, account: str) -> Job:
    """The job, if it is the account's. Raises NotFound, the same whether it is somebody else's or nobody's."""
    job = table.get(job_id)
    if job is None or job.account != account:
        raise NotFound("There is no such job.")
    logger.append_keys(job_id=job.id)
    return job


def any_account(job_id: str) -> Job:
    """The job, for a step of its own workflow. Raises LookupError."""
    job = table.get(job_id)
    if job is None:
        raise LookupError(f"there is no {job_id}")
    return job
