"""The HTTP connection to a provider: explicit timeouts, no redirects, and exceptions that say what was sent."""

from dataclasses import dataclass
from typing import Any

import httpx

from shared.providers.outcomes import Ambiguous, Silent, Unreachable

CONNECT_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Connection:
    """A client with the provider's base URL and the key in its headers."""

    http: httpx.Client


def connect(
    base_url: str, headers: dict[str, str], *, timeout: float, transport: httpx.BaseTransport | None = None
) -> Connection:
    """A connection; `timeout` is how many seconds an answer may take. Tests inject a `transport`."""
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


def create(connection: Connection, path: str, body: dict[str, Any]) -> httpx.Response:
    """POST what must not happen twice. Raises Unreachable if nothing was sent, Ambiguous if it may have been."""
    try:
        return connection.http.post(path, json=body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Unreachable(f"no connection to the provider ({type(error).__name__})") from error
    except httpx.RequestError as error:
        raise Ambiguous(f"the provider did not answer ({type(error).__name__})") from error


def ask(connection: Connection, method: str, path: str, **options: Any) -> httpx.Response:
    """Any call that may be repeated. Raises Silent when there is no answer."""
    try:
        return connection.http.request(method, path, **options)
    except httpx.RequestError as error:
        raise Silent(f"the provider did not answer ({type(error).__name__})") from error


def document(response: httpx.Response) -> dict[str, Any] | None:
    """The JSON object of an answer, None where it is something else (an HTML error page, say)."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
