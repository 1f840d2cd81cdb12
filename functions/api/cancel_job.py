"""POST /v1/jobs/{job_id}/cancel: stop a job; a job that has ended is answered as it is."""

from shared.core import web
from shared.core.clock import now
from shared.core.dynamo import Refused
from shared.jobs import find, observe, settle, table
from shared.jobs.view import JobView
from shared.providers.outcomes import Failure

app = web.Api()


@app.post("/v1/jobs/<job_id>/cancel")
def cancel_job(job_id: str) -> JobView:
    job = find.own(job_id, web.account())
    try:
        job = table.request_cancel(job.id, now())
    except Refused as refused:
        return JobView.of(table.met(refused) or job)
    if job.status == "queued":
        # Nothing is at the provider, and the next attempt to put something there finds the job over.
        try:
            return JobView.of(settle.cancel_queued(job, Failure("canceled", "Canceled on request.")))
        except Refused:
            job = find.own(job.id, web.account())
    return JobView.of(observe.cancel(job))


handler = web.handler(app)
