"""The life of a job: its statuses and the only ways between them.

queued ⇄ submitting → processing → storing → succeeded
queued → processing, for what we do ourselves
any of the first four → failed | canceled | timed_out
"""

from typing import Literal

Status = Literal["queued", "submitting", "processing", "storing", "succeeded", "failed", "canceled", "timed_out"]
Ending = Literal["failed", "canceled", "timed_out"]

UNFINISHED: frozenset[Status] = frozenset({"queued", "submitting", "processing", "storing"})
TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled", "timed_out"})

_ENDINGS: set[Status] = {"failed", "canceled", "timed_out"}
TRANSITIONS: dict[Status, set[Status]] = {
    "queued": {"submitting", "processing", *_ENDINGS},
    "submitting": {"queued", "processing", *_ENDINGS},
    "processing": {"storing", *_ENDINGS},
    "storing": {"succeeded", *_ENDINGS},
    "succeeded": set(),
    "failed": set(),
    "canceled": set(),
    "timed_out": set(),
}


def before(status: Status) -> list[Status]:
    """The statuses from which `status` may be reached, sorted."""
    return sorted(origin for origin, following in TRANSITIONS.items() if status in following)
