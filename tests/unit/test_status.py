"""The life of a job: only the drawn ways, and no way out of an end."""

import itertools
from typing import get_args

import pytest

from shared.jobs.status import TERMINAL, TRANSITIONS, UNFINISHED, Status, before

STATUSES: tuple[Status, ...] = get_args(Status)

DRAWN = {
    ("queued", "submitting"),
    ("submitting", "queued"),
    ("submitting", "processing"),
    ("queued", "processing"),
    ("processing", "storing"),
    ("storing", "succeeded"),
    *itertools.product(("queued", "submitting", "processing", "storing"), ("failed", "canceled", "timed_out")),
}


@pytest.mark.parametrize(("origin", "goal"), list(itertools.product(STATUSES, STATUSES)))
def test_a_status_moves_only_along_the_drawn_transitions(origin: Status, goal: Status) -> None:
    assert (goal in TRANSITIONS[origin]) == ((origin, goal) in DRAWN)
    assert (origin in before(goal)) == ((origin, goal) in DRAWN)


def test_a_terminal_status_never_changes() -> None:
    assert all(not TRANSITIONS[status] for status in TERMINAL)


def test_every_status_is_either_unfinished_or_terminal() -> None:
    assert set(STATUSES) == UNFINISHED | TERMINAL
    assert not UNFINISHED & TERMINAL


def test_every_unfinished_status_can_end() -> None:
    assert all(TRANSITIONS[status] & TERMINAL for status in UNFINISHED)
