"""The HTTP side of every `POST /v1/{kind}`: dry run, acceptance, first attempt, answer."""

from collections.abc import Callable
from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from shared.core import web
from shared.jobs import accept, submit, workflow
from shared.jobs.accept import Offer
from shared.jobs.requests import Request
from shared.jobs.view import Estimate, EstimateView, JobView
from shared.providers.registry import PREDICTORS

DryRun = Annotated[bool, Query(description="Only tell the price: 200 with an estimate, and nothing else is done.")]


def answer[R: Request](
    request: R,
    *,
    dry_run: bool,
    idempotency_key: str | None,
    offer: Callable[[str, R], Offer] = accept.offer,
) -> Response[JobView | EstimateView]:
    """202 with the job, or 200 with the estimate that `offer` makes. Raises what that and `accept` raise, and
    Unavailable while the provider is not configured (nothing is held then)."""
    made = offer(web.account(), request)
    if dry_run:
        estimate = Estimate(
            kind=request.kind,
            model=made.model.id,
            credits=made.credits,
            units=made.units,
            per=made.model.price.per,
        )
        return Response(200, content_type="application/json", body=EstimateView(estimate=estimate))
    accepted = accept.accept(web.account(), request, made, idempotency_key=idempotency_key, request_id=web.request_id())
    if accepted.replayed:
        headers = {"idempotency-replayed": "true"}
        return Response(202, content_type="application/json", body=JobView.of(accepted.job), headers=headers)
    job = accepted.job
    if job.provider in PREDICTORS:
        job = submit.begin(job)
    else:
        workflow.start(job, workflow.first(job))
    return Response(202, content_type="application/json", body=JobView.of(job))
