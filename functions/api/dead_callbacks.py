"""GET /v1/admin/callbacks/dead and POST /v1/admin/callbacks/dead/{job_id}/replay: what was given up, and once more."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.errors import NotFound
from shared.core.web import Cursor, IdempotencyKey, Limit
from shared.delivery import callbacks, deliveries
from shared.delivery.view import DeadCallbackPage, DeadCallbackView

app = web.Api(scope="admin")


@app.get("/v1/admin/callbacks/dead")
def list_dead_callbacks(limit: Limit = 20, cursor: Cursor = None) -> DeadCallbackPage:
    dead, following = deliveries.dead(limit=limit, cursor=cursor)
    return DeadCallbackPage(items=[DeadCallbackView.of(delivery) for delivery in dead], next_cursor=following)


@app.post("/v1/admin/callbacks/dead/<job_id>/replay", status_code=202)
def replay_dead_callback(job_id: str, idempotency_key: IdempotencyKey = None) -> Response[DeadCallbackView]:
    delivery = deliveries.get(job_id) if job_id.startswith("job_") else None
    if delivery is None:
        raise NotFound("There is no such callback.")
    again, repeated = callbacks.redeliver_once(delivery, idempotency_key)
    headers = {"idempotency-replayed": "true"} if repeated else {}
    return Response(202, content_type="application/json", body=DeadCallbackView.of(again), headers=headers)


handler = web.handler(app)
