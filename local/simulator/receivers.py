"""Receivers of the product's own callbacks: they write down what comes, and answer as they were told to.

`POST /_sim/callbacks/{name}` is what a `callback_url` leads to, and answers 204. `GET` tells what has come:

    {"calls": [{"at", "headers": {…}, "body": "…", "answer": 204 | "drop"}]}

`PUT` says what to do from now on, `{}` all well: `status` (200–599, or "drop": the connection is closed without an
answer), `times` (only so often, then all is well), `slow` (seconds before the answer), `headers` (of the answer).
"""

import asyncio
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.simulator.jobs import REMEMBERED
from local.simulator.server import drop

WELL = 204

type Status = int | Literal["drop"]


@dataclass(slots=True)
class Call:
    """A callback that came; `at` is Unix time."""

    at: float
    headers: dict[str, str]
    body: str
    answer: Status


@dataclass(slots=True)
class Manner:
    """What a receiver does; `times` is how often yet, None for ever."""

    status: Status = WELL
    times: int | None = None
    slow: float = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Receiver:
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    manner: Manner = field(default_factory=Manner)

    def next_manner(self) -> Manner:
        """How the next callback is met."""
        manner = self.manner
        if manner.times is not None:
            if manner.times <= 0:
                return Manner()
            manner.times -= 1
        return manner


class Receivers:
    def __init__(self) -> None:
        self._by_name: dict[str, Receiver] = {}
        path = "/_sim/callbacks/{name}"
        self.routes = [
            Route(path, self._receive, methods=["POST"]),
            Route(path, self._instruct, methods=["PUT"]),
            Route(path, self._tell, methods=["GET"]),
        ]

    def _named(self, request: Request) -> Receiver:
        return self._by_name.setdefault(request.path_params["name"], Receiver())

    async def _receive(self, request: Request) -> Response:
        receiver = self._named(request)
        manner = receiver.next_manner()
        body = (await request.body()).decode()
        receiver.calls.append(Call(time.time(), dict(request.headers), body, manner.status))
        await asyncio.sleep(manner.slow)
        if manner.status == "drop":
            await drop(request)
            return Response()
        return Response(status_code=manner.status, headers=manner.headers)

    async def _instruct(self, request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        self._named(request).manner = Manner(**asked)
        return Response(status_code=204)

    async def _tell(self, request: Request) -> JSONResponse:
        return JSONResponse({"calls": [asdict(call) for call in self._named(request).calls]})
