"""When a callback is tried again, and what an answer means for it."""

import math
from email.utils import parsedate_to_datetime
from typing import Literal

DELAYS_S = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600)
"""Seconds before each attempt, counted from the end of the one before."""

JITTER = 0.1
LONGEST_RETRY_AFTER_S = 24 * 3600

Verdict = Literal["delivered", "disabled", "failed"]


def verdict(status_code: int | None) -> Verdict:
    """What an answer means; None is none. A redirect is a failure like any other, and never followed."""
    if status_code is None:
        return "failed"
    if 200 <= status_code < 300:
        return "delivered"
    return "disabled" if status_code == 410 else "failed"


def pause(tries: int, *, retry_after: float | None, chance: float, scale: float) -> float | None:
    """Seconds until the next attempt, after so many that failed; None when that was the last.

    `chance` (0 to 1) spreads receivers' load; a receiver that asks for more time gets it, up to a day.
    """
    if tries >= len(DELAYS_S):
        return None
    planned = DELAYS_S[tries] * scale * (1 + JITTER * chance)
    asked = min(retry_after or 0.0, LONGEST_RETRY_AFTER_S * scale)
    return max(planned, asked)


def retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a `Retry-After` header asks for, in either of its spellings; None where it makes no sense."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
