"""Answers that are remembered under their Idempotency-Key, for changes that leave nothing else behind to meet again.

One item per account, operation and key, written in the transaction of the change itself: of two that come at once, one
changes something and both get its answer. It is kept for a day.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from shared.core import dynamo, ids, web
from shared.core.dynamo import Item, Refused, Write
from shared.core.settings import settings

KEEP_S = 24 * 3600


def fingerprint(request: Any) -> str:
    """What two requests must have in common to be one."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def commit(
    account: str, operation: str, key: str | None, *, request: Any, answer: Item, writes: Sequence[Write], now: float
) -> tuple[Item, bool]:
    """Apply the writes; the answer, and whether it is that of an earlier request with the same key.

    Raises Invalid when the key was used with another request, and Refused when a condition of `writes` does not hold
    (its first member is then that of `writes`).
    """
    if key is None:
        dynamo.transact(writes)
        return answer, False
    item = {
        "id": f"once#{ids.derived('once', account, operation, key)}",
        "request_hash": fingerprint(request),
        "answer": json.dumps(answer),
        "expires_at": int(now) + KEEP_S,
    }
    try:
        dynamo.transact([dynamo.put(settings().access_table, item), *writes])
    except Refused as refused:
        if not refused.refusals[0]:
            raise Refused(refused.refusals[1:], refused.found[1:]) from refused
        met = refused.found[0]
        if met is None or met["request_hash"] != item["request_hash"]:
            raise web.key_reused() from refused
        return json.loads(met["answer"]), True
    return answer, False
