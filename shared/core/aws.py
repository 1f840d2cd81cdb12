"""The AWS clients, made once per process and only when first used."""

from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from shared.core.log import count
from shared.core.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

# Shorter than any function's own timeout, so that a slow call is an error we see and not the end of the process.
CONFIG = Config(connect_timeout=2, read_timeout=8, retries={"mode": "standard", "total_max_attempts": 3})
HASTY = CONFIG.merge(Config(connect_timeout=1, read_timeout=1))

THROTTLED = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


def watched[T](client: T) -> T:
    """The client, which from now on counts how often AWS tells it to wait: botocore repeats such calls in silence."""
    told: Any = client
    told.meta.events.register("needs-retry", _count_throttling)
    return client


def _count_throttling(response: tuple[Any, dict[str, Any]] | None, operation: Any, **_: Any) -> None:
    code = response[1].get("Error", {}).get("Code") if response else None
    if code in THROTTLED:
        count("AwsThrottled", operation=operation.name)


@cache
def dynamodb() -> "DynamoDBClient":
    return watched(boto3.client("dynamodb", config=CONFIG))


@cache
def hasty_dynamodb() -> "DynamoDBClient":
    """For what is not worth a caller's time."""
    return watched(boto3.client("dynamodb", config=HASTY))


@cache
def stepfunctions() -> "SFNClient":
    return watched(boto3.client("stepfunctions", config=CONFIG))


@cache
def s3() -> "S3Client":
    config = CONFIG.merge(Config(signature_version="s3v4", s3={"addressing_style": "path"}))
    return watched(boto3.client("s3", config=config))


@cache
def sockets() -> Any:
    """The connections of WebSocket clients. Whoever cannot be told something at once is not asked again."""
    config = Config(connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1}, max_pool_connections=20)
    url = settings().websocket_url.replace("ws", "http", 1)
    return boto3.client("apigatewaymanagementapi", endpoint_url=url, config=config)


@cache
def sqs() -> "SQSClient":
    return watched(boto3.client("sqs", config=CONFIG))
