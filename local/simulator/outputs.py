"""The files that finished jobs point at, served with the fault their directive asks for. No provider asks for a key."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from local.simulator.content import CHUNK, Content, content
from local.simulator.directives import Directives, Fault, OutputFault
from local.simulator.recordings import Recipe
from local.simulator.server import close_after_sending
from local.simulator.studio import Studio

REMEMBERED = 20_000
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
WRONG_PAGE = "<!doctype html><title>Sign in</title><p>Please sign in to see this file.</p>"
ENDLESS = 2 * 1024**3
SINGLE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# Faults of the file; the others are faults of what a job says about its files.
FILE_FAULTS = {"404", "403", "truncated", "wrong-type", "too-big", "redirect-private"}


@dataclass(slots=True)
class Output:
    """One file: what it shows, where it is (`path` under /delivery/), and how often it was fetched."""

    path: str
    recipe: Recipe
    fault: Fault[OutputFault]
    size: int | None = None
    downloads: int = 0


class Outputs:
    """The newest output files by path."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._files: dict[str, Output] = {}
        self.routes = [Route("/delivery/{path:path}", self._serve, methods=["GET"])]

    def publish(self, path: str, recipe: Recipe, directives: Directives) -> Output:
        kind: OutputFault = directives.output if directives.output in FILE_FAULTS else "ok"
        output = Output(path, recipe, Fault(kind, directives.times), directives.bytes)
        self._files[path] = output
        if len(self._files) > REMEMBERED:
            del self._files[next(iter(self._files))]
        return output

    async def _serve(self, request: Request) -> Response:
        output = self._files.get(request.path_params["path"])
        if output is None:
            return _missing()
        if request.method != "HEAD":
            output.downloads += 1
            match output.fault.strike():
                case "404":
                    return _missing()
                case "403":
                    return JSONResponse({"detail": "Request has expired."}, status_code=403)
                case "redirect-private":
                    return RedirectResponse(METADATA_SERVICE, status_code=302)
                case "ok":
                    pass
                case fault:
                    return await faulty(request, await self._content(output), fault)
        return whole(await self._content(output), request)

    async def _content(self, output: Output) -> Content:
        return content(await self._studio.make(output.recipe), output.recipe.content_type, output.size)


def _missing() -> Response:
    return JSONResponse({"detail": "Not found."}, status_code=404)


def whole(found: Content, request: Request) -> Response:
    """The file, or the one range of bytes that was asked for."""
    headers = {"accept-ranges": "bytes"}
    start, stop, status_code = 0, found.size, 200
    match = SINGLE_RANGE.fullmatch(request.headers.get("range", ""))
    if match is not None and match.groups() != ("", ""):
        first, last = match.groups()
        start = int(first) if first else max(0, found.size - int(last))
        stop = min(int(last) + 1, found.size) if first and last else found.size
        if start >= stop:
            return Response(status_code=416, headers={"content-range": f"bytes */{found.size}"})
        headers["content-range"] = f"bytes {start}-{stop - 1}/{found.size}"
        status_code = 206
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=found.media_type)
    if stop - start <= CHUNK or found.size == len(found.made):
        return Response(found.made[start:stop].ljust(stop - start, b"\0"), status_code, headers, found.media_type)
    return StreamingResponse(flowing(found, start, stop), status_code, headers, found.media_type)


async def faulty(request: Request, found: Content, fault: str) -> Response:
    """The answer that carries a file and goes wrong on the way."""
    match fault:
        case "truncated":
            return _truncated(request, found)
        case "wrong-type":
            return HTMLResponse(WRONG_PAGE, media_type=found.media_type)
        case "empty":
            return Response(media_type=found.media_type)
        case "too-big":
            return StreamingResponse(_endless(found), media_type=found.media_type)
        case _:
            raise AssertionError(f"not a fault of a file: {fault}")


async def flowing(found: Content, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
    for piece in found.slices(start, stop):
        yield piece
        # Once the client has gone, sending no longer waits, and nothing else would let the server notice.
        await asyncio.sleep(0)


def _truncated(request: Request, found: Content) -> Response:
    """Announce the whole length, send half, and close."""

    async def half() -> AsyncIterator[bytes]:
        async for piece in flowing(found, 0, found.size // 2):
            yield piece
        await close_after_sending(request)

    return StreamingResponse(half(), headers={"content-length": str(found.size)}, media_type=found.media_type)


async def _endless(found: Content) -> AsyncIterator[bytes]:
    yield found.made
    for _ in range(ENDLESS // CHUNK):
        yield bytes(CHUNK)
        await asyncio.sleep(0)
