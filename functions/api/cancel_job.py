"""POST /v1/jobs/{job_id}/cancel: stop a job; a job that has ended is answered as it is."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.clock import now
from shared.core.dynamo import Refused
from shared.core.web import IdempotencyKey
from shared.jobs import find, observe, settle, table
from shared.jobs.table import Job
from shared.jobs.view import JobView
from shared.providers.outcomes import Failure

app = web.Api()


@app.post("/v1/jobs/<job_id>/cancel")
def cancel_job(job_id: str, idempotency_key: IdempotencyKey = None) -> Response[JobView]:
    job, asked = _cancel(find.own(job_id, web.account()), now())
    headers = {"idempotency-replayed": "true"} if idempotency_key and asked else {}
    return Response(200, content_type="application/json", body=JobView.of(job), headers=headers)


def _cancel(job: Job, at: float) -> tuple[Job, bool]:
    """The job, and whether its end had been asked for before: that is kept once, whoever asks how often."""
    try:
        job = table.request_cancel(job.id, at)
    except Refused as refused:
        job = table.met(refused) or job
        return job, job.cancel_requested_at is not None
    asked = job.cancel_requested_at != at
    if job.status == "queued":
        # Nothing is at the provider, and the next attempt to put something there finds the job over.
        try:
            return settle.cancel_queued(job, Failure("canceled", "Canceled on request.")), asked
        except Refused:
            job = find.own(job.id, web.account())
    return observe.cancel(job), asked


handler = web.handler(app)
