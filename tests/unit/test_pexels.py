"""Pexels on the documented wire format, behind an injected transport."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.providers import http
from shared.providers.outcomes import Gone, InvalidInput, KeyRefused, ProviderError, Silent, Throttled
from shared.stock import pexels
from shared.stock.pexels import Allowance, Found, Rendition, StockItem

KEY = "563492ad6f91700001000001"
HEADERS = {"X-Ratelimit-Limit": "20000", "X-Ratelimit-Remaining": "19684", "X-Ratelimit-Reset": "1590529646"}
PHOTO: dict[str, Any] = {
    "id": 2014422,
    "width": 3024,
    "height": 4032,
    "url": "https://www.pexels.com/photo/brown-rocks-during-golden-hour-2014422/",
    "photographer": "Joey Farina",
    "photographer_url": "https://www.pexels.com/@joey",
    "photographer_id": 680589,
    "avg_color": "#978E82",
    "src": {
        "original": "https://images.pexels.com/photos/2014422/pexels-photo-2014422.jpeg",
        "large2x": "https://images.pexels.com/photos/2014422/pexels-photo-2014422.jpeg?auto=compress&h=650&w=940&dpr=2",
        "medium": "https://images.pexels.com/photos/2014422/pexels-photo-2014422.jpeg?auto=compress&h=350",
        "tiny": "https://images.pexels.com/photos/2014422/pexels-photo-2014422.jpeg?auto=compress&h=200&w=280",
    },
    "liked": False,
    "alt": "Brown Rocks During Golden Hour",
}
VIDEO: dict[str, Any] = {
    "id": 1448735,
    "width": 4096,
    "height": 2160,
    "url": "https://www.pexels.com/video/video-of-forest-1448735/",
    "image": "https://images.pexels.com/videos/1448735/free-video-1448735.jpg?fit=crop&w=1200&h=630",
    "duration": 32,
    "user": {"id": 574687, "name": "Ruvim Miksanskiy", "url": "https://www.pexels.com/@digitech"},
    "video_files": [
        {"id": 1, "quality": "sd", "file_type": "video/mp4", "width": 960, "height": 506, "fps": 23.98, "link": "https://player.vimeo.com/1.sd.mp4"},
        {"id": 2, "quality": "hd", "file_type": "video/mp4", "width": 2048, "height": 1080, "fps": 23.98, "link": "https://player.vimeo.com/1.hd.mp4"},
        {"id": 3, "quality": "hls", "file_type": "video/mp4", "width": None, "height": None, "link": "https://player.vimeo.com/1.m3u8"},
        {"id": 4, "quality": None, "file_type": "application/x-mpegURL", "link": "https://player.vimeo.com/2.m3u8"},
    ],
    "video_pictures": [{"id": 133236, "picture": "https://static-videos.pexels.com/1.jpg", "nr": 0}],
}  # fmt: skip


def connect(handler: Callable[[httpx.Request], httpx.Response]) -> http.Connection:
    transport = httpx.MockTransport(handler)
    return http.connect("https://api.pexels.com", {"authorization": KEY}, timeout=5, transport=transport)


def answering(
    body: Any, *, status: int = 200, headers: dict[str, str] | None = None, seen: list[httpx.Request] | None = None
) -> http.Connection:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(status, json=body, headers=headers or {})

    return connect(answer)


def photos(body: Any, **more: Any) -> tuple[Found, Allowance]:
    return pexels.search(answering(body, **more), "photo", "rocks", orientation=None, page=1, per_page=20)


def test_photos_are_searched_as_documented() -> None:
    seen: list[httpx.Request] = []
    body = {
        "total_results": 10_000,
        "page": 2,
        "per_page": 1,
        "photos": [PHOTO],
        "next_page": "https://api.pexels.com/",
    }
    connection = answering(body, headers=HEADERS, seen=seen)

    found, left = pexels.search(connection, "photo", "rocks", orientation="portrait", page=2, per_page=1)

    assert (seen[0].url.path, seen[0].headers["authorization"]) == ("/v1/search", KEY)
    assert dict(seen[0].url.params) == {"query": "rocks", "page": "2", "per_page": "1", "orientation": "portrait"}
    assert left == Allowance(19684, 1590529646)
    assert (found.total, found.more) == (10_000, True)
    (photo,) = found.items
    assert (photo.id, photo.kind, photo.width, photo.height) == ("photo-2014422", "photo", 3024, 4032)
    assert (photo.title, photo.duration_s) == ("Brown Rocks During Golden Hour", None)
    assert photo.preview_url == PHOTO["src"]["medium"]
    assert photo.attribution == {
        "provider": "Pexels",
        "id": "photo-2014422",
        "author": "Joey Farina",
        "author_url": "https://www.pexels.com/@joey",
        "page_url": PHOTO["url"],
        "text": "Photo by Joey Farina on Pexels",
    }


def test_videos_are_searched_as_documented() -> None:
    seen: list[httpx.Request] = []
    body = {"page": 1, "per_page": 20, "total_results": 1, "url": "https://www.pexels.com/videos/", "videos": [VIDEO]}
    connection = answering(body, seen=seen)

    found, left = pexels.search(connection, "video", "forest", orientation=None, page=1, per_page=20)

    assert seen[0].url.path == "/v1/videos/search"
    assert left == Allowance()
    assert not found.more
    (video,) = found.items
    assert (video.id, video.title, video.duration_s) == ("video-1448735", "video of forest", 32)
    assert video.attribution["text"] == "Video by Ruvim Miksanskiy on Pexels"
    assert [one.width for one in video.renditions] == [2048, 960, None]


@pytest.mark.parametrize(
    ("kind", "body", "path"), [("photo", PHOTO, "/v1/photos/7"), ("video", VIDEO, "/v1/videos/videos/7")]
)
def test_one_is_asked_for_by_its_number(kind: Any, body: Any, path: str) -> None:
    seen: list[httpx.Request] = []

    item, left = pexels.one(answering(body, headers=HEADERS, seen=seen), kind, "7")

    assert seen[0].url.path == path
    assert (item.kind, left.remaining) == (kind, 19684)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidInput),
        (401, KeyRefused),
        (403, KeyRefused),
        (404, Gone),
        (429, Throttled),
        (500, Silent),
        (503, Silent),
        (302, Silent),
    ],
)
def test_every_refusal_has_its_class(status: int, expected: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as raised:
        photos({"status": status, "code": "no"}, status=status)

    assert type(raised.value) is expected


@pytest.mark.parametrize("body", [{}, {"photos": None}, [], "text", {"videos": []}])
def test_an_answer_that_is_no_list_is_asked_for_again(body: Any) -> None:
    with pytest.raises(Silent):
        photos(body)


@pytest.mark.parametrize("entry", [None, {}, PHOTO | {"id": "x"}, PHOTO | {"url": "javascript:1"}, []])
def test_what_is_no_photo_is_left_out(entry: Any) -> None:
    found, _ = photos({"photos": [entry, PHOTO], "total_results": "2"})

    assert ([item.id for item in found.items], found.total) == (["photo-2014422"], 2)


@pytest.mark.parametrize("headers", [{"X-Ratelimit-Remaining": "many"}, {"X-Ratelimit-Remaining": "-1"}, {}])
def test_an_allowance_that_is_not_told_is_none(headers: dict[str, str]) -> None:
    assert photos({"photos": []}, headers=headers)[1] == Allowance()


def test_what_is_remembered_is_what_was_found() -> None:
    found, _ = photos({"photos": [PHOTO]})

    assert Found.of(json.loads(json.dumps(found.document()))) == found


def item(body: dict[str, Any], kind: Any) -> StockItem:
    return pexels.one(answering(body), kind, "1")[0]


@pytest.mark.parametrize(
    ("longest", "name"), [(4096, "1.hd.mp4"), (2048, "1.hd.mp4"), (1920, "1.sd.mp4"), (240, "1.sd.mp4")]
)
def test_the_largest_video_that_fits_is_chosen_else_the_smallest(longest: int, name: str) -> None:
    chosen = pexels.chosen(item(VIDEO, "video"), longest)

    assert chosen is not None
    assert chosen.url.endswith(name)


@pytest.mark.parametrize(("longest", "name"), [(8000, "original"), (4032, "original"), (1920, "large2x")])
def test_a_photo_is_taken_as_it_is_where_it_fits_and_else_in_the_size_that_pexels_makes(
    longest: int, name: str
) -> None:
    chosen = pexels.chosen(item(PHOTO, "photo"), longest)

    assert chosen == Rendition(name, PHOTO["src"][name], *((3024, 4032) if name == "original" else ()))


def test_what_has_no_file_has_none_to_choose() -> None:
    assert pexels.chosen(item(VIDEO | {"video_files": []}, "video"), 1920) is None
    assert pexels.chosen(item(PHOTO | {"src": {}}, "photo"), 1920) is None
