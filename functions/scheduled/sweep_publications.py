"""EventBridge, every five minutes: give every publication that nobody works on an execution of the workflow."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.publishing import sweep


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:sweeper", request_id=context.aws_request_id):
        restarted = sweep.sweep(lambda: context.get_remaining_time_in_millis() / 1000)
    return {"restarted": restarted}
