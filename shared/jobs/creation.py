"""The HTTP side of every `POST /v1/{kind}`: dry run, acceptance, first attempt, answer."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from shared.core import web
from shared.jobs import accept, submit, workflow
from shared.jobs.requests import Request
from shared.jobs.steps import Step
from shared.jobs.view import Estimate, EstimateView, JobView
from shared.providers.registry import PREDICTORS

DryRun = Annotated[bool, Query(description="Only tell the price: 200 with an estimate, and nothing else is done.")]


def answer(request: Request, *, dry_run: bool, idempotency_key: str | None) -> Response[JobView | EstimateView]:
    """202 with the job, or 200 with the estimate. Raises what `accept` raises, and Unavailable while the provider is
    not configured (nothing is held then)."""
    made = accept.offer(web.account(), request)
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
        workflow.start(job, Step("generate"))
    return Response(202, content_type="application/json", body=JobView.of(job))
