"""The way of a file into the library, as a browser goes it: announce, send to S3, ask what became of it."""

import json
from typing import Any

import httpx

from local.cloud import Stack
from tests import corpus
from tests.e2e.helpers import eventually
from tests.support import Json, Studio

PATIENCE_S = 60
QUOTA = 100_000_000_000
"""`StorageQuotaBytes` of the template."""

# One for all: making a client costs more than a request.
web = httpx.Client(trust_env=False, verify=False, timeout=60)


def promised(studio: Studio, content_type: str, size: int, name: str | None = None) -> Json:
    """An upload that was announced."""
    answer = studio.http.post("/uploads", json={"content_type": content_type, "bytes": size, "name": name})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def sent(upload: Json, data: bytes, *, form: Json | None = None) -> httpx.Response:
    """The form with the file, as S3 answers it; `form` changes its fields."""
    fields = {**upload["post"]["fields"], **(form or {})}
    return web.post(upload["post"]["url"], data=fields, files={"file": ("a file", data)})


def decided(studio: Studio, upload_id: str) -> Json:
    """The upload once it is ready or rejected."""

    def look() -> Json | None:
        answer = studio.http.get(f"/uploads/{upload_id}")
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.json()["state"] in ("ready", "rejected") else None

    return eventually(look, timeout=PATIENCE_S, what=f"decision on {upload_id}")


def uploaded(studio: Studio, data: bytes, content_type: str, name: str | None = None) -> Json:
    """The outcome of a small file's upload."""
    upload = promised(studio, content_type, len(data), name)
    assert sent(upload, data).status_code == 204
    return decided(studio, upload["id"])


def in_library(studio: Studio, sample: str, name: str | None = None) -> Json:
    """A file of the corpus as an asset."""
    outcome = uploaded(studio, corpus.make(sample), corpus.SAMPLES[sample].media_type, name)
    assert outcome["state"] == "ready", outcome
    return dict(outcome["asset"])


def keys(studio: Studio, prefix: str) -> set[str]:
    """What is in the bucket under keys that begin so."""
    s3, bucket = studio.stack.client("s3"), studio.stack.buckets["media"]
    return {found["Key"] for found in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])}


def has_stored(studio: Studio, size: int) -> None:
    """Let the account have stored so many bytes."""
    studio.stack.client("dynamodb").put_item(
        TableName=studio.stack.tables["assets"],
        Item={"id": {"S": f"storage#{studio.account}"}, "bytes": {"N": str(size)}, "files": {"N": "1"}},
    )


def make_due(stack: Stack, item_id: str) -> None:
    """Let the time pass until the expiry looks at it."""
    stack.client("dynamodb").update_item(
        TableName=stack.tables["assets"],
        Key={"id": {"S": item_id}},
        UpdateExpression="SET due_at = :past",
        ConditionExpression="attribute_exists(due_at)",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


def invoke(stack: Stack, function: str, event: Json) -> Any:
    """What the deployed function answers."""
    payload = json.dumps(event).encode()
    answer = stack.client("lambda").invoke(FunctionName=stack.functions[function], Payload=payload)
    told = answer["Payload"].read()
    assert "FunctionError" not in answer, told
    return json.loads(told)
