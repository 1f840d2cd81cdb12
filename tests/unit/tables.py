"""Tables for unit tests: DynamoDB is the emulator's own, called in this process, with the tables of the template."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from ministack.services import dynamodb

from tests.unit.helpers import Answer, Loopback, template

OPERATIONS = ("PutItem", "GetItem", "UpdateItem", "DeleteItem", "Query", "TransactWriteItems", "BatchGetItem")


def emulated(cloud: Loopback) -> None:
    """Let this loopback's DynamoDB be the emulator's."""
    for operation in OPERATIONS:
        cloud.answers[f"DynamoDB_20120810.{operation}"] = _operation(operation)


@contextmanager
def having(environment: pytest.MonkeyPatch, logical: str, variable: str) -> Iterator[str]:
    """A table of the template, empty, under a name that `variable` tells."""
    name = f"{logical}-{uuid4().hex[:8]}"
    environment.setenv(variable, name)
    properties = template()["Resources"][logical]["Properties"]
    wanted = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    described = {key: properties[key] for key in wanted if key in properties}
    _operation("CreateTable")(json.dumps({"TableName": name, **described}).encode())
    try:
        yield name
    finally:
        _operation("DeleteTable")(json.dumps({"TableName": name}).encode())


def _operation(name: str) -> Callable[[bytes], Answer]:
    headers = {"x-amz-target": f"DynamoDB_20120810.{name}"}

    def answer(body: bytes) -> Answer:
        code, told, data = asyncio.run(dynamodb.handle_request("POST", "/", headers, body, {}))
        return code, {"content-type": told.get("Content-Type", "application/x-amz-json-1.0")}, data

    return answer
