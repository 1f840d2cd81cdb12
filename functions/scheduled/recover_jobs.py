"""EventBridge, every quarter of an hour, and `make recover`: predictions that no job has settled."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.jobs import recover


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:recovery", request_id=context.aws_request_id):
        return asdict(recover.recover(lambda: context.get_remaining_time_in_millis() / 1000))
