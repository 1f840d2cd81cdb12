"""POST /v1/stems: hold the credits, record the job, create the prediction, start its workflow."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.web import IdempotencyKey
from shared.jobs import creation
from shared.jobs.creation import DryRun
from shared.jobs.requests import StemsRequest
from shared.jobs.view import EstimateView, JobView

app = web.Api(limit="create")


@app.post("/v1/stems", status_code=202)
def create_stems(
    request: StemsRequest, dry_run: DryRun = False, idempotency_key: IdempotencyKey = None
) -> Response[JobView | EstimateView]:
    return creation.answer(request, dry_run=dry_run, idempotency_key=idempotency_key)


handler = web.handler(app)
