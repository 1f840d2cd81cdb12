"""DynamoDB, the stream of the jobs table: tell the account of every change, and its receiver of the end."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core import dynamo
from shared.core.acting import as_actor
from shared.core.log import logger
from shared.delivery import callbacks, realtime
from shared.jobs.table import Job

processor = BatchProcessor(event_type=EventType.DynamoDBStreams)


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    logger.append_keys(request_id=context.aws_request_id)
    with as_actor("system:announcer", request_id=context.aws_request_id):
        return process_partial_response(event=event, record_handler=_announce, processor=processor, context=context)


def _announce(record: DynamoDBRecord) -> None:
    images = record.raw_event["dynamodb"]
    old, new = (_job(images.get(name)) for name in ("OldImage", "NewImage"))
    # Neither stops the other; whichever fails, the record comes again.
    try:
        if new is not None and new.terminal and not (old and old.terminal):
            callbacks.take_on(new)
    finally:
        realtime.push(old, new)


def _job(image: dict[str, Any] | None) -> Job | None:
    """The job of an image; None for a batch, and for an image that is not there."""
    item = dynamo.plain(image) if image else {}
    return Job.of(item) if "status" in item else None
