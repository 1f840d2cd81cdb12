"""One attempt of a callback: signed, sent to the one address that was checked, its answer's body left unread."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext

import httpx

from shared.core import addresses
from shared.core.addresses import AddressRefused, NoAddress, Resolve, resolve
from shared.core.deadline import within
from shared.providers.signatures import sign

USER_AGENT = "Atelier"


@dataclass(frozen=True)
class Answer:
    """What came of an attempt: the status code, or what kept one from coming. `took` is in seconds."""

    status_code: int | None
    error: str | None
    retry_after: str | None
    took: float


def headers(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt; as many signatures as there are secrets."""
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, webhook_id, timestamp, body) for secret in secrets),
    }


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    timeout: float,
    allowed: frozenset[str],
    transport: httpx.BaseTransport | None = None,
    resolve: Resolve = resolve,
) -> Answer:
    """POST it, once. All of it, from the name's look-up to the answer's headers, takes no more than `timeout` seconds,
    also when the receiver sends a byte a second."""
    begun = time.monotonic()
    client = httpx.Client(
        timeout=timeout, transport=transport, follow_redirects=False, trust_env=False, verify=_authorities()
    )

    def send() -> httpx.Response:
        target = addresses.check(url, allowed=allowed, resolve=resolve)
        request = target.request(client, "POST", headers=dict(headers), content=body)
        response = client.send(request, stream=True)
        response.close()
        return response

    try:
        response = within(timeout, send)
    except AddressRefused:
        return Answer(None, "address_refused", None, time.monotonic() - begun)
    except NoAddress:
        return Answer(None, "no_address", None, time.monotonic() - begun)
    except (TimeoutError, httpx.TimeoutException):
        return Answer(None, "timeout", None, time.monotonic() - begun)
    except (httpx.HTTPError, httpx.InvalidURL):
        return Answer(None, "no_answer", None, time.monotonic() - begun)
    finally:
        client.close()
    return Answer(response.status_code, None, response.headers.get("retry-after"), time.monotonic() - begun)


@cache
def _authorities() -> SSLContext:
    """Reading the authorities takes longer than a callback."""
    return httpx.create_ssl_context(trust_env=False)
