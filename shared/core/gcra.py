"""Rate limits as arithmetic: the generic cell rate algorithm (GCRA), in whole microseconds and without a clock.

A bucket is one number, the theoretical arrival time (`tat`): when it will be as good as untouched. Every request that
is let in moves it one interval on; a request that would move it further ahead than the burst allows is refused. So
within any `t` seconds never more than `quota + t / interval` requests pass, in whatever order they come.
"""

from dataclasses import dataclass

SECOND = 1_000_000


@dataclass(frozen=True)
class Verdict:
    """What becomes of a request: `remaining` more may follow at once; `reset_s` is when the quota is whole again, or,
    of a refused request, when one would be let in. Whole seconds, rounded up, so that who waits as told is let in."""

    allowed: bool
    remaining: int
    reset_s: int


@dataclass(frozen=True)
class Rule:
    """`quota` requests at once, and the whole quota again within `window_s` seconds, evenly."""

    name: str
    quota: int
    window_s: int

    @property
    def interval(self) -> int:
        """Microseconds that one request costs; rounded up, so that rounding lets nobody in."""
        return -(-self.window_s * SECOND // self.quota)

    def room(self, now: int) -> int:
        """The latest `tat` that leaves room for one request more."""
        return now + (self.quota - 1) * self.interval

    def moved(self, tat: int | None, now: int) -> int:
        """The `tat` after a request that is let in."""
        return max(tat or 0, now) + self.interval

    def allowed(self, tat: int, now: int) -> Verdict:
        """A request was let in and moved the bucket to `tat`."""
        used = -(-(tat - now) // self.interval)
        return Verdict(True, max(0, self.quota - used), seconds(tat - now))

    def refused(self, tat: int, now: int) -> Verdict:
        """A request met a bucket that is at `tat`, which leaves no room."""
        return Verdict(False, 0, seconds(tat - self.room(now)))


def seconds(microseconds: int) -> int:
    """Whole seconds, rounded up."""
    return -(-microseconds // SECOND)
