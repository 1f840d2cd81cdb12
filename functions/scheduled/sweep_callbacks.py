"""EventBridge, every minute: callbacks that nobody has taken on, and deliveries that are due and have no message."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.delivery import callbacks


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:callback-sweeper", request_id=context.aws_request_id):
        return callbacks.sweep(lambda: context.get_remaining_time_in_millis() / 1000)
