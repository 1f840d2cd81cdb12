"""EventBridge, every night, and `make reconcile`: recompute the balances of every account that has changed."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.credits import reconcile


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:reconciliation", request_id=context.aws_request_id):
        return asdict(reconcile.reconcile(lambda: context.get_remaining_time_in_millis() / 1000))
