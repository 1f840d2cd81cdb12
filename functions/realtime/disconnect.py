"""WebSocket, $disconnect: forget the connection."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.log import logger
from shared.delivery import realtime


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = event["requestContext"]
    logger.append_keys(request_id=request["requestId"], account=None, job_id=None)
    # A message may call itself `$disconnect` and come here.
    if request["eventType"] == "DISCONNECT":
        realtime.leave(request["connectionId"])
    return {"statusCode": 200}
