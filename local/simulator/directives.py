"""What a prompt tells the simulator to do: `a lighthouse [sim delay=2 webhook=twice]`.

Several `key=value` words stand in one bracket, in any order; a value with spaces stands in double quotes. The bracket
may stand in any text of the request, also percent-encoded in a URL, so that kinds without a prompt can be steered. A
word nobody knows, or that the provider at hand cannot do, is an error and never a silent no-op, because a test whose
fault did not happen proves nothing. The unknown word `{key}` is one with a use: the refusal quotes the caller's key.

    delay    seconds from creation to the terminal state; for a synchronous call, to the answer
    outcome  the terminal status; `never` runs for ever but obeys a cancel; `aborted` never starts; `refused` by the
             content policy; `callback-exception` (Suno: made, but its record says so and no callback comes)
    webhook  lost | twice | early (answered before the create call answers) | reordered (`processing` after `succeeded`)
             | late (long after GET says terminal) | unsigned | forged (another secret) | stale (ten minutes old)
             | tampered (the body changed after signing) | rotated (two signatures, the second is good) | big (5 MB)
    create   429 | 429bare (without Retry-After) | 402 (our account there is empty) | 455 (KIE: maintenance) | busy
             | 500 | 502html | refuse (connection closed, nothing created)
             | drop-after-accept (created and billed, then the connection is closed)
             | hang (never answered, nothing created)
    output   404 | 403 | truncated | wrong-type (HTML as a picture) | too-big (endless)
             | redirect-private (to the metadata host)
             | empty | notjson | nourls | string-urls (what the record says of the files, or the answer of a call)
    cancel   ignored: a cancel request is answered and has no effect
    gateway  new: fal ran the request twice, so the ids of gateway and request differ
    times    the create, webhook or output fault (of a synchronous call: also the outcome) happens that many times,
             then all is well; without it, always
    cost     what the provider reports as used, in its own unit
    seconds  length of the recording that is made, whatever the input says
    bytes    size of the file that is made, such as 500MB; the file stays valid
    say      the words of a transcript: say="a lighthouse at dusk"
    kind     image | video | character-video | speech | music | transcription | stems, whatever the model's name says
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import unquote

Kind = Literal["image", "video", "character-video", "speech", "music", "transcription", "stems"]
Outcome = Literal["succeeded", "failed", "canceled", "aborted", "never", "refused", "callback-exception"]
WebhookFault = Literal[
    "ok",
    "lost",
    "twice",
    "early",
    "reordered",
    "late",
    "unsigned",
    "forged",
    "stale",
    "tampered",
    "rotated",
    "big",
]
CreateFault = Literal[
    "ok", "429", "429bare", "402", "455", "busy", "500", "502html", "refuse", "drop-after-accept", "hang"
]
OutputFault = Literal[
    "ok",
    "404",
    "403",
    "truncated",
    "wrong-type",
    "too-big",
    "redirect-private",
    "empty",
    "notjson",
    "nourls",
    "string-urls",
]
CancelFault = Literal["ok", "ignored"]
Gateway = Literal["same", "new"]

CHOICES: dict[str, tuple[str, ...]] = {
    "outcome": get_args(Outcome),
    "webhook": get_args(WebhookFault),
    "create": get_args(CreateFault),
    "output": get_args(OutputFault),
    "cancel": get_args(CancelFault),
    "gateway": get_args(Gateway),
    "kind": get_args(Kind),
}
# What every provider with jobs can do; each adds what is its own.
JOB_ABILITIES: dict[str, frozenset[str]] = {
    "outcome": frozenset(CHOICES["outcome"]) - {"callback-exception"},
    "webhook": frozenset(CHOICES["webhook"]) - {"rotated"},
    "create": frozenset(CHOICES["create"]) - {"455", "busy"},
    "output": frozenset(CHOICES["output"]),
    "cancel": frozenset(CHOICES["cancel"]),
}
LONGEST_DELAY = 86_400.0
LONGEST_RECORDING = 3_600.0
LARGEST_FILE = 8 * 1024**3
BRACKET = re.compile(r"\[sim\b([^\]]*)(\]?)")
WORD = re.compile(r'[^\s"]*"[^"]*"|\S+')
SIZE = re.compile(r"(\d+)(B|kB|KB|MB|GB|KiB|MiB|GiB)?")
UNITS = {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# Fields that hold encoded media, where nobody writes a directive.
ENCODED_FIELDS = {"data", "b64_json", "audio_base64"}


class UnknownDirective(ValueError):
    """The prompt asks for something the simulator cannot do; the message names the word."""


@dataclass(frozen=True, slots=True)
class Directives:
    """`delay` and `seconds` are in seconds; `times` None means the fault is permanent; the other None: as usual."""

    delay: float = 0.3
    outcome: Outcome = "succeeded"
    webhook: WebhookFault = "ok"
    create: CreateFault = "ok"
    output: OutputFault = "ok"
    cancel: CancelFault = "ok"
    gateway: Gateway = "same"
    times: int | None = None
    cost: float | None = None
    seconds: float | None = None
    bytes: int | None = None
    say: str | None = None
    kind: Kind | None = None


@dataclass(slots=True)
class Fault[Name: str]:
    """A fault that strikes `times` times (None: for ever) and then leaves things as they should be."""

    kind: Name
    times: int | None
    struck: int = 0

    @property
    def active(self) -> bool:
        return self.kind != "ok" and (self.times is None or self.struck < self.times)

    def strike(self) -> Name | Literal["ok"]:
        """What happens this time: the fault, or `ok` once it is used up."""
        if not self.active:
            return "ok"
        self.struck += 1
        return self.kind


def parse(prompt: str) -> Directives:
    """Raises UnknownDirective for an unknown, repeated or malformed word."""
    return _parse(BRACKET.findall(prompt))


def find(document: object) -> Directives:
    """The directives in all texts of a request; a bracket repeated word by word counts once. Raises as `parse`."""
    return _parse(list(dict.fromkeys(found for text in texts(document) for found in BRACKET.findall(text))))


def require(found: Directives, abilities: Mapping[str, Collection[str]], provider: str) -> None:
    """Raises UnknownDirective unless the provider can do what was asked; `cost` needs an ability of that name."""
    for name in ("outcome", "webhook", "create", "output", "cancel", "gateway"):
        value = getattr(found, name)
        if value not in {"ok", "succeeded", "same"} and value not in abilities.get(name, ()):
            raise UnknownDirective(f"{provider} cannot do {name}={value}")
    if found.cost is not None and "cost" not in abilities:
        raise UnknownDirective(f"{provider} reports no cost here: cost={found.cost:g}")


def texts(document: object) -> Iterator[str]:
    """Every string of a JSON document, those in URLs decoded, encoded media left out."""
    if isinstance(document, str):
        if not document.startswith("data:"):
            yield unquote(document) if document.startswith(("http://", "https://")) else document
    elif isinstance(document, dict):
        for name, value in document.items():
            if name not in ENCODED_FIELDS:
                yield from texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from texts(value)


def caption(prompt: str) -> str:
    """The prompt as a person meant it, without the brackets."""
    return " ".join(BRACKET.sub(" ", prompt).split())


def _parse(brackets: list[tuple[str, str]]) -> Directives:
    # Every value is checked against its field as it goes in, which a type checker cannot follow.
    found: dict[str, Any] = {}
    for words, closed in brackets:
        if not closed:
            raise UnknownDirective("the [sim bracket is never closed")
        for word in WORD.findall(words):
            key, _, value = word.partition("=")
            if key in found:
                raise UnknownDirective(f"directive given twice: {word!r}")
            found[key] = _value(word, key, value.strip('"'))
    return Directives(**found)


def _value(word: str, key: str, value: str) -> str | float | int:
    match key:
        case "delay":
            return _number(word, key, value, LONGEST_DELAY, "seconds")
        case "seconds":
            return _number(word, key, value, LONGEST_RECORDING, "seconds")
        case "cost":
            return _number(word, key, value, 1e12, "units")
        case "times":
            if not (value.isascii() and value.isdigit() and int(value) > 0):
                raise UnknownDirective(f"times must be a whole number from 1: {word!r}")
            return int(value)
        case "bytes":
            return _size(word, value)
        case "say":
            if not value.split():
                raise UnknownDirective(f"say needs words: {word!r}")
            return value
    if key not in CHOICES:
        known = ", ".join([*CHOICES, "delay", "times", "cost", "seconds", "bytes", "say"])
        raise UnknownDirective(f"unknown directive: {word!r} (known: {known})")
    if value not in CHOICES[key]:
        raise UnknownDirective(f"unknown value: {word!r} ({key} is one of {', '.join(CHOICES[key])})")
    return value


def _number(word: str, key: str, value: str, most: float, unit: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise UnknownDirective(f"{key} must be 0 to {most:.0f} {unit}: {word!r}")
    return number


def _size(word: str, value: str) -> int:
    match = SIZE.fullmatch(value)
    size = int(match[1]) * UNITS.get(match[2] or "", 1) if match else 0
    if not 0 < size <= LARGEST_FILE:
        raise UnknownDirective(f"bytes must be a size such as 500MB, at most 8 GiB: {word!r}")
    return size
