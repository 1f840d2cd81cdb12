"""A client of the realtime events, as the tests of them need it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support import Json, Studio

OPENS_S = 60
ARRIVES_S = 60


def ticket(studio: Studio, **headers: str) -> str:
    """The address that a new ticket leads to."""
    answer = studio.http.post("/realtime/tickets", headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


@contextmanager
def socket(url: str) -> Iterator["Socket"]:
    """An open connection. Raises websockets' InvalidStatus when it is refused."""
    with connect(url, proxy=None, open_timeout=OPENS_S, ping_interval=None) as opened:
        yield Socket(opened)


class Socket:
    """An open connection, and everything that has come by it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.got: list[Json] = []

    def send(self, message: Json | str) -> None:
        self.connection.send(message if isinstance(message, str) else json.dumps(message))

    def next(self, *, timeout: float = ARRIVES_S) -> Json:
        """The next message. Raises TimeoutError, or ConnectionClosed."""
        self.got.append(json.loads(self.connection.recv(timeout=timeout)))
        return self.got[-1]

    def until(self, wanted: Callable[[Json], bool], *, timeout: float = ARRIVES_S) -> list[Json]:
        """Every message up to the first that is wanted, with it."""
        before, deadline = len(self.got), time.monotonic() + timeout
        while not wanted(self.next(timeout=max(0.1, deadline - time.monotonic()))):
            pass
        return self.got[before:]

    def ended(self, job_id: str) -> list[Json]:
        """Every message until the job is over."""
        return self.until(lambda message: message["job"]["id"] == job_id and message["job"]["status"] in OVER)

    def sync(self) -> list[Json]:
        """The messages that answer a sync; others that come in between are in `got`."""
        self.send({"action": "sync"})
        told = self.until(lambda message: message["type"] == "sync" and message["last"])
        return [message for message in told if message["type"] == "sync"]

    def is_quiet(self) -> bool:
        """Whether nothing comes before the answer to a ping."""
        self.send({"action": "ping"})
        return self.next() == {"type": "pong"}

    def closes(self, *, timeout: float = ARRIVES_S) -> list[Json]:
        """What comes until the other side closes."""
        before, deadline = len(self.got), time.monotonic() + timeout
        while True:
            try:
                self.next(timeout=max(0.1, deadline - time.monotonic()))
            except ConnectionClosed:
                return self.got[before:]


OVER = {"succeeded", "failed", "canceled", "timed_out"}
