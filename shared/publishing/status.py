"""The life of a publication: its statuses, the only ways between them, and what the posts of its channels make of it.

queued → submitting → scheduled → publishing → published | partly_published
queued → submitting → draft
any that is not over → failed | canceled

A channel is `pending` until its post exists at Postiz, then in the state that Postiz tells. Everything here is pure.
"""

from collections.abc import Sequence
from typing import Literal

Status = Literal[
    "queued",
    "submitting",
    "scheduled",
    "publishing",
    "draft",
    "published",
    "partly_published",
    "failed",
    "canceled",
]
ChannelState = Literal["pending", "queued", "draft", "published", "error", "canceled"]
Mode = Literal["now", "schedule", "draft"]

UNFINISHED: frozenset[Status] = frozenset({"queued", "submitting", "scheduled", "publishing"})
TERMINAL: frozenset[Status] = frozenset({"draft", "published", "partly_published", "failed", "canceled"})

_ENDINGS: set[Status] = {"published", "partly_published", "failed", "canceled"}
TRANSITIONS: dict[Status, set[Status]] = {
    "queued": {"submitting", "failed", "canceled"},
    "submitting": {"scheduled", "publishing", "draft", *_ENDINGS},
    "scheduled": {"publishing", *_ENDINGS},
    "publishing": {"scheduled", *_ENDINGS},
    "draft": set(),
    "published": set(),
    "partly_published": set(),
    "failed": set(),
    "canceled": set(),
}

# What Postiz calls the states of a post.
POSTIZ_STATES: dict[str, ChannelState] = {
    "QUEUE": "queued",
    "DRAFT": "draft",
    "PUBLISHED": "published",
    "ERROR": "error",
}
CHANNEL_ENDED: frozenset[ChannelState] = frozenset({"published", "error", "canceled"})

CANCEL_MARGIN_S = 60
"""So long before its time a post may be on its way out already, and is not taken back any more."""


def before(status: Status) -> list[Status]:
    """The statuses from which `status` may be reached, sorted."""
    return sorted(origin for origin, following in TRANSITIONS.items() if status in following)


def overall(mode: Mode, states: Sequence[ChannelState], *, publish_at: float, now: float) -> Status:
    """The status of a publication whose channels are in these states.

    A channel whose post was taken back or failed does not undo what another has published.
    """
    if "pending" in states:
        return "submitting"
    if "draft" in states:
        return "draft"
    if not CHANNEL_ENDED.issuperset(states):
        waiting = mode == "schedule" and now < publish_at and not CHANNEL_ENDED.intersection(states)
        return "scheduled" if waiting else "publishing"
    if "published" in states:
        return "published" if set(states) == {"published"} else "partly_published"
    return "failed" if "error" in states else "canceled"


def cancelable(status: Status, mode: Mode, *, publish_at: float, now: float, margin: float = CANCEL_MARGIN_S) -> bool:
    """Whether nothing has been published yet and there is time to keep it so."""
    if status == "queued":
        return True
    return mode == "schedule" and status in ("submitting", "scheduled") and now < publish_at - margin


SHORTEST_LOOK_S = 10
LONGEST_LOOK_S = 300
LONGEST_WAIT_S = 24 * 3600


def next_look(status: Status, *, publish_at: float, now: float, scale: float) -> int:
    """Seconds until Postiz is asked again: at the publication's time, then less and less often."""
    if status == "scheduled":
        return max(1, min(LONGEST_WAIT_S, round(publish_at - now)))
    since = max(0.0, now - publish_at)
    return max(1, round(min(max(SHORTEST_LOOK_S * scale, since / 4), LONGEST_LOOK_S * scale)))


def backoff(attempts: int, *, scale: float, asked: float | None = None) -> int:
    """Seconds before the next try: 4, 8, 16 … at most 300, and never sooner than we were asked to wait."""
    return max(1, round(max(min(2.0 ** (attempts + 1), 300.0) * scale, asked or 0)))
