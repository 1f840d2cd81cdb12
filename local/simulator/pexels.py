"""Pexels' API under /pexels: photos and videos that the simulator makes, found by any word.

The query steers it: `create=429`, `500`, `502html`, `refuse` or `hang` disturb the search, `output=` the files that it
leads to, `cost=5` says that so many requests are left. What is found depends only on the query and the page.

`GET /_sim/stock` tells tests how often what was asked: `{"searches": [{"path", "query", "page"}]}`.
"""

import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.simulator import directives
from local.simulator.api import Refused, application, go_wrong, origin
from local.simulator.calls import understood
from local.simulator.directives import Directives, Fault
from local.simulator.media import Picture
from local.simulator.outputs import Outputs
from local.simulator.recordings import Film

KEY_PREFIX = "pexels_"
TOTAL = 45
"""How many of each kind there are for every query."""
ALLOWANCE = 200
SECONDS = 2
ABILITIES = {
    "create": frozenset({"429", "500", "502html", "refuse", "hang"}),
    "output": frozenset({"404", "403", "truncated", "wrong-type", "too-big", "redirect-private"}),
    "cost": frozenset[str](),
}
SIZES = {"landscape": (1280, 720), "portrait": (720, 1280), "square": (960, 960)}
ANSWERS = {
    "401": lambda: Refused(401, {"status": 401, "code": "Unauthorized"}),
    "404": lambda: Refused(404, {"status": 404, "code": "Not Found"}),
    # Pexels sends its headers of the allowance with good answers only.
    "429": lambda: Refused(429, {"status": 429, "code": "Too Many Requests"}),
    "500": lambda: Refused(500, {"status": 500, "code": "Internal Server Error"}),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a number stands for, so that it can be asked for by itself."""

    caption: str
    width: int
    height: int
    asked: Directives


@dataclass(slots=True)
class Pexels:
    outputs: Outputs
    searches: list[dict[str, Any]] = field(default_factory=list)
    _seen: dict[int, Seen] = field(default_factory=dict)
    _faults: dict[str, Fault[str]] = field(default_factory=dict)

    def app(self) -> Starlette:
        return application(
            [],
            [
                ("/v1/search", "GET", self._photos),
                ("/v1/photos/{number:int}", "GET", self._one_photo),
                ("/v1/videos/search", "GET", self._videos),
                ("/v1/videos/videos/{number:int}", "GET", self._one_video),
            ],
            prefix=KEY_PREFIX,
            key=lambda request: request.headers.get("authorization", ""),
            answers=ANSWERS,
        )

    @property
    def routes(self) -> list[Route]:
        return [Route("/_sim/stock", self._inspect)]

    async def _inspect(self, _: Request) -> JSONResponse:
        return JSONResponse({"searches": self.searches})

    async def _photos(self, request: Request) -> Response:
        return await self._search(request, "photos", self._photo)

    async def _videos(self, request: Request) -> Response:
        return await self._search(request, "videos", self._video)

    async def _one_photo(self, request: Request) -> Response:
        return self._one(request, self._photo)

    async def _one_video(self, request: Request) -> Response:
        return self._one(request, self._video)

    async def _search(self, request: Request, listed: str, show: Any) -> Response:
        query = request.query_params.get("query", "")
        page, per_page = (int(request.query_params.get(name, usual)) for name, usual in (("page", 1), ("per_page", 15)))
        if not query or not 1 <= per_page <= 80:
            raise Refused(400, {"status": 400, "code": "Bad Request"})
        asked = understood(query, "Pexels", lambda message: Refused(400, {"status": 400, "error": message}), ABILITIES)
        self.searches.append({"path": request.url.path, "query": query, "page": page})
        fault = self._faults.setdefault(query, Fault(str(asked.create), asked.times)).strike()
        if fault != "ok":
            return await go_wrong(request, fault, ANSWERS)
        width, height = SIZES[request.query_params.get("orientation", "landscape")]
        first, last = (page - 1) * per_page, min(page * per_page, TOTAL)
        numbers = [zlib.crc32(f"{listed} {query} {width}".encode()) + number for number in range(first, last)]
        seen = Seen(directives.caption(query) or "stock", width, height, asked)
        self._seen.update(dict.fromkeys(numbers, seen))
        told = {
            "page": page,
            "per_page": per_page,
            "total_results": TOTAL,
            listed: [show(request, number) for number in numbers],
        }
        if last < TOTAL:
            told["next_page"] = f"{origin(request)}{request.url.path}?page={page + 1}&per_page={per_page}&query={query}"
        return JSONResponse(told, headers=_allowance(asked))

    def _one(self, request: Request, show: Any) -> Response:
        number = request.path_params["number"]
        if number not in self._seen:
            raise ANSWERS["404"]()
        return JSONResponse(show(request, number), headers=_allowance(self._seen[number].asked))

    def _photo(self, request: Request, number: int) -> dict[str, Any]:
        seen = self._seen[number]
        picture = Picture(seen.caption, number, 0, seen.width, seen.height, "jpg")
        file = self.outputs.publish(f"pexels/{number}.jpeg", picture, seen.asked)
        url = f"{origin(request)}/delivery/{file.path}"
        return {
            "id": number,
            "width": seen.width,
            "height": seen.height,
            "url": f"https://www.pexels.com/photo/{_slug(seen.caption)}-{number}/",
            "photographer": "Joey Farina",
            "photographer_url": "https://www.pexels.com/@joey",
            "photographer_id": 680589,
            "avg_color": "#978E82",
            "src": dict.fromkeys(
                ("original", "large2x", "large", "medium", "small", "portrait", "landscape", "tiny"), url
            ),
            "liked": False,
            "alt": seen.caption,
        }

    def _video(self, request: Request, number: int) -> dict[str, Any]:
        seen = self._seen[number]
        files = [
            self._film(request, number, seen, quality, divisor)
            for quality, divisor in (("hd", 1), ("sd", 2), ("sd", 4))
        ]
        stream = {"id": number, "quality": "hls", "file_type": "application/x-mpegURL", "width": None, "height": None}
        return {
            "id": number,
            "width": seen.width,
            "height": seen.height,
            "url": f"https://www.pexels.com/video/{_slug(seen.caption)}-{number}/",
            "image": f"https://images.pexels.com/videos/{number}/free-video-{number}.jpg",
            "duration": SECONDS,
            "user": {"id": 680589, "name": "Joey Farina", "url": "https://www.pexels.com/@joey"},
            "video_files": [*files, {**stream, "link": f"{origin(request)}/delivery/pexels/{number}.m3u8"}],
            "video_pictures": [],
        }

    def _film(self, request: Request, number: int, seen: Seen, quality: str, divisor: int) -> dict[str, Any]:
        width, height = (side // divisor // 2 * 2 for side in (seen.width, seen.height))
        film = Film(seen.caption, SECONDS, width, height, number)
        file = self.outputs.publish(f"pexels/{number}-{width}.mp4", film, seen.asked)
        return {
            "id": number + divisor,
            "quality": quality,
            "file_type": "video/mp4",
            "width": width,
            "height": height,
            "fps": 25.0,
            "link": f"{origin(request)}/delivery/{file.path}",
        }


def _allowance(asked: Directives) -> dict[str, str]:
    left = ALLOWANCE - 1 if asked.cost is None else int(asked.cost)
    return {
        "x-ratelimit-limit": str(ALLOWANCE),
        "x-ratelimit-remaining": str(left),
        "x-ratelimit-reset": str(int(time.time()) + 3600),
    }


def _slug(caption: str) -> str:
    return "-".join(caption.lower().split())[:60]
