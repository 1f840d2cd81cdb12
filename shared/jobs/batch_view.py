"""What a caller sees of a batch."""

from collections import Counter

from pydantic import BaseModel

from shared.jobs.batches import Batch
from shared.jobs.status import TERMINAL
from shared.jobs.table import Job
from shared.jobs.view import CreditsOfJob, JobView


class BatchView(BaseModel):
    """A batch: how many of its jobs have which status, what it holds and has cost, and the jobs in their order."""

    id: str
    total: int
    counts: dict[str, int]
    finished: bool
    credits: CreditsOfJob
    items: list[JobView]
    next_cursor: str | None = None
    created_at: str

    @classmethod
    def of(cls, batch: Batch, jobs: list[Job]) -> "BatchView":
        counts = Counter(job.status for job in jobs)
        return cls(
            id=batch.id,
            total=len(batch.jobs),
            counts={str(status): number for status, number in sorted(counts.items())},
            finished=len(jobs) == len(batch.jobs) and all(job.status in TERMINAL for job in jobs),
            credits=CreditsOfJob(held=batch.hold, charged=sum(job.charged for job in jobs)),
            items=[JobView.of(job) for job in jobs],
            created_at=batch.created_at,
        )
