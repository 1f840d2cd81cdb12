"""The HTTP edge, the same for every function: who calls, how large a body may be, and how a problem is answered.

app = web.Api()                     # needs the scope `studio`; web.Api(scope="admin"); web.Api(scope=web.OPEN)
app = web.Api(limit="create")       # counted apart from other reads and writes (limits.toml)

@app.get("/v1/credits")
def get_credits() -> Balance: ...

handler = web.handler(app)
"""

import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestUnsupportedContentType, RequestValidationError
from aws_lambda_powertools.event_handler.openapi.params import Header, Query
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import BotoCoreError, ClientError

from shared.core import auth, limits, pointers
from shared.core.acting import as_actor
from shared.core.auth import Caller
from shared.core.errors import (
    BadRequest,
    InternalError,
    Invalid,
    NotFound,
    PayloadTooLarge,
    Problem,
    RateLimited,
    Unauthorized,
    UnsupportedMediaType,
)
from shared.core.gcra import Rule, Verdict
from shared.core.log import count, logger
from shared.core.trace import noted

OPEN = None
"""The scope of an API that anyone may call."""

LARGEST_BODY = 64 * 1024
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"

PROBLEM_RESPONSE: dict[str, Any] = {
    "description": "A problem (RFC 9457).",
    "content": {
        PROBLEM_JSON: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "code", "detail", "request_id"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                    "request_id": {"type": "string"},
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["pointer", "detail"],
                            "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                        },
                    },
                },
            }
        }
    },
}
"""The OpenAPI response of every problem."""

Limit = Annotated[int, Query(ge=1, le=100, description="How many items a page has at the most.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A repeat with the same key and body gets the same answer; another body is refused.",
    ),
]

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
_limits: ContextVar[dict[str, str]] = ContextVar("limits")


class Api(APIGatewayHttpResolver):
    """The resolver of one function. Closed unless `scope` is OPEN: a caller needs a valid token with that scope.

    `limit` is the class of its rate limit, where that does not follow from scope and method; `largest_body` are bytes.
    """

    def __init__(
        self, *, scope: str | None = "studio", limit: str | None = None, largest_body: int = LARGEST_BODY
    ) -> None:
        super().__init__(enable_validation=True, serializer=_compact)
        self.scope = scope
        self.limit = limit
        self.largest_body = largest_body
        self.not_found(_no_route)
        self.exception_handler(Problem)(_answer)
        self.exception_handler(RequestValidationError)(self._answer_invalid)
        self.exception_handler(RequestUnsupportedContentType)(_answer_unsupported)

    def _answer_invalid(self, error: RequestValidationError) -> Response[str]:
        body = self.current_event.json_body if self.current_event.body else None
        errors = [{"pointer": _pointer(flaw["loc"], body), "detail": str(flaw["msg"])} for flaw in error.errors()]
        return _answer(Invalid("The request is not valid.", errors=errors))


def handler(app: Api) -> Callable[[dict[str, Any], LambdaContext], dict[str, Any]]:
    """The Lambda handler of `app`. Authenticates before it looks at anything else; every answer has an id."""

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        current_id = event["requestContext"]["requestId"]
        logger.set_correlation_id(current_id)
        logger.append_keys(request_id=current_id)
        _limits.set({})
        try:
            with noted("http"):
                answer = _respond(app, event, context)
        except Problem as problem:
            answer = problem_answer(problem, current_id)
        except Exception as error:  # noqa: BLE001 The edge of the process: a caller must get an answer, the log the traceback.
            logger.exception("request failed", aws_error=_aws_error_code(error))
            answer = problem_answer(InternalError("Something went wrong here; nothing was lost."), current_id)
        finally:
            _caller.set(None)
        headers = answer.setdefault("headers", {})
        headers.update(_limits.get())
        headers["x-request-id"] = current_id
        headers.setdefault("cache-control", "no-store")
        logger.info("answered", status=answer["statusCode"], route=event.get("routeKey"))
        logger.remove_keys(["job_id", "account"])
        return answer

    return handle


def caller() -> Caller:
    """Who made the request that is being answered."""
    who = _caller.get()
    if who is None:
        raise Unauthorized
    return who


def account() -> str:
    """The account of the caller."""
    return caller().account


def request_id() -> str:
    """The id of the request that is being answered: in the answer, the log, and on the job it makes."""
    return str(logger.get_correlation_id())


def key_reused() -> Invalid:
    """The problem of an Idempotency-Key that comes with another request than at first."""
    detail = "differs from the request that this Idempotency-Key was first used with"
    return Invalid(
        "This Idempotency-Key was used with another request.",
        errors=[{"pointer": "", "detail": detail}],
        code="idempotency_key_reused",
    )


def problem_answer(problem: Problem, request_id: str) -> dict[str, Any]:
    """The proxy answer (payload format 2.0) of a problem."""
    return {
        "statusCode": problem.status,
        "headers": {"content-type": PROBLEM_JSON, **problem.headers},
        "body": _compact(problem.document(request_id)),
    }


def _respond(app: Api, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = APIGatewayProxyEventV2(event)
    address = request.request_context.http.source_ip
    who = "system:anonymous"
    if app.scope is OPEN:
        _count(*limits.of_address(address, "open"))
    else:
        known = _authenticate(request.headers.get("authorization"), address)
        _caller.set(known)
        logger.append_keys(account=known.account)
        _count(*limits.of_account(known.account, known.plan, _class(app, request.request_context.http.method)))
        auth.require(known, app.scope)
        who = known.actor
    if _check_body(request, app.largest_body):
        # Powertools compares media types by case.
        event = {**event, "headers": {**event["headers"], "content-type": JSON}}
    with as_actor(who, address=address, request_id=request_id()):
        return app.resolve(event, context)


def _authenticate(authorization: str | None, address: str) -> Caller:
    """The caller. Who is refused too often is told to wait; a good token is let in from any address at any time."""
    try:
        return auth.authenticate(authorization)
    except Unauthorized:
        _count(*limits.of_address(address, "failed"))
        raise


def _class(app: Api, method: str) -> str:
    if app.limit:
        return app.limit
    if app.scope == "admin":
        return "admin"
    return "read" if method in ("GET", "HEAD") else "write"


def _count(bucket: str, rule: Rule) -> None:
    """Count the request and remember what its answer says of the limit. Raises RateLimited."""
    verdict: Verdict | None = limits.take(bucket, rule)
    _limits.set(limits.headers(rule, verdict))
    if verdict is not None and not verdict.allowed:
        count("RateLimited", limit=rule.name)
        raise RateLimited(limit=rule.name, retry_after=verdict.reset_s)


def _check_body(request: APIGatewayProxyEventV2, most: int) -> bool:
    """Refuse what is too large before parsing it, and what is not a JSON object before validating it; whether there is
    a body."""
    if len(request.body or "") > (most * 4 / 3 + 4 if request.is_base64_encoded else most):
        raise PayloadTooLarge(f"A request body may have {most} bytes.")
    content_type = (request.headers.get("content-type") or JSON).partition(";")[0].strip().lower()
    try:
        text = request.decoded_body or ""
    except ValueError:
        raise BadRequest("The body is not UTF-8 text.", code="malformed_json") from None
    if len(text.encode("utf-8", "surrogatepass")) > most:
        raise PayloadTooLarge(f"A request body may have {most} bytes.")
    if not text:
        return False
    if content_type != JSON:
        raise UnsupportedMediaType("A request body must be application/json.")
    try:
        body = json.loads(text)
        text.encode()
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.", code="malformed_json") from None
    if not isinstance(body, dict):
        raise Invalid("The body must be a JSON object.", errors=[{"pointer": "", "detail": "must be an object"}])
    return True


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def _answer(problem: Problem) -> Response[str]:
    body = _compact(problem.document(request_id()))
    return Response(problem.status, content_type=PROBLEM_JSON, body=body, headers=dict(problem.headers))


def _no_route(_: NotFoundError) -> Response[str]:
    return _answer(NotFound("There is nothing at this address."))


def _answer_unsupported(_: RequestUnsupportedContentType) -> Response[str]:
    return _answer(UnsupportedMediaType("A request body must be application/json."))


def _pointer(location: tuple[str | int, ...], body: Any) -> str:
    """RFC 6901 within the body; parameters are told as `?name`."""
    where, *path = location
    if where != "body":
        return "?" + ".".join(str(part) for part in path)
    return pointers.spelt(pointers.within(path, body))


def _aws_error_code(error: Exception) -> str | None:
    if isinstance(error, ClientError):
        return error.response["Error"].get("Code")
    return type(error).__name__ if isinstance(error, BotoCoreError) else None
