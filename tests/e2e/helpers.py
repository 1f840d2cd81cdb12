"""What the end-to-end tests share: doing things at once, judging problems and files, speaking as the provider, and
reading what the emulator has recorded of every function's AWS calls."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import httpx
from PIL import Image

from local.cloud import SIMULATOR_KEY, Stack
from local.simulator.delivery import sign
from tests.support import Json, Studio

IMAGE, PORTRAIT = 3, 10
"""Credits of one image and of one portrait with the default models (shared/catalog.toml)."""

POLL_S, LONG_POLL_S = 15, 6
DEADLINE_S, ABANDON_S = 18, 36
"""The catalogue's 600 s and 1200 s on the local TimeScale (samconfig.toml)."""


def at_once[T](calls: Sequence[Callable[[], T]], *, workers: int | None = None) -> list[T]:
    """Every call's result, in their order, all of them made in parallel."""
    with ThreadPoolExecutor(workers or len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def eventually[T](look: Callable[[], T | None], *, timeout: float, what: str) -> T:
    """The first result that is true. Fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"no {what} after {timeout} s"
        time.sleep(0.1)


def moment(timestamp: str) -> float:
    """Epoch seconds of an RFC 3339 time."""
    return datetime.fromisoformat(timestamp).timestamp()


def check_problem(answer: httpx.Response, status: int, code: str) -> Json:
    """The answer is this RFC 9457 problem under its own request id; the document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: Json = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def pointers(answer: httpx.Response) -> set[str]:
    """Where a 422 says the flaws are."""
    errors = check_problem(answer, 422, "invalid_request")["errors"]
    assert all(error["detail"] for error in errors)
    return {error["pointer"] for error in errors}


def check_assets(studio: Studio, job: Json, *, count: int = 1) -> None:
    """The job has `count` files; each decodes and is, by both of its addresses, what the job says of it."""
    assert len(job["assets"]) == count
    for asset in job["assets"]:
        content = studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True)
        assert content.status_code == 200
        assert content.headers["content-type"] == asset["content_type"] == "image/png"
        assert len(content.content) == asset["bytes"]
        assert hashlib.sha256(content.content).hexdigest() == asset["sha256"]
        assert httpx.get(asset["url"], trust_env=False).content == content.content
        with Image.open(io.BytesIO(content.content)) as image:
            image.load()
            assert image.size == (asset["width"], asset["height"])


def check_paid(studio: Studio, job: Json, amount: int, *, granted: int = 100) -> None:
    """The account's only job has cost `amount`."""
    assert job["credits"]["charged"] == amount
    assert studio.credits() == {"available": granted - amount, "held": 0, "spent": amount}
    assert [entry["type"] for entry in studio.entries()] == ["capture", "hold", "grant"]


def check_refunded(studio: Studio, job: Json, *, granted: int = 100) -> None:
    """The account's only job has cost nothing, and its hold went back."""
    assert job["credits"]["charged"] == 0
    assert studio.credits() == {"available": granted, "held": 0, "spent": 0}
    assert [entry["type"] for entry in studio.entries()] == ["release", "hold", "grant"]


def logged(stack: Stack, group: str | None = None) -> Iterator[str]:
    """Every line of a log group, or of the stack's. The emulator answers the first ten thousand and knows no next page:
    it is asked again from the last."""
    client, start = stack.client("logs"), 0
    while True:
        name = group or f"/atelier/{stack.stack_name}"
        events = client.filter_log_events(logGroupName=name, startTime=start)["events"]
        yield from (event["message"] for event in events)
        if not events or events[-1]["timestamp"] == start:
            return
        start = events[-1]["timestamp"]


# The provider's side


class Provider:
    """The simulated Replicate, asked directly, and its webhooks, made by hand."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        headers = {"authorization": f"Bearer {SIMULATOR_KEY}"}
        limits = httpx.Limits(max_connections=100)
        self.api = httpx.Client(
            base_url=f"{stack.simulator_url}/replicate/v1", headers=headers, timeout=30, limits=limits, trust_env=False
        )
        self.http = httpx.Client(timeout=60, limits=limits, trust_env=False)

    def close(self) -> None:
        self.api.close()
        self.http.close()

    @cached_property
    def secret(self) -> str:
        return str(self.api.get("/webhooks/default/secret").json()["key"])

    def prediction(self, prediction_id: str) -> Json:
        """The prediction object, which is also the body of its webhook."""
        answer = self.api.get(f"/predictions/{prediction_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def signed(self, body: bytes, *, secret: str | None = None, age: int = 0, message: str = "msg_test") -> Json:
        """Headers that prove `body`, as if it had been sent `age` seconds ago."""
        sent = int(time.time()) - age
        return {
            "content-type": "application/json",
            "webhook-id": message,
            "webhook-timestamp": str(sent),
            "webhook-signature": sign(secret or self.secret, message, sent, body),
        }

    def deliver(self, job_id: str | None, body: bytes, headers: Json, *, name: str = "replicate") -> httpx.Response:
        """POST a webhook to the deployed Function URL."""
        params = {"job": job_id} if job_id is not None else {}
        return self.http.post(f"{self.stack.webhook_url}/{name}", params=params, content=body, headers=headers)


def only_prediction(studio: Studio, job_id: str) -> Json:
    """What the simulator knows of the job's one and only prediction."""
    seen = studio.simulated(job_id)
    assert seen["prediction_count"] == 1, seen
    return dict(seen["predictions"][0])


def delivered(prediction: Json, event: str = "completed") -> list[int | None]:
    """The status codes that the deliveries of an event got; None for one that was lost."""
    return [attempt["status_code"] for attempt in prediction["deliveries"] if attempt["event"] == event]


# What the emulator has recorded


@dataclass(frozen=True)
class Call:
    """One recorded AWS call of a function, or one member of its transaction: an IAM action on a resource's ARN."""

    action: str
    resource: str


class Recording:
    """The emulator's CloudTrail. It records calls made over HTTP that IAM has let pass."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._trail = stack.client("cloudtrail")
        functions = {
            function["FunctionName"]: function
            for page in stack.client("lambda").get_paginator("list_functions").paginate()
            for function in page["Functions"]
        }
        self.roles = {name: functions[physical]["Role"] for name, physical in stack.functions.items()}
        # The emulator gives each function's session a key made of its function and its role.
        self._keys = {
            name: "ASIA"
            + hashlib.sha256(f"{functions[physical]['FunctionArn']}:{self.roles[name]}".encode())
            .hexdigest()[:16]
            .upper()
            for name, physical in stack.functions.items()
        }

    def events(self, function: str, name: str | None = None, table: str | None = None) -> list[Json]:
        """The newest 50 events of a function, or of one name or table among them; newest first."""
        wanted = [{"AttributeKey": "AccessKeyId", "AttributeValue": self._keys[function]}]
        if name:
            wanted.append({"AttributeKey": "EventName", "AttributeValue": name})
        if table:
            wanted.append({"AttributeKey": "ResourceName", "AttributeValue": table})
        return list(self._trail.lookup_events(LookupAttributes=wanted)["Events"])

    def calls(self, function: str, names: Iterable[str]) -> set[Call]:
        """The distinct calls among the newest events of each name, and among those of any name."""
        found: list[Json] = []
        for name in [*names, None]:
            newest = self.events(function, name)
            found += newest
            if len(newest) == MOST_EVENTS:  # What the door asks for with every request has crowded others out.
                found += [event for table in self.stack.tables.values() for event in self.events(function, name, table)]
        return {call for event in found for call in self._calls_of(event)}

    def _calls_of(self, event: Json) -> list[Call]:
        detail = json.loads(event["CloudTrailEvent"])
        service = detail["eventSource"].partition(".")[0]
        asked: Json = detail["requestParameters"] or {}
        match service, event["EventName"]:
            case "dynamodb", "TransactWriteItems":
                # IAM judges each member by its own action.
                return [
                    Call(TRANSACTED[kind], self._table(write["TableName"]))
                    for member in asked["TransactItems"]
                    for kind, write in member.items()
                ]
            case "dynamodb", ("BatchGetItem" | "BatchWriteItem") as name:
                return [Call(f"dynamodb:{name}", self._table(table)) for table in asked["RequestItems"]]
            case "sqs", name:
                return [Call(f"sqs:{name}", self._arn("sqs", asked["QueueUrl"].rpartition("/")[2]))]
            case "dynamodb", name:
                index = f"/index/{asked['IndexName']}" if "IndexName" in asked else ""
                return [Call(f"dynamodb:{name}", self._table(asked["TableName"]) + index)]
            case "secretsmanager", name:
                return [Call(f"secretsmanager:{name}", self._arn("secretsmanager", f"secret:{asked['SecretId']}-"))]
            case "states", name:
                known = asked.get("stateMachineArn") or asked.get("executionArn") or "*"
                return [Call(f"states:{name}", known)]
            case "s3", name:
                names = {item["ResourceType"]: item["ResourceName"] for item in event["Resources"]}
                path = f"{names['AWS::S3::Bucket']}/{names.get('AWS::S3::Object', '')}"
                return [Call(f"s3:{name}", f"arn:aws:s3:::{path}")]
        raise AssertionError(f"a call that this test cannot attribute: {service} {event['EventName']}")

    def _table(self, name: str) -> str:
        return self._arn("dynamodb", f"table/{name}")

    def _arn(self, service: str, resource: str) -> str:
        account = next(iter(self.roles.values())).split(":")[4]
        return f"arn:aws:{service}:{self.stack.region}:{account}:{resource}"


MOST_EVENTS = 50
TRANSACTED = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "Delete": "dynamodb:DeleteItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
}
# The record names calls of S3 by method and depth of the path, so giving a multipart upload up looks like DeleteObject,
# and listing its parts like GetObject. IAM tells them apart, and what it refuses is not recorded.
S3_ACTIONS = {
    "PutObject": {"s3:PutObject"},
    "CreateMultipartUpload": {"s3:PutObject"},
    "DeleteObject": {"s3:DeleteObject", "s3:AbortMultipartUpload"},
    "GetObject": {"s3:GetObject", "s3:ListMultipartUploadParts"},
    "HeadObject": {"s3:GetObject"},
    "ListObjects": {"s3:ListBucket"},
}
