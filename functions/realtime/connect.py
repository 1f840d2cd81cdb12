"""WebSocket, $connect: let in who has a ticket."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.errors import Problem
from shared.core.log import logger
from shared.delivery import realtime


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = event["requestContext"]
    logger.append_keys(request_id=request["requestId"], account=None, job_id=None)
    ticket = (event.get("queryStringParameters") or {}).get("ticket", "")
    address = request["identity"]["sourceIp"]
    with as_actor("system:realtime", address=address, request_id=request["requestId"]):
        try:
            realtime.admit(request["connectionId"], ticket, address)
        except Problem as problem:
            logger.info("connection refused", status=problem.status, code=problem.code)
            return {"statusCode": problem.status}
        except Exception:  # noqa: BLE001 The edge of the process: the log needs the traceback, the client an answer.
            logger.exception("connection failed")
            return {"statusCode": 500}
    return {"statusCode": 200}
