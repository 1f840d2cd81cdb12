"""POST /v1/batches: up to a hundred generations of any kinds, accepted together or not at all."""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.web import IdempotencyKey
from shared.jobs import batches
from shared.jobs.batch_view import BatchView

app = web.Api(limit="create")


class BatchRequest(BaseModel):
    """Generations, each `{"kind": "image", …}` with the fields of `POST /v1/images` and so on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    generations: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=batches.MOST)]


@app.post("/v1/batches", status_code=202)
def create_batch(request: BatchRequest, idempotency_key: IdempotencyKey = None) -> Response[BatchView]:
    batch, replayed = batches.create(
        web.account(), request.generations, idempotency_key=idempotency_key, request_id=web.request_id()
    )
    headers = {"idempotency-replayed": "true"} if replayed else {}
    return Response(
        202, content_type="application/json", body=BatchView.of(batch, batches.jobs_of(batch)), headers=headers
    )


handler = web.handler(app)
