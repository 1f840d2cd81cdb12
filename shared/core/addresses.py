"""Where a URL that somebody else has given us may lead.

https only, to public addresses only; the address that was checked is the one to connect to, so a name that resolves
differently the second time gains nothing. Origins on the allow-list (the local cloud's own loopback hosts; empty on
AWS) are exempt from both rules.
"""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from shared.core.deadline import within

RESOLVE_TIMEOUT_S = 5.0

Resolve = Callable[[str, int], list[str]]


class AddressRefused(Exception):
    """The URL leads where we do not go; trying again would not change that."""


class NoAddress(Exception):
    """The host has no address at the moment."""


@dataclass(frozen=True)
class Target:
    """A URL that was checked. `url` leads to the one checked address; `host` is the header, and `name` what TLS is to
    verify (None where the URL is connected to as it is)."""

    url: httpx.URL
    host: str
    name: str | None

    def request(
        self, http: httpx.Client, method: str, *, headers: dict[str, str], content: bytes = b""
    ) -> httpx.Request:
        """A request to the checked address under the host's own name."""
        extensions = {"sni_hostname": self.name} if self.name else {}
        return http.build_request(
            method, self.url, headers={**headers, "host": self.host}, content=content, extensions=extensions
        )


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order. Raises OSError, also when nobody tells them in time."""
    found = within(RESOLVE_TIMEOUT_S, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return [str(address[4][0]) for address in found]


def check(url: str, *, allowed: frozenset[str] = frozenset(), resolve: Resolve = resolve) -> Target:
    """The target of a URL. Raises AddressRefused and NoAddress."""
    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        host, port = parts.hostname, parts.port
        parts.netloc.encode("ascii")
    except (ValueError, httpx.InvalidURL) as error:
        raise AddressRefused("malformed URL") from error
    if not host or "@" in parts.netloc:
        raise AddressRefused("malformed URL")
    if f"{parts.scheme}://{parts.netloc}" in allowed:
        return Target(parsed, parts.netloc, None)
    if parts.scheme != "https":
        raise AddressRefused("not https")
    try:
        addresses = resolve(host, port or 443)
    except (OSError, UnicodeError) as error:
        raise NoAddress("the host has no address") from error
    if not addresses or not all(is_public(address) for address in addresses):
        raise AddressRefused("the host has a private address")
    return Target(parsed.copy_with(host=addresses[0]), parts.netloc, host)


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
