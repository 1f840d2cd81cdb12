"""DynamoDB, the streams of the tables of jobs, the ledger, assets and access: write down who changed what."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.core.acting import UNKNOWN
from shared.core.log import count, logger
from shared.delivery import audit, audit_table

processor = BatchProcessor(event_type=EventType.DynamoDBStreams)


def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    logger.append_keys(request_id=context.aws_request_id)
    return process_partial_response(event=event, record_handler=_write_down, processor=processor, context=context)


def _write_down(record: DynamoDBRecord) -> None:
    row = audit.row(record.raw_event)
    if row is None:
        return
    audit_table.save(row)
    if row["actor"] == UNKNOWN.name:
        logger.warning("nobody has signed this change", resource=row["resource"], item=row["item"], entry=row["id"])
        count("UnsignedChange")
