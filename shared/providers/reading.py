"""Reading what providers say about the same things in different ways: URLs, numbers, progress, refusals."""

import json
import math
import re
from typing import Any

MOST_OUTPUTS = 16
LONGEST_URL = 2048
LOG_TAIL = 4096

URL = re.compile(r"https?://[^\s\x00-\x20\x7f\ud800-\udfff]+")
PERCENT = re.compile(r"(?<![\d.])(\d{1,3})(?:\.\d+)?\s?%")
STEP = re.compile(r"(?<![\d/])(\d{1,6})/(\d{1,6})(?![\d/])")
IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

# Where a provider has no code for a refusal, the text of the error is all there is.
REFUSAL = re.compile(r"\b(nsfw|safety|content polic(?:y|ies)|flagged|sensitive|moderation)\b", re.IGNORECASE)


def is_url(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_URL and URL.fullmatch(value) is not None


def urls(value: Any) -> list[str]:
    """Every URL in a string, a list, an object, or JSON in a string of any of them, in their order."""
    found: list[str] = []
    waiting, looked_at = [value], 0
    while waiting and len(found) < MOST_OUTPUTS and looked_at < 1000:
        current, looked_at = waiting.pop(), looked_at + 1
        if is_url(current):
            found.append(current)
        elif isinstance(current, str):
            inner = loads(current)
            waiting.extend([] if isinstance(inner, str) else [inner])
        elif isinstance(current, list):
            waiting.extend(reversed(current))
        elif isinstance(current, dict):
            waiting.extend(reversed(list(current.values())))
    return list(dict.fromkeys(found))


def loads(value: Any) -> Any:
    """JSON in a string; what is no string is as it is, and what is no JSON is None."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def identifier(value: Any) -> str:
    """The id of a prediction. Raises ValueError for what cannot be one."""
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value) or set(value) <= {"."}:
        raise ValueError("no prediction")
    return value


def number(value: Any, *, most: float = 1e9) -> float | None:
    """A number from 0 to `most`, also in a string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and 0 <= found <= most else None


def percent(value: Any) -> int | None:
    """A progress from 0 to 100."""
    found = number(value, most=100)
    return None if found is None else int(found)


def progress(log: Any) -> int | None:
    """The last `NN%` of a log, or else its last `step n/m`."""
    if not isinstance(log, str):
        return None
    tail = log[-LOG_TAIL:]
    told = PERCENT.findall(tail)
    if told:
        return min(100, int(told[-1]))
    steps = [(int(done), int(of)) for done, of in STEP.findall(tail)]
    done, of = steps[-1] if steps else (0, 0)
    return 100 * done // of if 0 < of >= done else None


def refused(text: str) -> bool:
    """Whether the text of an error says that the content was refused."""
    return REFUSAL.search(text) is not None
