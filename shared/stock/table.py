"""The stock table: what Pexels has answered, for a day, and until when it is left alone. Losing it loses nothing."""

import hashlib
import json
from typing import Any

from shared.core import dynamo
from shared.core.settings import settings

KEEP_S = 24 * 3600
STALE_S = 7 * 24 * 3600
"""An answer that is too old is still better than none while Pexels cannot be asked."""

QUOTA = {"id": "quota#pexels"}


def name(*parts: object) -> str:
    """The key of an answer, by what was asked."""
    return "answer#" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def get(key: str) -> tuple[dict[str, Any], float] | None:
    """An answer, and when it was given."""
    item = dynamo.get(settings().stock_table, {"id": key})
    return (json.loads(item["answer"]), float(item["at"])) if item else None


def keep(key: str, answer: dict[str, Any], now: float) -> None:
    item = {"id": key, "answer": json.dumps(answer), "at": now, "expires_at": int(now + STALE_S)}
    dynamo.save(settings().stock_table, item)


def resting_until() -> float:
    """When Pexels may be asked again; in the past if it may be now."""
    item = dynamo.get(settings().stock_table, QUOTA)
    return float(item["until"]) if item else 0.0


def rest(until: float) -> None:
    """Leave Pexels alone until then."""
    dynamo.save(settings().stock_table, {**QUOTA, "until": until, "expires_at": int(until) + 60})
