"""EventBridge, every night: delete the files of assets that never came about."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.clock import now
from shared.core.log import logger
from shared.media import purge


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:purge", request_id=context.aws_request_id):
        return asdict(purge.purge(lambda: context.get_remaining_time_in_millis() / 1000, now()))
