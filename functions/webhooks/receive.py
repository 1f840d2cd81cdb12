"""Function URL /{provider}?job={job_id}: a provider tells what became of a prediction. Verified, or refused."""

import base64
import json
from typing import Any

from aws_lambda_powertools.utilities.data_classes import LambdaFunctionUrlEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core import web
from shared.core.acting import as_actor
from shared.core.clock import now
from shared.core.errors import InternalError, NotFound, Problem, Unauthorized, Unavailable
from shared.core.log import count, logger
from shared.core.trace import noted
from shared.jobs import observe
from shared.providers.outcomes import ProviderError
from shared.providers.registry import PREDICTORS, predictor
from shared.providers.signatures import BadSignature


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = LambdaFunctionUrlEvent(event)
    request_id = request.request_context.request_id
    # `request_id` is that of the request that created the job, once it is known which job that is.
    logger.append_keys(webhook_request_id=request_id, request_id=None, job_id=None)
    try:
        with noted("webhook"):
            _receive(request)
    except Problem as problem:
        answer = web.problem_answer(problem, request_id)
    except Exception:  # noqa: BLE001 The edge of the process: an unanswered webhook would be retried without our knowing why.
        logger.exception("webhook failed")
        answer = web.problem_answer(InternalError("Something went wrong here; please deliver it again."), request_id)
    else:
        body = json.dumps({"received": True})
        answer = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body}
    answer["headers"]["x-request-id"] = request_id
    logger.info("webhook answered", status=answer["statusCode"])
    return answer


def _receive(request: LambdaFunctionUrlEvent) -> None:
    name = request.raw_path.strip("/")
    if name not in PREDICTORS or request.http_method != "POST":
        raise NotFound("There is nothing at this address.")
    try:
        notice = predictor(name).parse_webhook(request.headers, _raw(request), now())
    except BadSignature as error:
        logger.warning("webhook refused", provider=name, reason=str(error))
        count("WebhookRefused", provider=name)
        raise Unauthorized("A valid signature is needed.", scheme="Signature") from error
    except ProviderError as error:
        logger.error("cannot verify webhooks: no signing secret", provider=name, reason=error.detail)
        raise Unavailable("Webhooks cannot be verified at the moment.", code="unconfigured") from error
    job_id = (request.query_string_parameters or {}).get("job", "")
    try:
        context = request.request_context
        with as_actor(f"webhook:{name}", address=context.http.source_ip, request_id=context.request_id):
            observe.deliver(job_id or "unknown", name, notice)
    except observe.UnknownJob as error:
        raise NotFound("There is nothing at this address.") from error
    except ProviderError as error:
        logger.warning("webhook cannot be believed yet", provider=name, reason=error.detail)
        raise Unavailable("The provider did not confirm this; please deliver it again.", code="unconfirmed") from error


def _raw(request: LambdaFunctionUrlEvent) -> bytes:
    """The bytes as they were sent: a signature covers nothing else."""
    body = request.body or ""
    if not request.is_base64_encoded:
        return body.encode()
    return base64.b64decode(body)
