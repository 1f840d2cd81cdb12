"""The time as the outside sees it. Pure code takes `now` (epoch seconds) as an argument; handlers read it here."""

import time
from datetime import UTC, datetime


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def iso(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds; strings of it sort as the times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
