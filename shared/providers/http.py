"""The HTTP connection to a provider: explicit timeouts, no redirects, exceptions that say what was sent, and texts that
never show a key."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from shared.providers.outcomes import Ambiguous, KeyRefused, ProviderError, Silent, Unreachable

CONNECT_TIMEOUT_S = 3.0
LONGEST_DETAIL = 500
LONGEST_ERROR_BYTES = 65_536
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Connection:
    """A client with the provider's base URL and the key in its headers."""

    http: httpx.Client


# What the libraries below would quote in their own errors, key and all.
GOOD_HEADER = re.compile(r"[\x21-\x7e]+( [\x21-\x7e]+)*")


def connect(
    base_url: str, headers: dict[str, str], *, timeout: float, transport: httpx.BaseTransport | None = None
) -> Connection:
    """A connection; `timeout` is how many seconds an answer, or its next bytes, may take. Tests inject a `transport`.

    Raises KeyRefused for a key that cannot stand in a header.
    """
    if not all(GOOD_HEADER.fullmatch(value) for value in headers.values()):
        raise KeyRefused("the configured key is malformed")
    return Connection(
        httpx.Client(
            base_url=base_url,
            headers={"user-agent": "atelier/1", **headers},
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(keepalive_expiry=5),
            follow_redirects=False,
            transport=transport,
        )
    )


def create(connection: Connection, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
    """POST what must not happen twice. Raises Unreachable if nothing was sent, Ambiguous if it may have been."""
    try:
        return connection.http.post(path, json=body, **options)
    except NEVER_SENT as error:
        raise Unreachable(f"no connection to the provider ({type(error).__name__})") from error
    except httpx.RequestError as error:
        raise Ambiguous(f"the provider did not answer ({type(error).__name__})") from error


def ask(connection: Connection, method: str, path: str, **options: Any) -> httpx.Response:
    """Any call that may be repeated. Raises Silent when there is no answer."""
    try:
        return connection.http.request(method, path, **options)
    except httpx.RequestError as error:
        raise Silent(f"the provider did not answer ({type(error).__name__})") from error


@contextmanager
def stream(connection: Connection, path: str, body: dict[str, Any], **options: Any) -> Iterator[httpx.Response]:
    """POST what must not happen twice, and read the answer as it comes (`chunks`). Raises as `create`."""
    # Unpacking would put no bound on how much one read brings.
    headers = {"accept-encoding": "identity"}
    request = connection.http.build_request("POST", path, json=body, headers=headers, **options)
    try:
        response = connection.http.send(request, stream=True)
    except NEVER_SENT as error:
        raise Unreachable(f"no connection to the provider ({type(error).__name__})") from error
    except httpx.RequestError as error:
        raise Ambiguous(f"the provider did not answer ({type(error).__name__})") from error
    try:
        yield response
    finally:
        response.close()


def chunks(response: httpx.Response) -> Iterator[bytes]:
    """The bytes of a streamed answer. Raises Ambiguous if it breaks off."""
    try:
        yield from response.iter_bytes()
    except httpx.RequestError as error:
        raise Ambiguous(f"the provider's answer broke off ({type(error).__name__})") from error


def length(response: httpx.Response) -> int | None:
    """How many bytes `chunks` will have, where the answer announces it."""
    value = response.headers.get("content-length", "")
    packed = response.headers.get("content-encoding", "identity") != "identity"
    return int(value) if value.isascii() and value.isdigit() and not packed else None


Refusal = Callable[[httpx.Response], ProviderError]


def check_created(response: httpx.Response, refusal: Refusal) -> None:
    """Nothing if a create was accepted. Raises what `refusal` makes of a 4xx, Ambiguous for what is no clear answer."""
    status = response.status_code
    if 400 <= status < 500 and status != 408:
        raise refusal(_whole(response))
    if not response.is_success:
        raise Ambiguous(f"the provider answered {status}")


def check_answered(response: httpx.Response, refusal: Refusal) -> None:
    """As `check_created` for a question: Silent takes the place of Ambiguous, since it may be asked again."""
    status = response.status_code
    if 400 <= status < 500 and status != 408:
        raise refusal(response)
    if not response.is_success:
        raise Silent(f"the provider answered {status}")


def _whole(response: httpx.Response) -> httpx.Response:
    """A refusal with its body, as far as a refusal's body may go, whether it was streamed or not."""
    if response.is_closed:
        return response
    data = bytearray()
    try:
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= LONGEST_ERROR_BYTES:
                break
    except httpx.RequestError:
        data.clear()  # The status has said what matters.
    framing = ("content-", "transfer-")
    headers = {name: value for name, value in response.headers.items() if not name.startswith(framing)}
    return httpx.Response(response.status_code, headers=headers, content=bytes(data), request=response.request)


def document(response: httpx.Response) -> dict[str, Any] | None:
    """The JSON object of an answer, None where it is something else (an HTML error page, say).

    A provider may quote the key that it was sent: it is gone before anything is read.
    """
    data = response.content
    for secret in _credentials(response.request):
        data = data.replace(secret.encode(), b"***")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


CREDENTIAL_HEADERS = ("authorization", "xi-api-key", "x-goog-api-key")
SHORTEST_SECRET = 8


def _credentials(request: httpx.Request) -> list[str]:
    sent = [request.headers.get(name, "").split(" ")[-1] for name in CREDENTIAL_HEADERS]
    return [secret for secret in sent if len(secret) >= SHORTEST_SECRET]


RETRY_AFTER = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")


def retry_after(response: httpx.Response) -> float | None:
    """How many seconds a provider asks us to wait, by `retry-after-ms` or `retry-after`; a date is not read."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = response.headers.get(name, "")
        if RETRY_AFTER.fullmatch(value):
            return float(value) / unit
    return None


SCHEME = re.compile(r"\b(?:bearer\s+[^\s\"',;]+|basic\s+[\w+/=]{16,})", re.IGNORECASE)
ASSIGNED = re.compile(
    r"(?<![A-Za-z0-9])((?:api[-_ ]?key|key|token|secret|signature|credential|password)[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"'&,;]+",
    re.IGNORECASE,
)
KEYS = re.compile(
    r"\b(?:[spr]k[-_][\w*.-]{4,}|r8_[\w*]{4,}|AIza[\w*-]{8,}|whsec_[\w+/=-]+"
    r"|[0-9a-f]{8}-[0-9a-f-]{27}:[\w-]{8,})"  # fal: id and secret
)


def masked(text: str) -> str:
    """A provider's words without anything that looks like a credential."""
    text = SCHEME.sub("***", text)
    text = KEYS.sub("***", text)
    return ASSIGNED.sub(r"\1***", text)


def detail(value: Any, otherwise: str = "") -> str:
    """What a provider says, fit for a job and a log: one line, not long, no keys, valid UTF-8."""
    text = " ".join(str(value).split()) if value else otherwise
    return masked(text).encode(errors="replace").decode()[:LONGEST_DETAIL]
