"""The files a job is given: really fetched, as a provider would, or the job fails."""

import asyncio
import base64
import binascii
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local.simulator.delivery import to_emulator
from local.simulator.recordings import Probe
from local.simulator.studio import Studio

WITHIN_S = 60.0
LARGEST = 2 * 1024**3
MOST_REDIRECTS = 3


class Unreachable(Exception):
    """An input that cannot be fetched or read; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Given:
    """One input file. `probe` is None when it holds neither pictures nor sound."""

    field: str
    size: int
    probe: Probe | None


def urls(document: object, field: str = "") -> Iterator[tuple[str, str]]:
    """The URLs in an input with the names of their fields; a list gives its own name to all."""
    if isinstance(document, str):
        if document.startswith(("http://", "https://", "data:")) and not any(map(str.isspace, document)):
            yield field, document
    elif isinstance(document, dict):
        for name, value in document.items():
            yield from urls(value, str(name))
    elif isinstance(document, list):
        for value in document:
            yield from urls(value, field)


class Fetcher:
    """Fetches over `client`; URLs of the AWS emulator's S3 may be in the form AWS uses."""

    def __init__(self, client: httpx.AsyncClient, studio: Studio, *, endpoint: str) -> None:
        self._client = client
        self._studio = studio
        self._endpoint = httpx.URL(endpoint)

    async def all(self, given: dict[str, Any]) -> dict[str, Given]:
        """Every input file by field, the first of a list. Raises Unreachable."""
        found: dict[str, Given] = {}
        for field, url in urls(given):
            file = await self.fetch(field, url)
            found.setdefault(field, file)
        return found

    async def fetch(self, field: str, url: str) -> Given:
        with tempfile.TemporaryDirectory(prefix="simulator-") as folder:
            path = Path(folder) / "input"
            if url.startswith("data:"):
                path.write_bytes(_decoded(field, url))
            else:
                await self._download(field, url, path)
            return Given(field, path.stat().st_size, await self._studio.probe(path))

    async def _download(self, field: str, url: str, path: Path) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._stream(field, httpx.URL(url), path)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as failure:
            raise Unreachable(field, f"cannot fetch {field}: {type(failure).__name__}") from failure

    async def _stream(self, field: str, url: httpx.URL, path: Path) -> None:
        for _ in range(MOST_REDIRECTS + 1):
            to, host = to_emulator(url, self._endpoint)
            async with self._client.stream("GET", to, headers={"host": host}) as answer:
                if answer.next_request is not None:
                    url = url.join(answer.headers["location"])
                    continue
                if answer.status_code != 200:
                    raise Unreachable(field, f"cannot fetch {field}: HTTP {answer.status_code}")
                with path.open("wb") as file:
                    async for chunk in answer.aiter_bytes():
                        file.write(chunk)
                        if file.tell() > LARGEST:
                            raise Unreachable(field, f"cannot fetch {field}: too large")
                return
        raise Unreachable(field, f"cannot fetch {field}: too many redirects")


def _decoded(field: str, url: str) -> bytes:
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise Unreachable(field, f"cannot read {field}: not base64")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise Unreachable(field, f"cannot read {field}: not base64") from None
