"""What the simulated APIs have in common: keys at the door, refusals in each one's shape, creates that go wrong."""

import functools
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from local.simulator import keys
from local.simulator.keys import Key
from local.simulator.server import drop, until_disconnected

BAD_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)

type Call = Callable[[Request], Awaitable[Response]]
type Answers = Mapping[str, Callable[[], Refused]]
"""How a provider says no, by the directive that asks for it; `401` is for keys."""


class Refused(Exception):
    """A request that gets an error answer, in the shape of its provider."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = headers


def application(
    creates: Iterable[tuple[str, Call]],
    calls: Iterable[tuple[str, str, Call]] = (),
    *,
    prefix: str,
    key: Callable[[Request], str],
    answers: Answers,
) -> Starlette:
    """`key` finds in a request what must begin with `prefix`. `creates` are paths, `calls` paths with their methods.

    A throttled key is turned away at the door of `calls`; a create first writes down who asked for what.
    """

    def guarded(call: Call, *, create: bool) -> Call:
        @functools.wraps(call)
        async def checked(request: Request) -> Response:
            request.state.given = key(request)
            accepted = keys.accept(request.state.given, prefix)
            if accepted is None:
                raise answers["401"]()
            if accepted.throttled and not create:
                raise answers["429"]()
            request.state.key = accepted
            return await call(request)

        return checked

    routes = [
        *(Route(path, guarded(call, create=False), methods=[method]) for path, method, call in calls),
        *(Route(path, guarded(call, create=True), methods=["POST"]) for path, call in creates),
    ]
    return Starlette(routes=routes, exception_handlers={Refused: _refuse})


async def _refuse(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    if isinstance(refused.body, str):
        return PlainTextResponse(refused.body, status_code=refused.status)
    # Some quote the key that they were sent: a prompt with `[sim {key}]` is refused in words that do.
    body = json.dumps(refused.body).replace("{key}", getattr(request.state, "given", ""))
    return Response(body, status_code=refused.status, headers=refused.headers, media_type="application/json")


def key_of(request: Request) -> Key:
    key: Key = request.state.key
    return key


def bearer(request: Request, scheme: str = "bearer") -> str:
    """The token of the Authorization header, or nothing when its scheme is another."""
    given, _, token = request.headers.get("authorization", "").partition(" ")
    return token if given.lower() == scheme else ""


async def go_wrong(request: Request, fault: str, answers: Answers) -> Response:
    """The answer, or its lack, to a create that a directive disturbs."""
    match fault:
        case "502html":
            return HTMLResponse(BAD_GATEWAY, status_code=502)
        case "hang":
            await until_disconnected(request)
        case "refuse" | "drop-after-accept":
            await drop(request)
        case _:
            raise answers[fault]()
    return Response()


async def json_object(request: Request, invalid: Callable[[str], Refused]) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise invalid("the request body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid("the request body is not a JSON object")
    return body


def is_webhook(url: object) -> bool:
    """An HTTPS URL, or one on loopback."""
    try:
        parsed = httpx.URL(str(url)) if isinstance(url, str) else httpx.URL()
    except httpx.InvalidURL:
        return False
    return bool(parsed.host) and (parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(parsed.host)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"
