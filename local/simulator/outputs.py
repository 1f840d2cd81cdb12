"""The files that finished jobs point at, served with the fault their directive asks for. No provider asks for a key."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from local.simulator.directives import Fault, OutputFault
from local.simulator.media import Picture, render
from local.simulator.server import close_after_sending

REMEMBERED = 20_000
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
WRONG_PAGE = "<!doctype html><title>Sign in</title><p>Please sign in to see this file.</p>"
PNG_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x03\x00\x00\x00\x03\x00\x08\x02\x00\x00\x00"
CHUNK = 64 * 1024
ENDLESS = 2 * 1024**3
SINGLE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Output:
    """One file: what it shows, where it is (`path` under /delivery/), and how often it was fetched."""

    path: str
    picture: Picture
    fault: Fault[OutputFault]
    downloads: int = 0


class Outputs:
    """The newest output files by path."""

    def __init__(self) -> None:
        self._files: dict[str, Output] = {}
        self.routes = [Route("/delivery/{path:path}", self._serve, methods=["GET"])]

    def publish(self, path: str, picture: Picture, fault: Fault[OutputFault]) -> Output:
        output = Output(path, picture, fault)
        self._files[path] = output
        if len(self._files) > REMEMBERED:
            del self._files[next(iter(self._files))]
        return output

    async def _serve(self, request: Request) -> Response:
        output = self._files.get(request.path_params["path"])
        if output is None:
            return _missing()
        if request.method == "HEAD":
            return await _whole(output)
        output.downloads += 1
        match output.fault.strike():
            case "404":
                return _missing()
            case "truncated":
                return await _truncated(request, output)
            case "wrong-type":
                return HTMLResponse(WRONG_PAGE, media_type=output.picture.content_type)
            case "too-big":
                return StreamingResponse(_endless(), media_type="image/png")
            case "redirect-private":
                return RedirectResponse(METADATA_SERVICE, status_code=302)
            case _:
                return await _whole(output, request.headers.get("range"))


def _missing() -> Response:
    return JSONResponse({"detail": "Not found."}, status_code=404)


async def _whole(output: Output, wanted: str | None = None) -> Response:
    """The file, or the one range of bytes that was asked for."""
    content = await asyncio.to_thread(render, output.picture)
    headers = {"accept-ranges": "bytes"}
    match = SINGLE_RANGE.fullmatch(wanted or "")
    if match is None or match.groups() == ("", ""):
        return Response(content, media_type=output.picture.content_type, headers=headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= stop:
        return Response(status_code=416, headers={"content-range": f"bytes */{len(content)}"})
    headers["content-range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Response(content[start:stop], 206, media_type=output.picture.content_type, headers=headers)


async def _truncated(request: Request, output: Output) -> Response:
    """Announce the whole length, send half, and close."""
    content = await asyncio.to_thread(render, output.picture)

    async def half() -> AsyncIterator[bytes]:
        yield content[: len(content) // 2]
        await close_after_sending(request)

    return StreamingResponse(
        half(), media_type=output.picture.content_type, headers={"content-length": str(len(content))}
    )


async def _endless() -> AsyncIterator[bytes]:
    yield PNG_HEADER
    for _ in range(ENDLESS // CHUNK):
        yield bytes(CHUNK)
        # Once the client has gone, sending no longer waits, and nothing else would let the server notice.
        await asyncio.sleep(0)
