"""GET /v1/jobs/{job_id}/callback and POST /v1/jobs/{job_id}/callback/redeliver: a callback's log, and once more."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.errors import NotFound
from shared.core.web import IdempotencyKey
from shared.delivery import callbacks, deliveries
from shared.delivery.view import CallbackView
from shared.jobs import find

app = web.Api()


@app.get("/v1/jobs/<job_id>/callback")
def get_callback(job_id: str) -> CallbackView:
    job = find.own(job_id, web.account())
    if job.callback_url is None:
        raise NotFound("This job has no callback.")
    delivery = deliveries.get(job.id)
    return CallbackView.of(delivery) if delivery else CallbackView.waiting(job)


@app.post("/v1/jobs/<job_id>/callback/redeliver", status_code=202)
def redeliver_callback(job_id: str, idempotency_key: IdempotencyKey = None) -> Response[CallbackView]:
    job = find.own(job_id, web.account())
    delivery = deliveries.get(job.id)
    if delivery is None:
        raise NotFound("This job has no callback that was sent.")
    again, repeated = callbacks.redeliver_once(delivery, idempotency_key)
    headers = {"idempotency-replayed": "true"} if repeated else {}
    return Response(202, content_type="application/json", body=CallbackView.of(again), headers=headers)


handler = web.handler(app)
