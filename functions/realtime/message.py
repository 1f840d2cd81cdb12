"""WebSocket, $default: answer what a client sends, `sync` and `ping`."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.log import logger
from shared.delivery import realtime


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = event["requestContext"]
    logger.append_keys(request_id=request["requestId"], account=None, job_id=None)
    try:
        realtime.answer(request["connectionId"], event.get("body") or "")
    except Exception:  # noqa: BLE001 The edge of the process: the log needs the traceback, the client an answer.
        logger.exception("message failed")
        realtime.apologize(request["connectionId"])
    return {"statusCode": 200}
