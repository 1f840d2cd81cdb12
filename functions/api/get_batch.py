"""GET /v1/batches/{batch_id}: how many of its jobs are where, and the jobs."""

from shared.core import web
from shared.core.errors import NotFound
from shared.jobs import batches
from shared.jobs.batch_view import BatchView

app = web.Api()


@app.get("/v1/batches/<batch_id>")
def get_batch(batch_id: str) -> BatchView:
    batch = batches.find(batch_id)
    if batch is None or batch.account != web.account():
        raise NotFound("There is no such batch.")
    return BatchView.of(batch, batches.jobs_of(batch))


handler = web.handler(app)
