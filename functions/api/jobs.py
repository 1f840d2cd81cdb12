"""GET /v1/jobs and GET /v1/jobs/{job_id}: the caller's jobs, newest first, and one of them."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Query

from shared.core import web
from shared.core.web import Cursor, Limit
from shared.jobs import find, table
from shared.jobs.catalog import Kind
from shared.jobs.status import Status
from shared.jobs.view import JobPage, JobView

app = web.Api()


@app.get("/v1/jobs")
def list_jobs(
    limit: Limit = 20,
    cursor: Cursor = None,
    kind: Annotated[Kind | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
) -> JobPage:
    items, following = table.page(web.account(), limit=limit, cursor=cursor, kind=kind, status=status)
    return JobPage(items=[JobView.of(job) for job in items], next_cursor=following)


@app.get("/v1/jobs/<job_id>")
def get_job(job_id: str) -> JobView:
    return JobView.of(find.own(job_id, web.account()))


handler = web.handler(app)
