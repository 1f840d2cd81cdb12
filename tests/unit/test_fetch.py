"""Reading URLs that somebody else has given us: https, public, pinned, or not at all."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import addresses
from shared.media import fetch
from shared.media.fetch import AddressRefused, FetchError, Unreadable

PUBLIC = "93.184.215.14"
URL = "https://replicate.delivery/xezq/out.png"
DATA = b"\x89PNG\r\n\x1a\n" + bytes(1000)


class Recorded(httpx.BaseTransport):
    """Answers, and remembers what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.seen: list[httpx.Request] = []
        self.answer = answer or (lambda _: httpx.Response(200, content=DATA))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.answer(request)


def resolving(*addresses: str) -> addresses.Resolve:
    return lambda host, port: list(addresses)


def fetched(
    url: str,
    *,
    transport: httpx.BaseTransport | None = None,
    resolve: addresses.Resolve = resolving(PUBLIC),  # noqa: B008 A plain function.
    allowed: frozenset[str] = frozenset(),
) -> bytes:
    with fetch.download(url, transport=transport or Recorded(), resolve=resolve, allowed=allowed) as download:
        return b"".join(download.chunks)


def redirecting(*locations: str) -> Recorded:
    """A server that redirects to each location in turn, then answers."""
    left = list(locations)
    return Recorded(
        lambda _: httpx.Response(302, headers={"location": left.pop(0)}) if left else httpx.Response(200, content=DATA)
    )


def test_a_public_file_is_read() -> None:
    assert fetched(URL) == DATA


def test_the_length_is_what_the_server_announces() -> None:
    with fetch.download(URL, transport=Recorded(), resolve=resolving(PUBLIC)) as download:
        assert download.length == len(DATA)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "١"])
def test_a_length_that_is_none_is_unknown(value: str) -> None:
    headers = [(b"content-length", value.encode())]
    transport = Recorded(lambda _: httpx.Response(200, headers=headers, stream=Broken([DATA])))

    with fetch.download(URL, transport=transport, resolve=resolving(PUBLIC)) as download:
        assert download.length is None


# Addresses

PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2001:0:7f00:1::1",
    "2001:0:5db8:d70e:0:0:80ff:fffe",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "5f00::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_of_a_private_address_is_refused_and_nothing_is_sent(address: str) -> None:
    transport = Recorded()

    with pytest.raises(AddressRefused):
        fetched(URL, transport=transport, resolve=resolving(address))

    assert transport.seen == []


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_a_name_of_a_public_address_is_fetched(address: str) -> None:
    assert fetched(URL, resolve=resolving(address)) == DATA


@pytest.mark.parametrize("addresses", [(PUBLIC, "10.0.0.1"), ("10.0.0.1", PUBLIC), (PUBLIC, "::1"), ()])
def test_one_private_address_among_public_ones_is_enough_to_refuse(addresses: tuple[str, ...]) -> None:
    with pytest.raises(AddressRefused):
        fetched(URL, resolve=resolving(*addresses))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_public_however_ipv6_spells_it_or_not_at_all(address: Any) -> None:
    number = int(address)
    spelled = [
        f"::ffff:{address}",
        f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ]

    public = addresses.is_public(str(address))

    assert [addresses.is_public(spelling) for spelling in spelled] == [public] * 3
    assert public == (address.is_global and not address.is_multicast)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:7f00:1]/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0177.0.0.1/x",
        "https://127.1/x",
        "https://0/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1:443/x",
        "https://localhost/x",
        "https://LOCALHOST./x",
    ],
)
def test_a_private_host_is_refused_in_every_spelling_that_the_system_understands(url: str) -> None:
    transport = Recorded()

    with pytest.raises(FetchError):
        fetched(url, transport=transport, resolve=addresses.resolve)

    assert transport.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//replicate.delivery/x",
        "http://replicate.delivery/x",
        "ftp://replicate.delivery/x",
        "file:///etc/passwd",
        "file://replicate.delivery/etc/passwd",
        "data:image/png;base64,AAAA",
        "gopher://replicate.delivery:70/x",
        "https://",
        "https:///x",
        "https://:443/x",
        "https://user@replicate.delivery/x",
        "https://user:password@replicate.delivery/x",
        "https://:password@replicate.delivery/x",
        "https://@replicate.delivery/x",
        "https://replicate.delivery@10.0.0.1/x",
        "https://replicate.delivery\\@10.0.0.1/x",
        "https://replicate.delivery:99999/x",
        "https://replicate.delivery:-1/x",
        "https://replicate.delivery:443:80/x",
        "https://replicate.delivery:80a/x",
        "https://[::1/x",
        "https://[replicate.delivery]/x",
        "https://bücher.example/x",
        "https://replicate.delivery/\x00",
        "https://replicate.delivery/x\r\nhost: elsewhere",
        "https://" + "a" * 70_000 + "/",
    ],
)
def test_a_url_that_is_not_plain_https_is_refused_and_nothing_is_sent(url: str) -> None:
    transport = Recorded()

    with pytest.raises(AddressRefused):
        fetched(url, transport=transport)

    assert transport.seen == []


@given(st.text(max_size=40).map("https://".__add__) | st.text(max_size=40))
def test_no_text_makes_anything_but_an_answer_or_a_refusal(url: str) -> None:
    transport = Recorded()

    try:
        fetched(url, transport=transport)
    except FetchError:
        return

    assert transport.seen[0].url.host == PUBLIC


def test_a_host_that_does_not_resolve_may_do_so_later() -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(Unreadable):
        fetched(URL, resolve=nowhere)


# Pinning


def test_the_connection_goes_to_the_checked_address_under_the_hosts_name() -> None:
    transport = Recorded()

    fetched("https://replicate.delivery:8443/xezq/out.png?a=1", transport=transport)

    (request,) = transport.seen
    assert (request.url.host, request.url.port) == (PUBLIC, 8443)
    assert request.url.raw_path == b"/xezq/out.png?a=1"
    assert request.headers["host"] == "replicate.delivery:8443"
    assert request.extensions["sni_hostname"] == "replicate.delivery"


def test_a_name_that_resolves_differently_the_second_time_gains_nothing() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[tuple[str, int]] = []
    transport = Recorded()

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return next(answers)

    fetched(URL, transport=transport, resolve=rebinding)

    assert asked == [("replicate.delivery", 443)]
    assert transport.seen[0].url.host == PUBLIC


def test_an_ipv6_address_is_connected_to_as_one() -> None:
    transport = Recorded()

    fetched(URL, transport=transport, resolve=resolving("2606:4700:4700::1111"))

    assert transport.seen[0].url.host == "2606:4700:4700::1111"


def test_no_credentials_of_ours_are_sent() -> None:
    transport = Recorded()

    fetched(URL, transport=transport)

    assert not {"authorization", "cookie"} & set(transport.seen[0].headers)


# Redirects


def test_a_redirect_to_another_public_host_is_followed() -> None:
    transport = redirecting("https://cdn.example/y", "/z")

    assert fetched(URL, transport=transport) == DATA
    assert [(r.headers["host"], r.url.path) for r in transport.seen[1:]] == [
        ("cdn.example", "/y"),
        ("cdn.example", "/z"),
    ]


@pytest.mark.parametrize(
    "location",
    [
        "http://replicate.delivery/x",
        "file:///etc/passwd",
        "https://user@replicate.delivery/x",
        "//user@replicate.delivery/x",
        "https://internal.example/x",
        "//internal.example/x",
    ],
)
def test_a_redirect_is_checked_again(location: str) -> None:
    transport = redirecting(location)

    def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1"] if host == "internal.example" else [PUBLIC]

    with pytest.raises(AddressRefused):
        fetched(URL, transport=transport, resolve=resolve)

    assert len(transport.seen) == 1


@pytest.mark.parametrize("location", ["https://[broken/x", "https://a:b:c/x", "https://\x00/"])
@pytest.mark.parametrize("status", [300, 302, 308])
def test_a_redirect_to_nonsense_is_no_surprise(location: str, status: int) -> None:
    transport = Recorded(lambda _: httpx.Response(status, headers={"location": location}))

    with pytest.raises(FetchError):
        fetched(URL, transport=transport)

    assert len(transport.seen) == 1


def test_the_third_redirect_is_the_last() -> None:
    assert fetched(URL, transport=redirecting(*["https://a.example/x"] * 3)) == DATA
    with pytest.raises(AddressRefused, match="too many redirects"):
        fetched(URL, transport=redirecting(*["https://a.example/x"] * 4))


# The allow-list

LOCAL = "http://127.0.0.1:4566"


def test_an_allowed_origin_is_read_although_it_is_private_and_http() -> None:
    transport = Recorded()

    assert fetched(f"{LOCAL}/out.png", transport=transport, allowed=frozenset({LOCAL})) == DATA
    assert str(transport.seen[0].url) == f"{LOCAL}/out.png"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/out.png",
        "http://127.0.0.1:45660/out.png",
        "http://127.0.0.1:456/out.png",
        "https://127.0.0.1:4566/out.png",
        "http://127.0.0.1:4566@10.0.0.1/out.png",
        "http://user@127.0.0.1:4566/out.png",
        "http://127.0.0.1:4566.evil.example/out.png",
        "http://127.0.0.2:4566/out.png",
        "http://localhost:4566/out.png",
        "http://127.1:4566/out.png",
    ],
)
def test_the_allow_list_means_exactly_its_origins(url: str) -> None:
    transport = Recorded()

    with pytest.raises(AddressRefused):
        fetched(url, transport=transport, allowed=frozenset({LOCAL}), resolve=resolving("127.0.0.1"))

    assert transport.seen == []


def test_a_redirect_from_an_allowed_origin_is_checked_like_any_other() -> None:
    transport = redirecting("http://127.0.0.1:9999/secret")

    with pytest.raises(AddressRefused):
        fetched(f"{LOCAL}/out.png", transport=transport, allowed=frozenset({LOCAL}))


# Answers that are none


class Broken(httpx.SyncByteStream):
    """A body of these chunks that then breaks off."""

    def __init__(self, chunks: list[bytes], error: Exception | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("eof")]
)
def test_an_answer_that_breaks_off_is_unreadable_and_closed(error: Exception) -> None:
    body = Broken([DATA[:100]], error)

    with pytest.raises(Unreadable, match="broke off"):
        fetched(URL, transport=Recorded(lambda _: httpx.Response(200, stream=body)))

    assert body.closed


def test_an_answer_that_nobody_reads_to_its_end_is_closed() -> None:
    body = Broken([DATA, DATA])

    with fetch.download(URL, transport=Recorded(lambda _: httpx.Response(200, stream=body)), resolve=resolving(PUBLIC)):
        pass

    assert body.closed


@pytest.mark.parametrize("status", [201, 204, 206, 304, 401, 403, 404, 410, 429, 500, 503])
def test_any_status_but_200_is_unreadable(status: int) -> None:
    with pytest.raises(Unreadable, match=str(status)):
        fetched(URL, transport=Recorded(lambda _: httpx.Response(status)))


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, httpx.RemoteProtocolError]
)
def test_no_answer_is_unreadable(error: type[httpx.TransportError]) -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise error("no", request=request)

    with pytest.raises(Unreadable, match="no answer"):
        fetched(URL, transport=Recorded(silent))


def test_nothing_compressed_is_asked_for() -> None:
    transport = Recorded()

    fetched(URL, transport=transport)

    assert transport.seen[0].headers["accept-encoding"] == "identity"
