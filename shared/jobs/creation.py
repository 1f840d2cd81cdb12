"""The HTTP side of every `POST /v1/{kind}`: dry run, acceptance, first attempt, answer."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from shared.core import web
from shared.jobs import accept, submit
from shared.jobs.requests import Request
from shared.jobs.view import Estimate, EstimateView, JobView
from shared.providers.registry import PROVIDERS

DryRun = Annotated[bool, Query(description="Only tell the price: 200 with an estimate, and nothing else is done.")]


def answer(request: Request, *, dry_run: bool, idempotency_key: str | None) -> Response[JobView | EstimateView]:
    """202 with the job, or 200 with the estimate. Raises what `accept` raises, and Unavailable while the provider is
    not configured (nothing is held then)."""
    model, credits = accept.price(request)
    if dry_run:
        estimate = Estimate(kind=request.kind, model=model.id, credits=credits)
        return Response(200, content_type="application/json", body=EstimateView(estimate=estimate))
    PROVIDERS[model.provider].connection()
    accepted = accept.accept(web.account(), request, idempotency_key=idempotency_key, request_id=web.request_id())
    if accepted.replayed:
        headers = {"idempotency-replayed": "true"}
        return Response(202, content_type="application/json", body=JobView.of(accepted.job), headers=headers)
    return Response(202, content_type="application/json", body=JobView.of(submit.begin(accepted.job)))
