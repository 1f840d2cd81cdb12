"""POST /v1/speech: hold the credits, record the job, start the workflow that makes the speech."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.web import IdempotencyKey
from shared.jobs import creation
from shared.jobs.creation import DryRun
from shared.jobs.requests import SpeechRequest
from shared.jobs.view import EstimateView, JobView

app = web.Api(limit="create")


@app.post("/v1/speech", status_code=202)
def create_speech(
    request: SpeechRequest, dry_run: DryRun = False, idempotency_key: IdempotencyKey = None
) -> Response[JobView | EstimateView]:
    return creation.answer(request, dry_run=dry_run, idempotency_key=idempotency_key)


handler = web.handler(app)
