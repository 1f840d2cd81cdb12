"""Postiz, which publishes on social networks: channels, uploads, posts. Wire format: docs.postiz.com, Public API.

It has no idempotency key, so a create whose answer is lost is looked up. Postiz keeps the `settings` of a post as they
were sent and lists them again: our publication's id in there is the marker that tells our posts from all others. A
Postiz too old to list settings shows at least the channel, the text and the time of a post.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from html import unescape
from typing import Any, BinaryIO

import httpx

from shared.core.clock import iso
from shared.core.settings import settings
from shared.providers import http, reading
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    Gone,
    InvalidInput,
    KeyRefused,
    OperatorNeeded,
    ProviderError,
    Silent,
    Throttled,
)
from shared.publishing.status import POSTIZ_STATES, ChannelState, Mode

MARKER = "atelier_publication"
"""The setting of a post that has our publication's id. Networks read only the settings they know."""

SAME_TIME_S = 120
"""Postiz rounds the time of a post that is published at once to the minute, and its clock is not ours."""

TAG = re.compile(r"<[^>]{0,2000}>")


@dataclass(frozen=True)
class Channel:
    """A connected account of a social network. `owner` is the customer that it was given to, None if it is anyone's."""

    id: str
    name: str
    platform: str
    picture: str | None
    disabled: bool
    owner: str | None


@dataclass(frozen=True)
class Media:
    """An uploaded file, as a post names it."""

    id: str
    path: str


@dataclass(frozen=True)
class Post:
    """A post at Postiz. `publication` is the id in its marker; `marked` says whether this Postiz lists settings."""

    id: str
    channel: str
    content: str
    publish_at: float
    state: ChannelState
    url: str | None
    publication: str | None
    marked: bool


@dataclass(frozen=True)
class Draft:
    """A post to be made."""

    channel: str
    platform: str
    content: str
    settings: Mapping[str, Any]


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process. The key stands alone: Postiz wants no `Bearer`."""
    base_url = settings().base_urls["postiz"]
    return http.connect(base_url, {"authorization": key}, timeout=settings().provider_timeout)


def channels(connection: Connection) -> list[Channel]:
    """Every channel that the key's organisation has. Raises Permanent, Throttled or Silent."""
    response = http.ask(connection, "GET", "/integrations")
    http.check_answered(response, _refusal)
    listed = _json(response)
    if not isinstance(listed, list):
        raise Silent("the provider answered with no list of channels")
    return [channel for channel in map(_channel, listed) if channel]


def upload(connection: Connection, file: BinaryIO, name: str, content_type: str) -> Media:
    """Send a file, read piece by piece as it leaves. A repeat leaves a second copy in Postiz's library and harms
    nobody. Raises Permanent, Throttled or Silent."""
    timeout = httpx.Timeout(settings().generate_timeout, connect=http.CONNECT_TIMEOUT_S)
    files = {"file": (name, file, content_type)}
    response = http.ask(connection, "POST", "/upload", files=files, timeout=timeout)
    http.check_answered(response, _refusal)
    told = http.document(response) or {}
    if not isinstance(told.get("id"), str) or not isinstance(told.get("path"), str):
        raise Silent("the provider answered with no file")
    return Media(told["id"], told["path"])


def create(
    connection: Connection,
    publication: str,
    posts: Sequence[Draft],
    *,
    mode: Mode,
    publish_at: float,
    media: Media,
) -> dict[str, str]:
    """Create the posts, one request for all: their ids by channel. Raises Permanent, NothingCreated or Ambiguous."""
    body: dict[str, Any] = {
        "type": mode,
        "date": iso(publish_at),
        "shortLink": False,
        "tags": [],
        "posts": [
            {
                "integration": {"id": post.channel},
                "value": [{"content": post.content, "image": [vars(media)]}],
                "settings": {**post.settings, "__type": post.platform, MARKER: publication},
            }
            for post in posts
        ],
    }
    response = http.create(connection, "/posts", body)
    http.check_created(response, _refusal)
    listed = _json(response)
    made = {
        entry["integration"]: entry["postId"]
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("postId"), str)
        and isinstance(entry.get("integration"), str)
    }
    if not {post.channel for post in posts} <= made.keys():
        raise Ambiguous("the provider's answer does not name every post")
    return made


def posts(connection: Connection, start: float, end: float) -> list[Post]:
    """Every post of the organisation whose time is within. Raises Permanent, Throttled or Silent."""
    window = {"startDate": iso(start), "endDate": iso(end)}
    response = http.ask(connection, "GET", "/posts", params=window)
    http.check_answered(response, _refusal)
    listed = (http.document(response) or {}).get("posts")
    if not isinstance(listed, list):
        raise Silent("the provider answered with no list of posts")
    return [post for post in map(_post, listed) if post]


def delete(connection: Connection, post_id: str) -> None:
    """Take a post back. Raises Gone for one that is not there, else Permanent, Throttled or Silent: Postiz may answer
    500 for one that is gone, so the list decides."""
    response = http.ask(connection, "DELETE", f"/posts/{post_id}")
    if response.status_code == 404:
        raise Gone("the provider knows no such post")
    http.check_answered(response, _refusal)


def ours(found: Sequence[Post], publication: str, wanted: Sequence[Draft], publish_at: float) -> Iterator[Post]:
    """Those of the posts that may be the wanted ones of a publication, by the marker where the list has it; else by
    channel, text and time."""
    for draft in wanted:
        for post in found:
            if post.channel != draft.channel:
                continue
            alike = plain(post.content) == plain(draft.content) and abs(post.publish_at - publish_at) <= SAME_TIME_S
            if post.publication == publication or (not post.marked and alike):
                yield post


def plain(content: str) -> str:
    """A post's text without what Postiz makes of it: it keeps HTML."""
    return " ".join(unescape(TAG.sub(" ", content)).split())


def _channel(entry: Any) -> Channel | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    customer = entry.get("customer")
    picture = entry.get("picture")
    return Channel(
        id=entry["id"],
        name=str(entry.get("name") or ""),
        platform=str(entry.get("identifier") or ""),
        picture=picture if reading.is_url(picture) else None,
        disabled=bool(entry.get("disabled")),
        owner=str(customer.get("name") or "") if isinstance(customer, dict) else None,
    )


def _post(entry: Any) -> Post | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    integration = entry.get("integration")
    state = POSTIZ_STATES.get(str(entry.get("state")))
    publish_at = _seconds(entry.get("publishDate"))
    if not isinstance(integration, dict) or state is None or publish_at is None:
        return None
    told = reading.loads(entry.get("settings"))
    url = entry.get("releaseURL")
    return Post(
        id=entry["id"],
        channel=str(integration.get("id")),
        content=str(entry.get("content") or ""),
        publish_at=publish_at,
        state=state,
        url=url if reading.is_url(url) else None,
        publication=str(told[MARKER]) if isinstance(told, dict) and MARKER in told else None,
        marked=isinstance(told, dict),
    )


def _seconds(value: Any) -> float | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _refusal(response: httpx.Response) -> ProviderError:
    """The error of a 4xx answer: NestJS's `{"statusCode", "message": text or list, "error"}`, or `{"msg"}`."""
    told = http.document(response) or {}
    message = told.get("message") or told.get("msg")
    text = "; ".join(map(str, message)) if isinstance(message, list) else message
    detail = http.detail(text, f"status {response.status_code}")
    match response.status_code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 402:
            return OperatorNeeded("the provider's plan does not allow it")
        case 429:
            return Throttled(detail, retry_after=http.retry_after(response))
    return InvalidInput(detail)
