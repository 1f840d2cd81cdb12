"""What synchronous providers share: a log of calls, and the ways in which one call goes wrong.

A call is billed once the work is done, whether or not its answer arrives.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from local.simulator import directives
from local.simulator.api import Answers, Refused, go_wrong, key_of
from local.simulator.directives import Directives, Fault, UnknownDirective
from local.simulator.jobs import REMEMBERED
from local.simulator.server import drop, until_disconnected

ABILITIES: Mapping[str, frozenset[str]] = {
    "outcome": frozenset({"failed", "refused", "never"}),
    "create": frozenset({"429", "429bare", "402", "busy", "500", "502html", "refuse", "drop-after-accept", "hang"}),
    "output": frozenset({"truncated", "wrong-type", "too-big", "empty"}),
}
NOTHING_DONE = {"429", "429bare", "402", "busy", "500", "502html", "refuse", "hang", "failed", "refused"}


@dataclass(slots=True)
class Call:
    """`outcome` is `ok` or what disturbed it; `key` a fingerprint; `at` Unix time."""

    provider: str
    path: str
    key: str
    model: str
    prompt: str
    outcome: str
    billed: bool
    at: float


type Make = Callable[[str], Awaitable[Response]]
"""The answer, disturbed as the name of an output fault says (`ok`: not at all)."""


class Calls:
    """The newest calls, oldest first. A repeat of a call with the same text counts as the same thing for `times`."""

    def __init__(self) -> None:
        self.log: deque[Call] = deque(maxlen=REMEMBERED)
        self.running: dict[str, int] = {}
        self._faults: dict[tuple[str, str, str], Fault[str]] = {}

    async def answer(
        self,
        request: Request,
        *,
        provider: str,
        model: str,
        prompt: str,
        asked: Directives,
        answers: Answers,
        make: Make,
    ) -> Response:
        """What comes of an accepted call."""
        key = key_of(request)
        struck = "429" if key.throttled else self._strike(provider, request.url.path, prompt, asked)
        billed = struck not in NOTHING_DONE
        self.log.append(Call(provider, request.url.path, key.fingerprint, model, prompt, struck, billed, time.time()))
        self.running[key.fingerprint] = self.running.get(key.fingerprint, 0) + 1
        try:
            if billed:
                await asyncio.sleep(asked.delay)
            match struck:
                case "never":
                    await until_disconnected(request)
                    return Response()
                case "drop-after-accept":
                    await make("ok")
                    await drop(request)
                    return Response()
                case "ok" | "truncated" | "wrong-type" | "too-big" | "empty" | "notjson" | "nourls":
                    return await make(struck)
                case _:
                    return await go_wrong(request, struck, answers)
        finally:
            self.running[key.fingerprint] -= 1

    def _strike(self, provider: str, path: str, prompt: str, asked: Directives) -> str:
        """The first directive that still has a fault in it: of the create, the outcome, the output."""
        for kind in (asked.create, asked.outcome, asked.output):
            if kind in ("ok", "succeeded"):
                continue
            fault = self._faults.setdefault((provider, path, f"{kind} {prompt}"), Fault(str(kind), asked.times))
            if len(self._faults) > REMEMBERED:
                del self._faults[next(iter(self._faults))]
            if (struck := fault.strike()) != "ok":
                return struck
        return "ok"


def understood(
    document: object, provider: str, refusal: Callable[[str], Refused], abilities: Mapping[str, Any] = ABILITIES
) -> Directives:
    """The directives of a call; raises what `refusal` makes of the complaint."""
    try:
        found = directives.find(document)
        directives.require(found, abilities, provider)
    except UnknownDirective as unknown:
        raise refusal(str(unknown)) from None
    return found
