"""What an account has under way, however long its history is: a job that has not ended has an open hold."""

from itertools import batched

from shared.core import dynamo
from shared.core.settings import settings
from shared.credits import ledger
from shared.jobs.table import Job

AT_ONCE = 100


def of_account(account: str) -> list[Job]:
    """The account's unfinished jobs as they are now, the oldest first."""
    ids = [hold for hold in ledger.open_holds(account) if hold.startswith("job_")]
    found = [
        Job.of(item)
        for some in batched(ids, AT_ONCE, strict=False)
        for item in dynamo.get_all(settings().jobs_table, some).values()
    ]
    return sorted((job for job in found if not job.terminal), key=lambda job: (job.accepted_at, job.id))
