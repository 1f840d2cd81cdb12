"""Pexels: photos and videos that anybody may use. Wire format: pexels.com/api/documentation.

Every good answer says how many requests are left and until when they count (`x-ratelimit-*`); a 429 says neither.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal
from urllib.parse import quote

import httpx

from shared.core.settings import settings
from shared.providers import http, reading
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Gone,
    InvalidInput,
    KeyRefused,
    ProviderError,
    Silent,
    Throttled,
)

Kind = Literal["photo", "video"]
Orientation = Literal["landscape", "portrait", "square"]

SEARCH: Mapping[Kind, str] = {"photo": "/v1/search", "video": "/v1/videos/search"}
# The second "videos" is no slip of ours.
ONE: Mapping[Kind, str] = {"photo": "/v1/photos/", "video": "/v1/videos/videos/"}
LISTED: Mapping[Kind, str] = {"photo": "photos", "video": "videos"}
PHOTO_SIZES = ("original", "large2x", "large", "medium")
NAME = "Pexels"


@dataclass(frozen=True)
class Rendition:
    """One file of an item; sizes are pixels, None where Pexels does not tell."""

    name: str
    url: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class StockItem:
    """A photo or a video; `page_url` is where it is at home, which is to be linked to."""

    id: str
    kind: Kind
    title: str
    width: int
    height: int
    duration_s: float | None
    preview_url: str | None
    page_url: str
    author: str
    author_url: str | None
    renditions: tuple[Rendition, ...] = field(default=())

    @staticmethod
    def of(told: Mapping[str, Any]) -> "StockItem":
        """From what `asdict` has made of one."""
        return StockItem(**{**told, "renditions": tuple(Rendition(**one) for one in told["renditions"])})

    @property
    def attribution(self) -> dict[str, str]:
        """Who made it and where it is from, to be kept with every copy; a text that may be shown as it is."""
        what = "Photo" if self.kind == "photo" else "Video"
        told = {
            "provider": NAME,
            "id": self.id,
            "author": self.author,
            "author_url": self.author_url or "",
            "page_url": self.page_url,
            "text": f"{what} by {self.author} on {NAME}",
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True)
class Found:
    """A page of a search; `total` is what Pexels says there is in all."""

    items: tuple[StockItem, ...]
    total: int
    more: bool

    @staticmethod
    def of(told: Mapping[str, Any]) -> "Found":
        """From what `asdict` has made of one."""
        return Found(tuple(StockItem.of(item) for item in told["items"]), told["total"], told["more"])

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Allowance:
    """How many requests are left until `reset_at` (epoch seconds); None where an answer does not say."""

    remaining: int | None = None
    reset_at: float | None = None


@cache
def connection(key: str) -> Connection:
    """The connection that a key opens, kept by this process. The key stands alone, without a scheme."""
    base_url = settings().base_urls["pexels"]
    return http.connect(base_url, {"authorization": key}, timeout=settings().provider_timeout)


def search(
    connection: Connection, kind: Kind, query: str, *, orientation: Orientation | None, page: int, per_page: int
) -> tuple[Found, Allowance]:
    """One page. Raises Permanent, Throttled or Silent."""
    params: dict[str, str | int] = {"query": query, "page": page, "per_page": per_page}
    if orientation:
        params["orientation"] = orientation
    response = http.ask(connection, "GET", SEARCH[kind], params=params)
    http.check_answered(response, _refusal)
    told = http.document(response) or {}
    listed = told.get(LISTED[kind])
    if not isinstance(listed, list):
        raise Silent("the provider answered with no list")
    items = tuple(item for item in (_item(kind, entry) for entry in listed) if item)
    found = Found(items, int(reading.number(told.get("total_results")) or 0), bool(told.get("next_page")))
    return found, _allowance(response)


def one(connection: Connection, kind: Kind, number: str) -> tuple[StockItem, Allowance]:
    """A photo or a video by its number. Raises Gone for one that there is not, else as `search`."""
    response = http.ask(connection, "GET", ONE[kind] + quote(number, safe=""))
    http.check_answered(response, _refusal)
    item = _item(kind, http.document(response))
    if item is None:
        raise Silent("the provider answered with something else")
    return item, _allowance(response)


def _item(kind: Kind, entry: Any) -> StockItem | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or not reading.is_url(entry.get("url")):
        return None
    return _photo(entry) if kind == "photo" else _video(entry)


def _photo(entry: dict[str, Any]) -> StockItem:
    sizes = _object(entry.get("src"))
    width, height = _pixels(entry.get("width")), _pixels(entry.get("height"))
    renditions = tuple(
        Rendition(name, sizes[name], *((width, height) if name == "original" else (None, None)))
        for name in PHOTO_SIZES
        if reading.is_url(sizes.get(name))
    )
    preview = sizes.get("medium")
    return StockItem(
        id=f"photo-{entry['id']}",
        kind="photo",
        title=_line(entry.get("alt")),
        width=width or 0,
        height=height or 0,
        duration_s=None,
        preview_url=preview if reading.is_url(preview) else None,
        page_url=entry["url"],
        author=_line(entry.get("photographer")),
        author_url=_url(entry.get("photographer_url")),
        renditions=renditions,
    )


def _video(entry: dict[str, Any]) -> StockItem:
    user = _object(entry.get("user"))
    files = [_object(one) for one in entry.get("video_files") or [] if reading.is_url(_object(one).get("link"))]
    # Streams (HLS) are no files, and have no type of one.
    renditions = (
        Rendition(_line(one.get("quality")) or "sd", one["link"], _pixels(one.get("width")), _pixels(one.get("height")))
        for one in files
        if one.get("file_type") == "video/mp4"
    )
    return StockItem(
        id=f"video-{entry['id']}",
        kind="video",
        title=_title(entry["url"]),
        width=_pixels(entry.get("width")) or 0,
        height=_pixels(entry.get("height")) or 0,
        duration_s=reading.number(entry.get("duration")),
        preview_url=_url(entry.get("image")),
        page_url=entry["url"],
        author=_line(user.get("name")),
        author_url=_url(user.get("url")),
        renditions=tuple(sorted(renditions, key=lambda one: -(one.width or 0) * (one.height or 0))),
    )


def chosen(item: StockItem, longest_side: int) -> Rendition | None:
    """The largest file whose longer side is at most so many pixels; the smallest if all are larger."""
    known = [one for one in item.renditions if one.width and one.height]
    fitting = [one for one in known if max(one.width or 0, one.height or 0) <= longest_side]
    if fitting:
        return max(fitting, key=_area)
    if item.kind == "photo":
        # Pexels makes these itself: never more than 1880 pixels.
        return next((one for one in item.renditions if one.name == "large2x"), None) or _first(item.renditions)
    return min(known, key=_area, default=_first(item.renditions))


def _area(rendition: Rendition) -> int:
    return (rendition.width or 0) * (rendition.height or 0)


def _first(renditions: tuple[Rendition, ...]) -> Rendition | None:
    return renditions[0] if renditions else None


def _title(url: str) -> str:
    """Videos have no title but in their address: `…/video/waves-on-a-beach-1409899/`."""
    words = url.rstrip("/").rpartition("/")[2].split("-")
    return _line(" ".join(words[:-1] if words[-1].isdigit() else words))


def _line(value: Any) -> str:
    return " ".join(str(value).split())[:300] if value else ""


def _url(value: Any) -> str | None:
    return value if reading.is_url(value) else None


def _pixels(value: Any) -> int | None:
    found = reading.number(value, most=100_000)
    return int(found) if found else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _allowance(response: httpx.Response) -> Allowance:
    remaining = reading.number(response.headers.get("x-ratelimit-remaining"))
    reset = reading.number(response.headers.get("x-ratelimit-reset"), most=1e11)
    return Allowance(None if remaining is None else int(remaining), reset)


def _refusal(response: httpx.Response) -> ProviderError:
    told = http.document(response) or {}
    detail = http.detail(told.get("error") or told.get("code"), f"status {response.status_code}")
    match response.status_code:
        case 401 | 403:
            return KeyRefused("the provider does not accept our key")
        case 404:
            return Gone(detail)
        case 429:
            return Throttled(detail, retry_after=http.retry_after(response))
    return InvalidInput(detail)
