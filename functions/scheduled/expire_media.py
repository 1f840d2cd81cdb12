"""EventBridge, every hour: forget uploads that never came, delete those that nobody uses, remove what was deleted."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.clock import now
from shared.core.log import logger
from shared.projects import usage
from shared.uploads import expire


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:expiry", request_id=context.aws_request_id):
        return asdict(expire.expire(lambda: context.get_remaining_time_in_millis() / 1000, usage.of_asset, now()))
