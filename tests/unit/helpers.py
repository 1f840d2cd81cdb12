"""What unit tests share: requests as Lambda gets them, tokens, jobs, and a loopback server to ask."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import yaml

from shared.jobs.table import Job

ROOT = Path(__file__).parent.parent.parent
EVENTS = ROOT / "events"

JWT_KEY = "a-secret-for-tests-that-is-long-enough-for-every-algorithm-of-hmac"
REPLICATE_KEY = "r8_a-key-for-tests"
# The secret of the published test vector of Standard Webhooks; events/README.md names it too.
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

ENVIRONMENT = {
    "STACK_NAME": "atelier",
    "JOBS_TABLE": "jobs",
    "LEDGER_TABLE": "ledger",
    "ASSETS_TABLE": "assets",
    "CIRCUITS_TABLE": "circuits",
    "ACCESS_TABLE": "access",
    "LIMITS_TABLE": "limits",
    "AUDIT_TABLE": "audit",
    "DELIVERIES_TABLE": "deliveries",
    "CONNECTIONS_TABLE": "connections",
    "PROJECTS_TABLE": "projects",
    "PROJECT_LISTS_TABLE": "project-lists",
    "PUBLICATIONS_TABLE": "publications",
    "STOCK_TABLE": "stock",
    "CALLBACKS_QUEUE": "https://sqs.us-east-1.amazonaws.com/123456789012/callbacks",
    "MEDIA_BUCKET": "media",
    "GENERATION_ARN": "arn:aws:states:us-east-1:123456789012:stateMachine:atelier-generation",
    "PUBLISHING_ARN": "arn:aws:states:us-east-1:123456789012:stateMachine:atelier-publishing",
    "JWT_SECRET": "atelier/jwt",
    "API_KEYS_SECRET": "atelier/api-keys",
    "JWT_ISSUER": "atelier",
    "JWT_AUDIENCE": "atelier-api",
    "JWT_ALGORITHMS": "HS256",
    "JWKS_URL": "",
    "DEFAULT_PLAN": "standard",
    "REPLICATE_BASE_URL": "https://api.replicate.com/v1",
    "KIE_BASE_URL": "https://api.kie.ai",
    "FAL_BASE_URL": "https://queue.fal.run",
    "FAL_JWKS_URL": "https://rest.fal.ai/.well-known/jwks.json",
    "OPENAI_BASE_URL": "https://api.openai.com/v1",
    "ELEVENLABS_BASE_URL": "https://api.elevenlabs.io",
    "GEMINI_BASE_URL": "https://generativelanguage.googleapis.com/v1beta",
    "POSTIZ_BASE_URL": "https://api.postiz.com/public/v1",
    "PEXELS_BASE_URL": "https://api.pexels.com",
    "ALLOWED_PRIVATE_ORIGINS": "",
    "PROVIDER_TIMEOUT": "2",
    "GENERATE_TIMEOUT": "5",
    "CALLBACK_TIMEOUT": "2",
    "JOBS_IN_FLIGHT": "100",
    "STORAGE_QUOTA_BYTES": "1000000000",
    "PROVIDER_BUDGETS_USD": "",
    "LOOKUP_GRACE": "30",
    "TIME_SCALE": "1",
    "WEBHOOK_URL": "https://receiver.lambda-url.us-east-1.on.aws/",
    "WEBSOCKET_URL": "wss://sockets.execute-api.us-east-1.amazonaws.com/live",
}

Json = dict[str, Any]


def event(method: str, path: str, *, body: Any = None, token: str | None = None, **more: Any) -> Json:
    """An HTTP API request (payload format 2.0). `body` is text as it is, anything else becomes JSON.

    `headers` and `query` add to it, `base64_encoded` sends the body as API Gateway sends a binary one.
    """
    headers = {"host": "api.example.com", "content-type": "application/json"} | more.get("headers", {})
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    encoded = bool(more.get("base64_encoded"))
    if encoded and text is not None:
        text = base64.b64encode(text.encode()).decode()
    query = more.get("query", {})
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "&".join(f"{name}={value}" for name, value in query.items()),
        "headers": headers,
        **({"queryStringParameters": query} if query else {}),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "t",
            },
            "requestId": f"request-{uuid4().hex[:8]}",
            "routeKey": f"{method} {path}",
            "stage": "$default",
            "time": "01/Oct/2026:10:00:00 +0000",
            "timeEpoch": 1790848800000,
        },
        **({"body": text} if text is not None else {}),
        "isBase64Encoded": encoded,
    }


@dataclass
class Context:
    """A Lambda context."""

    aws_request_id: str = "11111111-2222-3333-4444-555555555555"
    function_name: str = "function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function"

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


def problem(answer: Json) -> Json:
    """The problem document of an answer, which must be one."""
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    assert headers["content-type"] == "application/problem+json"
    document: Json = json.loads(answer["body"])
    assert document["status"] == answer["statusCode"]
    assert document["request_id"] == headers["x-request-id"]
    assert document.keys() >= {"type", "title", "status", "code", "detail", "request_id"}
    return document


def claims(**changes: Any) -> Json:
    """The claims of a good token; None removes one."""
    now = int(time.time())
    good = {
        "sub": "alice",
        "scope": "studio",
        "iss": "atelier",
        "aud": "atelier-api",
        "iat": now,
        "exp": now + 600,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(*, key: Any = JWT_KEY, algorithm: str = "HS256", headers: Json | None = None, **changes: Any) -> str:
    """A token, good unless told otherwise."""
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def job(**changes: Any) -> Job:
    """A job in the middle of its life: accepted at 1000, deadline 1600, abandoned at 2200."""
    values: Json = {
        "id": "job_00000000000000000000000001",
        "account": "alice",
        "kind": "image",
        "model": "flux-schnell",
        "provider": "replicate",
        "provider_model": "black-forest-labs/flux-schnell",
        "status": "processing",
        "request": {"prompt": "a lighthouse", "count": 1, "aspect_ratio": "1:1"},
        "request_hash": "0" * 64,
        "hold": 3,
        "created_at": "2026-10-01T10:00:00.000Z",
        "updated_at": "2026-10-01T10:00:00.000Z",
        "accepted_at": 1000.0,
        "deadline_at": 1600.0,
        "abandon_at": 2200.0,
        "request_id": "request-1",
    }
    return Job(**{**values, **changes})


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Loopback:
    """A server on loopback. `answers[x]` answers requests whose X-Amz-Target, or else whose path, is x."""

    url: str = ""
    answers: dict[str, Callable[[bytes], Answer]] = field(default_factory=dict)
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def says(self, name: str, body: Any, *, status: int = 200, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[name] = lambda _: (status, {"content-type": content_type}, data)

    def keeps_secrets(self, secrets: dict[str, str]) -> None:
        """Be AWS Secrets Manager with these values."""

        def answer(request: bytes) -> Answer:
            name = json.loads(request)["SecretId"]
            if name in secrets:
                return 200, {}, json.dumps({"Name": name, "SecretString": secrets[name]}).encode()
            return 400, {}, json.dumps({"__type": "ResourceNotFoundException", "message": "none"}).encode()

        self.answers["secretsmanager.GetSecretValue"] = answer

    def lets_in(self) -> None:
        """Be DynamoDB to the door: nothing was revoked, and no limit is reached."""
        self.says("DynamoDB_20120810.BatchGetItem", {"Responses": {}, "UnprocessedKeys": {}})
        self.says("DynamoDB_20120810.UpdateItem", {"Attributes": {"tat": {"N": "0"}}})

    @property
    def asked(self) -> list[str]:
        """What was asked of it, but for the questions of the door."""
        door = ("DynamoDB_20120810.BatchGetItem", "DynamoDB_20120810.UpdateItem")
        return [name for name, _ in self.seen if name not in door]

    def keeps_objects(self, bucket: str) -> dict[str, bytes]:
        """Be AWS S3 with this bucket, empty; the answer is what is in it, by key."""
        self.buckets[bucket] = {}
        return self.buckets[bucket]


def unframed(body: bytes) -> Iterator[bytes]:
    """The data in a body that is `aws-chunked`."""
    while size := int((head := body.partition(b"\r\n"))[0].partition(b";")[0], 16):
        yield head[2][:size]
        body = head[2][size + 2 :]


@contextmanager
def loopback() -> Iterator[Loopback]:
    """A Loopback that listens."""
    told = Loopback()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the second packet of an answer waits for the acknowledgement of the first.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = b"".join(self.chunks()) if "chunked" in self.headers.get("transfer-encoding", "") else self.rest()
            name = self.headers.get("x-amz-target") or self.path.partition("?")[0]
            told.seen.append((name, body))
            bucket, _, key = name.removeprefix("/").partition("/")
            if bucket in told.buckets:
                status, headers, data = self.object(told.buckets[bucket], key, body)
            else:
                answer = told.answers.get(name, lambda _: (404, {}, b"{}"))
                status, headers, data = answer(body)
            self.send_response(status)
            for header, value in {"content-length": str(len(data)), **headers}.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

        def object(self, bucket: dict[str, bytes], key: str, body: bytes) -> Answer:
            """What S3 answers about one object."""
            if self.command == "PUT":
                framed = "aws-chunked" in self.headers.get("content-encoding", "")
                bucket[key] = b"".join(unframed(body)) if framed else body
                return 200, {"etag": '"x"'}, b""
            if self.command == "DELETE":
                bucket.pop(key, None)
                return 204, {}, b""
            if key not in bucket:
                return 404, {}, b""
            data, span = bucket[key], self.headers.get("range")
            if span is None:
                return 200, {"etag": '"x"'}, data
            first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
            total = len(data)
            return 206, {"content-range": f"bytes {first}-{min(last, total - 1)}/{total}"}, data[first : last + 1]

        def rest(self) -> bytes:
            return self.rfile.read(int(self.headers.get("content-length") or 0))

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Tagged:
    """A CloudFormation tag: `!GetAtt Table.Arn` is Tagged("GetAtt", "Table.Arn")."""

    tag: str
    value: Any


class _Loader(yaml.SafeLoader):
    pass


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.ScalarNode):
        return Tagged(suffix, loader.construct_scalar(node))
    if isinstance(node, yaml.SequenceNode):
        return Tagged(suffix, loader.construct_sequence(node, deep=True))
    assert isinstance(node, yaml.MappingNode)
    return Tagged(suffix, loader.construct_mapping(node, deep=True))


_Loader.add_multi_constructor("!", _tagged)


@cache
def template() -> Json:
    """template.yaml; read once, so change nothing in it."""
    document: Json = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
    return document


def functions() -> dict[str, Json]:
    """The properties of every Lambda function of the template, by its logical name."""
    resources = template()["Resources"].items()
    return {name: resource["Properties"] for name, resource in resources if resource["Type"].endswith("less::Function")}


def routes() -> dict[str, str]:
    """`METHOD /path` of every HTTP API event of the template and the handler it goes to; `$default` is one, too."""
    found = {}
    for properties in functions().values():
        for trigger in properties.get("Events", {}).values():
            if trigger["Type"] == "HttpApi":
                told = trigger["Properties"]
                found[f"{told['Method']} {told['Path']}" if "Path" in told else "$default"] = properties["Handler"]
    return found


def load(name: str) -> Json:
    """A payload of events/."""
    payload: Json = json.loads((EVENTS / name).read_text())
    return payload
