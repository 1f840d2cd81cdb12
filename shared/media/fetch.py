"""Reading a URL that somebody else has given us.

Only where `core.addresses` lets us go, to the very address that it has checked; every redirect is checked again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from shared.core import addresses
from shared.core.addresses import Resolve, resolve

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
MOST_REDIRECTS = 3


class FetchError(Exception):
    """Base: nothing usable came from the URL."""


class AddressRefused(FetchError):
    """The URL leads where we do not go; trying again would not change that."""


class Unreadable(FetchError):
    """No answer, a bad answer, or half of one; the next try may do better."""


@dataclass(frozen=True)
class Download:
    """An answer that has begun; `chunks` raises Unreadable if it breaks off."""

    chunks: Iterator[bytes]
    length: int | None


@contextmanager
def download(
    url: str,
    *,
    allowed: frozenset[str] = frozenset(),
    transport: httpx.BaseTransport | None = None,
    resolve: Resolve = resolve,
) -> Iterator[Download]:
    """Open `url` for streaming. Raises AddressRefused or Unreadable."""
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    with httpx.Client(timeout=timeout, transport=transport, follow_redirects=False, trust_env=False) as http:
        for _ in range(MOST_REDIRECTS + 1):
            request = _pinned(http, url, allowed, resolve)
            try:
                response = http.send(request, stream=True)
            except httpx.TransportError as error:
                raise Unreadable(f"no answer ({type(error).__name__})") from error
            with _closing(response):
                if response.is_redirect and "location" in response.headers:
                    url = _following(url, response.headers["location"])
                    continue
                if response.status_code != 200:
                    raise Unreadable(f"status {response.status_code}")
                yield Download(_chunks(response), _length(response))
                return
        raise AddressRefused("too many redirects")


def _pinned(http: httpx.Client, url: str, allowed: frozenset[str], resolve: Resolve) -> httpx.Request:
    """A request to the one checked address of the URL's host, under the host's own name."""
    try:
        target = addresses.check(url, allowed=allowed, resolve=resolve)
    except addresses.AddressRefused as error:
        raise AddressRefused(str(error)) from error
    except addresses.NoAddress as error:
        raise Unreadable(str(error)) from error
    return target.request(http, "GET", headers={"accept-encoding": "identity", "user-agent": "atelier/1"})


def _following(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise AddressRefused("malformed URL") from error


@contextmanager
def _closing(response: httpx.Response) -> Iterator[None]:
    try:
        yield
    finally:
        response.close()


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_bytes()
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise Unreadable(f"the answer broke off ({type(error).__name__})") from error


def _length(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None
