"""EventBridge, every night: delete the files of assets that never came about, and what is left over of projects."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.clock import now
from shared.core.log import logger
from shared.media import purge
from shared.projects import purge as projects


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, dict[str, int]]:
    logger.append_keys(request_id=context.aws_request_id)

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    with as_actor("system:purge", request_id=context.aws_request_id):
        return {
            "projects": asdict(projects.purge(time_left, now())),
            "assets": asdict(purge.purge(time_left, now())),
        }
