"""Reading a URL that somebody else has given us.

https only, to public addresses only; the address that was checked is the one that is connected to, so a name that
resolves differently the second time gains nothing; every redirect is checked again. Origins on the allow-list (the
local cloud's own loopback hosts; empty on AWS) are exempt from both rules.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
MOST_REDIRECTS = 3

Resolve = Callable[[str, int], list[str]]


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


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


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
        parts, parsed = urlsplit(url), httpx.URL(url)
        host, port = parts.hostname, parts.port
        parts.netloc.encode("ascii")
    except (ValueError, httpx.InvalidURL) as error:
        raise AddressRefused("malformed URL") from error
    headers = {"accept-encoding": "identity", "user-agent": "atelier/1"}
    if not host or "@" in parts.netloc:
        raise AddressRefused("malformed URL")
    if f"{parts.scheme}://{parts.netloc}" in allowed:
        return http.build_request("GET", url, headers=headers)
    if parts.scheme != "https":
        raise AddressRefused("not https")
    try:
        addresses = resolve(host, port or 443)
    except (OSError, UnicodeError) as error:
        raise Unreadable("the host has no address") from error
    if not addresses or not all(is_public(address) for address in addresses):
        raise AddressRefused("the host has a private address")
    pinned = parsed.copy_with(host=addresses[0])
    return http.build_request(
        "GET", pinned, headers={**headers, "host": parts.netloc}, extensions={"sni_hostname": host}
    )


def _following(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise AddressRefused("malformed URL") from error


# All of IPv6 that is routed on the internet. What lies outside is not always "private" to Python's ipaddress: the
# old site-local and IPv4-compatible blocks, for two.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address is on the public internet; what an IPv6 address embeds is looked at as well."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return embedded.is_global and not embedded.is_multicast
        return ip in GLOBAL_UNICAST and ip.is_global
    return ip.is_global and not ip.is_multicast


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
