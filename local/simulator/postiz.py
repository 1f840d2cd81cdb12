"""Postiz's public API under /postiz: channels, uploads, posts, and what has become of them.

The text of a post steers it: `create=` disturbs the create call (`drop-after-accept` has made the posts), by
`outcome=failed` the network refuses it, by `never` it stays in the queue, `delay` is how long after its time it is
published. A key with `old` in it is that of a Postiz which lists no settings. There is no idempotency: what is
created twice is published twice. Of an upload only size and hash are kept.

`GET /_sim/posts?contains=` tells tests which posts there are, `uploads` of which files:

    {"creates": 2, "posts": [{"id", "channel", "content", "state", "publish_at", "created", "publication", "deleted"}],
     "uploads": [{"id", "name", "content_type", "bytes", "sha256"}]}
"""

import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.simulator.api import Refused, application, go_wrong, json_object, key_of
from local.simulator.calls import understood
from local.simulator.directives import Directives, Fault

KEY_PREFIX = "postiz_"
PREFIX = "/public/v1"
ABILITIES = {
    "create": frozenset({"429", "429bare", "500", "502html", "refuse", "drop-after-accept", "hang"}),
    "outcome": frozenset({"failed", "never"}),
}
ORGANISATION = "85460a39-6329-4cf4-a252-187ce89a3480"
PICTURE = "https://uploads.postiz.com/picture.png"
# Alice's own, everybody's, one that was disconnected, and one of somebody else.
CHANNELS = [
    {"id": "int-x", "name": "Studio on X", "identifier": "x", "disabled": False, "customer": None},
    {"id": "int-linkedin", "name": "Studio", "identifier": "linkedin", "disabled": False, "customer": None},
    {"id": "int-alice", "name": "Alice", "identifier": "youtube", "disabled": False, "customer": "alice"},
    {"id": "int-bob", "name": "Bob", "identifier": "youtube", "disabled": False, "customer": "bob"},
    {"id": "int-off", "name": "Old page", "identifier": "facebook", "disabled": True, "customer": None},
]
MEDIA_TYPES = ("image/", "video/mp4")
FILE_NAME = re.compile(rb'name="file"; filename="([^"]*)"')
CONTENT_TYPE = re.compile(rb"content-type: ([^\r\n]+)", re.IGNORECASE)


def _refused(status: int, message: object, headers: dict[str, str] | None = None) -> Refused:
    names = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
    body = {"statusCode": status, "message": message, "error": names.get(status, "Internal server error")}
    return Refused(status, body, headers)


ANSWERS = {
    "401": lambda: Refused(401, {"msg": "Invalid API key"}),
    "429": lambda: _refused(429, "ThrottlerException: Too Many Requests", {"retry-after": "1"}),
    "429bare": lambda: _refused(429, "ThrottlerException: Too Many Requests"),
    "500": lambda: _refused(500, "Internal server error"),
}


@dataclass(slots=True)
class Post:
    id: str
    channel: str
    content: str
    settings: dict[str, Any]
    image: list[dict[str, Any]]
    draft: bool
    publish_at: float
    due: float
    created: float
    asked: Directives
    deleted: bool = False

    @property
    def state(self) -> str:
        if self.draft:
            return "DRAFT"
        if self.asked.outcome == "never" or time.time() < self.due + self.asked.delay:
            return "QUEUE"
        return "ERROR" if self.asked.outcome == "failed" else "PUBLISHED"


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    name: str
    content_type: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class Postiz:
    posts: dict[str, Post] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    creates: list[str] = field(default_factory=list)
    _faults: dict[str, Fault[str]] = field(default_factory=dict)

    def app(self) -> Starlette:
        return application(
            [(f"{PREFIX}/posts", self._create), (f"{PREFIX}/upload", self._upload)],
            [
                (f"{PREFIX}/integrations", "GET", self._channels),
                (f"{PREFIX}/is-connected", "GET", self._connected),
                (f"{PREFIX}/posts", "GET", self._list),
                (f"{PREFIX}/posts/{{post}}", "DELETE", self._delete),
            ],
            prefix=KEY_PREFIX,
            key=lambda request: request.headers.get("authorization", ""),
            answers=ANSWERS,
        )

    @property
    def routes(self) -> list[Route]:
        return [Route("/_sim/posts", self._inspect)]

    async def _connected(self, _: Request) -> Response:
        return JSONResponse({"connected": True})

    async def _channels(self, _: Request) -> Response:
        def shown(channel: dict[str, Any]) -> dict[str, Any]:
            owner = channel["customer"]
            customer = {"customer": {"id": f"customer-{owner}", "name": owner}} if owner else {}
            profile = channel["name"].lower().replace(" ", "_")
            return {**channel, "picture": PICTURE, "profile": profile, **customer} | (
                {} if owner else {"customer": None}
            )

        return JSONResponse([shown(channel) for channel in CHANNELS])

    async def _upload(self, request: Request) -> Response:
        if key_of(request).throttled:
            raise ANSWERS["429"]()
        upload = await _read_file(request)
        if not upload.content_type.startswith(MEDIA_TYPES):
            raise _refused(400, "Unsupported file type.")
        self.uploads[upload.id] = upload
        at = _iso(time.time())
        path = f"https://uploads.postiz.com/{upload.id}-{upload.name}"
        told = {"id": upload.id, "name": upload.name, "path": path, "organizationId": ORGANISATION}
        return JSONResponse({**told, "createdAt": at, "updatedAt": at}, status_code=201)

    async def _create(self, request: Request) -> Response:
        body = await json_object(request, lambda message: _refused(400, [message]))
        texts = [value.get("content", "") for post in _posts(body) for value in post["value"]]
        asked = understood(texts, "Postiz", lambda message: _refused(400, [message]), ABILITIES)
        fault = "429" if key_of(request).throttled else self._strike(texts, asked)
        self.creates.append(fault)
        if fault not in ("ok", "drop-after-accept"):
            return await go_wrong(request, fault, ANSWERS)
        made = [self._make(body, post, asked) for post in _posts(body)]
        if fault == "drop-after-accept":
            return await go_wrong(request, fault, ANSWERS)
        return JSONResponse([{"postId": post.id, "integration": post.channel} for post in made], status_code=201)

    def _strike(self, texts: list[str], asked: Directives) -> str:
        return self._faults.setdefault(json.dumps(texts), Fault(str(asked.create), asked.times)).strike()

    def _make(self, body: dict[str, Any], told: dict[str, Any], asked: Directives) -> Post:
        now = time.time()
        # What is published at once gets the minute it is in.
        publish_at = now // 60 * 60 if body["type"] == "now" else _seconds(body["date"])
        post = Post(
            id=f"cm{secrets.token_hex(11)}",
            channel=told["integration"]["id"],
            content=told["value"][0]["content"],
            settings=told.get("settings") or {},
            image=told["value"][0].get("image") or [],
            draft=body["type"] == "draft",
            publish_at=publish_at,
            due=now if body["type"] == "now" else publish_at,
            created=now,
            asked=asked,
        )
        self.posts[post.id] = post
        return post

    async def _list(self, request: Request) -> Response:
        start, end = (_seconds(request.query_params.get(name)) for name in ("startDate", "endDate"))
        found = [post for post in self.posts.values() if not post.deleted and start <= post.publish_at <= end]
        shown = [_shown(post) for post in found]
        if "old" in request.state.given:
            shown = [{name: value for name, value in post.items() if name != "settings"} for post in shown]
        return JSONResponse({"posts": shown})

    async def _delete(self, request: Request) -> Response:
        post = self.posts.get(request.path_params["post"])
        if post is None or post.deleted:
            # So it is with the real one.
            raise _refused(500, "Internal server error")
        post.deleted = True
        return JSONResponse({"id": post.id})

    async def _inspect(self, request: Request) -> JSONResponse:
        part = request.query_params.get("contains", "")
        found = [
            {
                "id": post.id,
                "channel": post.channel,
                "content": post.content,
                "state": post.state,
                "publish_at": post.publish_at,
                "created": post.created,
                "publication": post.settings.get("atelier_publication"),
                "deleted": post.deleted,
            }
            for post in self.posts.values()
            if part in post.content
        ]
        uploads = [asdict(upload) for upload in self.uploads.values()]
        return JSONResponse({"creates": len(self.creates), "posts": found, "uploads": uploads})


def _posts(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The posts of a create, of the shape that Postiz asks for."""
    flaws = []
    if body.get("type") not in ("draft", "schedule", "now"):
        flaws.append("type must be one of the following values: draft, schedule, now")
    if not isinstance(body.get("shortLink"), bool):
        flaws.append("shortLink must be a boolean value")
    if not isinstance(body.get("tags"), list):
        flaws.append("tags must be an array")
    posts = body.get("posts")
    if not isinstance(posts, list) or not posts:
        flaws.append("posts must be an array")
        posts = []
    known = {channel["id"] for channel in CHANNELS}
    for post in posts:
        channel = (post.get("integration") or {}).get("id")
        if channel not in known:
            flaws.append(f"Integration with id {channel} not found")
        values = post.get("value")
        if not isinstance(values, list) or not values or not all(isinstance(one.get("content"), str) for one in values):
            flaws.append("content must be a string")
    if flaws:
        raise _refused(400, flaws)
    _seconds(body.get("date"))
    return posts


def _shown(post: Post) -> dict[str, Any]:
    channel = next(one for one in CHANNELS if one["id"] == post.channel)
    published = post.state == "PUBLISHED"
    return {
        "id": post.id,
        "content": post.content,
        "publishDate": _iso(post.publish_at),
        "releaseURL": f"https://{channel['identifier']}.example.com/posts/{post.id}" if published else None,
        "releaseId": post.id if published else None,
        "state": post.state,
        "intervalInDays": None,
        "group": f"group-{post.id}",
        "creationMethod": "API",
        "settings": json.dumps(post.settings),
        "tags": [],
        "integration": {
            "id": channel["id"],
            "providerIdentifier": channel["identifier"],
            "name": channel["name"],
            "picture": PICTURE,
        },
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        raise _refused(400, ["date must be a valid ISO 8601 date string"]) from None


async def _read_file(request: Request) -> Upload:
    """The one file of a multipart body, measured as it comes and not kept."""
    boundary = request.headers.get("content-type", "").partition("boundary=")[2].strip('"').encode()
    stream = request.stream()
    head = await _until(stream, b"\r\n\r\n")
    headers, _, rest = head.partition(b"\r\n\r\n")
    name, kind = FILE_NAME.search(headers), CONTENT_TYPE.search(headers)
    if not boundary or name is None or kind is None:
        raise Refused(400, {"msg": "No file provided"})
    end = b"\r\n--" + boundary + b"--\r\n"
    digest, size, tail = hashlib.sha256(), 0, rest
    async for chunk in stream:
        tail += chunk
        ready = tail[: -len(end)] if len(tail) > len(end) else b""
        digest.update(ready)
        size += len(ready)
        tail = tail[len(ready) :]
    last = tail.removesuffix(end)
    digest.update(last)
    return Upload(
        id=secrets.token_hex(16),
        name=name[1].decode(),
        content_type=kind[1].decode(),
        bytes=size + len(last),
        sha256=digest.hexdigest(),
    )


async def _until(stream: AsyncIterator[bytes], mark: bytes) -> bytes:
    data = b""
    async for chunk in stream:
        data += chunk
        if mark in data or len(data) > 65_536:
            break
    return data
