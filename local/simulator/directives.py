"""What a prompt tells the simulator to do: `a lighthouse [sim delay=2 webhook=twice]`.

Several `key=value` words stand in one bracket, in any order. A word nobody knows is an error and never a silent no-op,
because a test whose fault did not happen proves nothing.

    delay    seconds from creation to the terminal state
    outcome  the terminal status; `never` runs for ever but obeys a cancel; `aborted` never starts
    webhook  lost | twice | early (answered before the create call answers) | reordered (`processing` after `succeeded`)
             | late (long after GET says terminal) | unsigned | forged (another secret) | stale (ten minutes old)
    create   429 | 500 | 502html | refuse (connection closed, nothing created)
             | drop-after-accept (created, then the connection is closed) | hang (never answered, nothing created)
    output   404 | truncated | wrong-type (HTML as a picture) | too-big (endless) | redirect-private (to the metadata host)
    cancel   ignored: a cancel request is answered and has no effect
    times    the create, webhook or output fault happens that many times, then all is well; without it, always
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

Outcome = Literal["succeeded", "failed", "canceled", "aborted", "never"]
WebhookFault = Literal["ok", "lost", "twice", "early", "reordered", "late", "unsigned", "forged", "stale"]
CreateFault = Literal["ok", "429", "500", "502html", "refuse", "drop-after-accept", "hang"]
OutputFault = Literal["ok", "404", "truncated", "wrong-type", "too-big", "redirect-private"]
CancelFault = Literal["ok", "ignored"]

CHOICES: dict[str, tuple[str, ...]] = {
    "outcome": get_args(Outcome),
    "webhook": get_args(WebhookFault),
    "create": get_args(CreateFault),
    "output": get_args(OutputFault),
    "cancel": get_args(CancelFault),
}
LONGEST_DELAY = 86_400.0
BRACKET = re.compile(r"\[sim\b([^\]]*)(\]?)")


class UnknownDirective(ValueError):
    """The prompt asks for something the simulator cannot do; the message names the word."""


@dataclass(frozen=True, slots=True)
class Directives:
    """`delay` is in seconds; `times` None means the fault is permanent."""

    delay: float = 0.3
    outcome: Outcome = "succeeded"
    webhook: WebhookFault = "ok"
    create: CreateFault = "ok"
    output: OutputFault = "ok"
    cancel: CancelFault = "ok"
    times: int | None = None


@dataclass(slots=True)
class Fault[Kind: str]:
    """A fault that strikes `times` times (None: for ever) and then leaves things as they should be."""

    kind: Kind
    times: int | None
    struck: int = 0

    @property
    def active(self) -> bool:
        return self.kind != "ok" and (self.times is None or self.struck < self.times)

    def strike(self) -> Kind | Literal["ok"]:
        """What happens this time: the fault, or `ok` once it is used up."""
        if not self.active:
            return "ok"
        self.struck += 1
        return self.kind


def parse(prompt: str) -> Directives:
    """Raises UnknownDirective for an unknown, repeated or malformed word."""
    # Every value is checked against its field as it goes in, which a type checker cannot follow.
    found: dict[str, Any] = {}
    for words, closed in BRACKET.findall(prompt):
        if not closed:
            raise UnknownDirective("the [sim bracket is never closed")
        for word in words.split():
            key, _, value = word.partition("=")
            if key in found:
                raise UnknownDirective(f"directive given twice: {word!r}")
            found[key] = _value(word, key, value)
    return Directives(**found)


def caption(prompt: str) -> str:
    """The prompt as a person meant it, without the brackets."""
    return " ".join(BRACKET.sub(" ", prompt).split())


def _value(word: str, key: str, value: str) -> str | float | int:
    if key == "delay":
        return _seconds(word, value)
    if key == "times":
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise UnknownDirective(f"times must be a whole number from 1: {word!r}")
        return int(value)
    if key not in CHOICES:
        raise UnknownDirective(f"unknown directive: {word!r} (known: {', '.join([*CHOICES, 'delay', 'times'])})")
    if value not in CHOICES[key]:
        raise UnknownDirective(f"unknown value: {word!r} ({key} is one of {', '.join(CHOICES[key])})")
    return value


def _seconds(word: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_DELAY:
        raise UnknownDirective(f"delay must be 0 to {LONGEST_DELAY:.0f} seconds: {word!r}")
    return seconds
