"""The HTTP server: uvicorn on loopback, with hands on the TCP connections so that an answer can fail to come."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

type Ends = tuple[tuple[str, int], tuple[str, int | None]]
"""Client and server address: one process may hold several simulators."""

_open_connections: dict[Ends, asyncio.Transport] = {}


class KnownConnection(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client and self.server:
            _open_connections[self.client, self.server] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client and self.server:
            _open_connections.pop((self.client, self.server), None)
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Calls `on_ready` when it listens; when told to end it cuts every connection: a hung request would hold it up."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one."""
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it each answer would take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener


def origin(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def make_server(app: ASGIApp, on_ready: Callable[[], None]) -> Server:
    config = uvicorn.Config(
        app,
        http=KnownConnection,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        # Longer than any client pools a connection, or a reused one would fail by chance and not by directive.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=1,
    )
    return Server(config, on_ready)


@contextlib.contextmanager
def serving(app: ASGIApp, *, port: int = 0) -> Iterator[str]:
    """Serve `app` in a thread for the length of a `with`, which gets the origin, such as `http://127.0.0.1:40123`."""
    listener = listen(port)
    ready = threading.Event()
    server = make_server(app, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        if not ready.wait(10):
            raise RuntimeError("the simulator did not start")
        yield origin(listener)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


async def until_disconnected(request: Request) -> None:
    """Never answer: returns when the client has gone or the server ends."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def drop(request: Request) -> None:
    """Close the connection with a reset, without an answer. What the handler returns afterwards reaches nobody."""
    _transport(request).abort()
    await until_disconnected(request)


async def close_after_sending(request: Request) -> None:
    """Close the connection once everything written so far has left; then, like a hung answer, wait for its end."""
    _transport(request).close()
    await asyncio.Event().wait()


def _transport(request: Request) -> asyncio.Transport:
    client, server = request.scope["client"], request.scope["server"]
    return _open_connections[client, server]
