"""SQS, the queue of callbacks: make the one attempt that is due."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import as_actor
from shared.core.log import logger
from shared.delivery import callbacks, queue

processor = BatchProcessor(event_type=EventType.SQS)


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    logger.append_keys(request_id=context.aws_request_id, job_id=None)
    with as_actor("system:callbacks", request_id=context.aws_request_id):
        return process_partial_response(event=event, record_handler=_deliver, processor=processor, context=context)


def _deliver(record: SQSRecord) -> None:
    callbacks.attempt(*queue.read(record.body))
