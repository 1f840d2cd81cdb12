"""Postiz on the documented wire format, behind an injected transport."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.core.clock import iso
from shared.providers import http
from shared.providers.outcomes import (
    Ambiguous,
    Gone,
    InvalidInput,
    KeyRefused,
    OperatorNeeded,
    ProviderError,
    Silent,
    Throttled,
    Unreachable,
)
from shared.publishing import postiz
from shared.publishing.postiz import Draft, Media, Post

KEY = "a-very-secret-postiz-key"
AT = 1793527200.0  # 2026-11-01T10:00:00Z
MEDIA = Media("e639", "https://uploads.postiz.com/image.png")
DRAFT = Draft("int-1", "x", "Hello <b>you</b>", {"who_can_reply_post": "everyone"})
LISTED: dict[str, Any] = {
    "id": "post-123",
    "content": "<p>Hello you</p>",
    "publishDate": "2026-11-01T10:00:00.000Z",
    "releaseURL": None,
    "state": "QUEUE",
    "integration": {"id": "int-1", "providerIdentifier": "x", "name": "Me", "picture": "https://p.example/p.png"},
}


def connect(handler: Callable[[httpx.Request], httpx.Response]) -> http.Connection:
    transport = httpx.MockTransport(handler)
    return http.connect("https://api.postiz.com/public/v1", {"authorization": KEY}, timeout=5, transport=transport)


def answering(body: Any, *, status: int = 200, seen: list[httpx.Request] | None = None, **more: Any) -> http.Connection:
    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, json=body, **more)

    return connect(answer)


def create(connection: http.Connection) -> dict[str, str]:
    return postiz.create(connection, "pub_1", [DRAFT], mode="schedule", publish_at=AT, media=MEDIA)


def test_a_post_is_created_as_documented_with_our_marker_in_its_settings() -> None:
    seen: list[httpx.Request] = []

    made = create(answering([{"postId": "post-123", "integration": "int-1"}], status=201, seen=seen))

    (request,) = seen
    assert made == {"int-1": "post-123"}
    assert (request.method, str(request.url)) == ("POST", "https://api.postiz.com/public/v1/posts")
    assert request.headers["authorization"] == KEY, "without a scheme"
    assert json.loads(request.content) == {
        "type": "schedule",
        "date": "2026-11-01T10:00:00.000Z",
        "shortLink": False,
        "tags": [],
        "posts": [
            {
                "integration": {"id": "int-1"},
                "value": [
                    {
                        "content": "Hello <b>you</b>",
                        "image": [{"id": "e639", "path": "https://uploads.postiz.com/image.png"}],
                    }
                ],
                "settings": {"who_can_reply_post": "everyone", "__type": "x", "atelier_publication": "pub_1"},
            }
        ],
    }


def test_nobody_can_set_the_marker_of_another_publication() -> None:
    seen: list[httpx.Request] = []
    forged = Draft("int-1", "x", "Hello", {"atelier_publication": "pub_of_somebody", "__type": "y"})
    connection = answering([{"postId": "p", "integration": "int-1"}], seen=seen)

    postiz.create(connection, "pub_1", [forged], mode="now", publish_at=AT, media=MEDIA)

    settings = json.loads(seen[0].content)["posts"][0]["settings"]
    assert settings == {"atelier_publication": "pub_1", "__type": "x"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (400, {"statusCode": 400, "message": ["tags must be an array", "date"]}, {}, InvalidInput),
        (401, {"msg": "Invalid API key"}, {}, KeyRefused),
        (403, {}, {}, KeyRefused),
        (402, {}, {}, OperatorNeeded),
        (404, {}, {}, InvalidInput),
        (413, {}, {}, InvalidInput),
        (429, {"message": "ThrottlerException: Too Many Requests"}, {"retry-after": "90"}, Throttled),
        (408, {}, {}, Ambiguous),
        (500, {"message": "Internal server error"}, {}, Ambiguous),
        (502, "<html>", {}, Ambiguous),
        (302, {}, {"location": "https://elsewhere.example"}, Ambiguous),
        (200, [], {}, Ambiguous),
        (200, {"postId": "post-123"}, {}, Ambiguous),
        (200, [{"postId": "p", "integration": "another"}], {}, Ambiguous),
    ],
)
def test_every_answer_to_a_create_says_whether_something_may_have_been_created(
    status: int, body: Any, headers: dict[str, str], expected: type[ProviderError]
) -> None:
    with pytest.raises(ProviderError) as raised:
        create(answering(body, status=status, headers=headers))

    assert type(raised.value) is expected
    assert KEY not in raised.value.detail


def test_a_refusal_is_told_in_postizs_words() -> None:
    with pytest.raises(InvalidInput) as raised:
        create(answering({"message": ["tags must be an array", "date must be a date"]}, status=400))

    assert raised.value.detail == "tags must be an array; date must be a date"


def test_a_throttled_create_says_for_how_long() -> None:
    with pytest.raises(Throttled) as raised:
        create(answering({}, status=429, headers={"retry-after": "90"}))

    assert raised.value.retry_after == 90


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), Unreachable),
        (httpx.ReadTimeout("slow"), Ambiguous),
        (httpx.RemoteProtocolError("dropped"), Ambiguous),
    ],
)
def test_a_lost_answer_is_ambiguous_and_a_lost_connection_is_not(
    error: httpx.TransportError, expected: type[ProviderError]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(expected):
        create(connect(fail))


class Counted(io.BytesIO):
    """A file that notes how much is asked of it at once."""

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))
        self.largest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def test_an_upload_is_a_multipart_form_that_is_read_in_small_pieces() -> None:
    seen: list[httpx.Request] = []
    file = Counted(5_000_000)
    told = {"id": "e639", "name": "image.png", "path": "https://uploads.postiz.com/image.png", "organizationId": "o"}

    media = postiz.upload(answering(told, status=201, seen=seen), file, "as_1.mp4", "video/mp4")

    (request,) = seen
    head = request.content[:300].decode(errors="replace")
    assert media == MEDIA
    assert str(request.url).endswith("/public/v1/upload")
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert 'form-data; name="file"; filename="as_1.mp4"' in head
    assert "Content-Type: video/mp4" in head
    assert int(request.headers["content-length"]) == len(request.content) > 5_000_000
    assert file.largest <= 65_536


@pytest.mark.parametrize("answer", [{}, {"id": "e639"}, {"path": 5, "id": "x"}, []])
def test_an_upload_without_a_file_in_its_answer_may_be_repeated(answer: Any) -> None:
    with pytest.raises(Silent):
        postiz.upload(answering(answer), io.BytesIO(b"x"), "as_1.png", "image/png")


def test_channels_are_read_with_whom_they_were_given_to() -> None:
    told = [
        {"id": "int-1", "name": "Me", "identifier": "x", "picture": "https://p.example/p.png", "disabled": False},
        {
            "id": "int-2",
            "name": "A",
            "identifier": "tiktok",
            "disabled": True,
            "customer": {"id": "c", "name": "alice"},
        },
        {"name": "without an id"},
        "nonsense",
    ]

    found = postiz.channels(answering(told))

    assert [(one.id, one.platform, one.disabled, one.owner) for one in found] == [
        ("int-1", "x", False, None),
        ("int-2", "tiktok", True, "alice"),
    ]


def test_posts_are_asked_for_by_a_window_of_time() -> None:
    seen: list[httpx.Request] = []

    found = postiz.posts(answering({"posts": [LISTED]}, seen=seen), AT - 60, AT + 60)

    assert dict(seen[0].url.params) == {"startDate": iso(AT - 60), "endDate": iso(AT + 60)}
    assert found == [Post("post-123", "int-1", "<p>Hello you</p>", AT, "queued", None, None, marked=False)]


@pytest.mark.parametrize(
    ("changes", "state", "url"),
    [
        ({"state": "PUBLISHED", "releaseURL": "https://x.com/me/1"}, "published", "https://x.com/me/1"),
        ({"state": "ERROR"}, "error", None),
        ({"state": "DRAFT"}, "draft", None),
        ({"state": "PUBLISHED", "releaseURL": "javascript:alert(1)"}, "published", None),
    ],
)
def test_a_post_tells_its_state_and_its_public_url(changes: dict[str, Any], state: str, url: str | None) -> None:
    (post,) = postiz.posts(answering({"posts": [LISTED | changes]}), AT, AT)

    assert (post.state, post.url) == (state, url)


@pytest.mark.parametrize(
    "entry",
    [None, [], {}, LISTED | {"state": "?"}, LISTED | {"publishDate": "soon"}, LISTED | {"integration": None}],
)
def test_what_is_no_post_is_left_out(entry: Any) -> None:
    assert postiz.posts(answering({"posts": [entry]}), AT, AT) == []


@pytest.mark.parametrize(("status", "body"), [(200, {}), (200, []), (500, {}), (502, "x")])
def test_a_list_that_is_none_is_asked_for_again(status: int, body: Any) -> None:
    with pytest.raises(Silent):
        postiz.posts(answering(body, status=status), AT, AT)


def found(**changes: Any) -> list[Post]:
    return postiz.posts(answering({"posts": [LISTED | changes]}), AT, AT)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"settings": json.dumps({"__type": "x", "atelier_publication": "pub_1"})}, True),
        ({"settings": {"atelier_publication": "pub_1"}, "content": "edited since"}, True),
        ({"settings": json.dumps({"__type": "x", "atelier_publication": "pub_2"})}, False),
        ({"settings": json.dumps({"__type": "x"})}, False),
        ({}, True),
        ({"content": "Hello&nbsp;you"}, True),
        ({"publishDate": "2026-11-01T10:01:59Z"}, True),
        ({"publishDate": "2026-11-01T10:03:00Z"}, False),
        ({"content": "Something else"}, False),
        ({"integration": {"id": "int-2"}}, False),
        ({"integration": {"id": "int-2"}, "settings": {"atelier_publication": "pub_1"}}, False),
    ],
)
def test_our_post_is_told_by_its_marker_or_else_by_channel_text_and_time(
    changes: dict[str, Any], expected: bool
) -> None:
    assert bool(list(postiz.ours(found(**changes), "pub_1", [DRAFT], AT))) is expected


def test_a_post_is_taken_back_by_its_id() -> None:
    seen: list[httpx.Request] = []

    postiz.delete(answering({"id": "post-123"}, seen=seen), "post-123")

    assert (seen[0].method, seen[0].url.path) == ("DELETE", "/public/v1/posts/post-123")


@pytest.mark.parametrize(("status", "expected"), [(404, Gone), (500, Silent), (429, Throttled), (401, KeyRefused)])
def test_a_delete_that_is_refused_says_whether_the_post_is_gone(status: int, expected: type[ProviderError]) -> None:
    with pytest.raises(expected):
        postiz.delete(answering({}, status=status), "post-123")
