"""S3, Object Created under uploads/ (by EventBridge): decide whether an uploaded file becomes an asset."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.clock import now
from shared.core.log import logger
from shared.uploads import receive


def handler(event: dict[str, Any], context: LambdaContext) -> None:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:inspection", request_id=context.aws_request_id):
        receive.receive(event["detail"]["object"]["key"], lambda: context.get_remaining_time_in_millis() / 1000, now())
