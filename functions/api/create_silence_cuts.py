"""POST /v1/projects/{project_id}/silence-cuts: hold the credits, record the job, start the workflow that listens."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.web import IdempotencyKey
from shared.jobs import creation
from shared.jobs.creation import DryRun
from shared.jobs.requests import SilenceCuts, SilenceCutsRequest
from shared.jobs.view import EstimateView, JobView
from shared.silence import accept

app = web.Api(limit="create")


@app.post("/v1/projects/<project_id>/silence-cuts", status_code=202)
def create_silence_cuts(
    project_id: str, request: SilenceCutsRequest, dry_run: DryRun = False, idempotency_key: IdempotencyKey = None
) -> Response[JobView | EstimateView]:
    asked = SilenceCuts(project=project_id, **request.model_dump(exclude_unset=True))
    return creation.answer(asked, dry_run=dry_run, idempotency_key=idempotency_key, offer=accept.offer)


handler = web.handler(app)
