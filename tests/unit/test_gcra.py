"""The arithmetic of rate limits: never more than the quota at once and the rate after it, whatever the order."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.gcra import SECOND, Rule

RULES = st.builds(Rule, st.just("create"), st.integers(1, 200), st.integers(1, 600))
GAPS = st.lists(st.integers(0, 30 * SECOND) | st.just(0), max_size=150)
START = 1_790_848_800 * SECOND


def passed(rule: Rule, times: list[int]) -> list[int]:
    """The times of the requests that are let in, one bucket after the other's end state."""
    tat, found = 0, []
    for now in times:
        if tat <= rule.room(now):
            tat = rule.moved(tat, now)
            found.append(now)
    return found


@given(RULES, GAPS)
def test_never_more_pass_than_the_quota_and_the_rate(rule: Rule, gaps: list[int]) -> None:
    found = passed(rule, list(accumulate(gaps, initial=START)))

    for first in range(len(found)):
        for last in range(first, len(found)):
            elapsed = found[last] - found[first]
            assert last - first + 1 <= rule.quota + elapsed / rule.interval


@given(RULES, st.lists(st.integers(0, 60 * SECOND), max_size=60))
def test_clocks_that_disagree_let_nobody_in_twice(rule: Rule, moments: list[int]) -> None:
    """Requests of several processes reach the bucket in an order that is not that of their clocks."""
    found = passed(rule, [START + moment for moment in moments])

    elapsed = max(found, default=0) - min(found, default=0)
    assert len(found) <= rule.quota + elapsed / rule.interval


@given(RULES)
def test_the_whole_quota_passes_at_once_and_no_request_more(rule: Rule) -> None:
    assert len(passed(rule, [START] * (rule.quota + 5))) == rule.quota


@given(RULES)
def test_who_waits_exactly_as_told_is_let_in_and_a_second_less_is_too_early(rule: Rule) -> None:
    tat = 0
    for _ in range(rule.quota):
        tat = rule.moved(tat, START)
    assert tat > rule.room(START)

    told = rule.refused(tat, START)

    assert not told.allowed
    assert told.remaining == 0
    assert tat <= rule.room(START + told.reset_s * SECOND)
    assert tat > rule.room(START + (told.reset_s - 1) * SECOND)


@given(RULES, GAPS)
def test_what_is_said_to_remain_can_be_used_at_once(rule: Rule, gaps: list[int]) -> None:
    tat = 0
    for now in accumulate(gaps, initial=START):
        if tat > rule.room(now):
            continue
        tat = rule.moved(tat, now)
        told = rule.allowed(tat, now)

        at_once = 0
        later = tat
        while later <= rule.room(now):
            later = rule.moved(later, now)
            at_once += 1
        assert told.remaining == at_once


@given(RULES, st.integers(1, 400))
def test_after_the_reset_the_quota_is_whole_again(rule: Rule, requests: int) -> None:
    tat = 0
    for _ in range(min(requests, rule.quota)):
        tat = rule.moved(tat, START)

    later = START + rule.allowed(tat, START).reset_s * SECOND

    assert tat <= later
    assert later - tat < SECOND


@given(RULES, st.integers(1, 50))
def test_a_steady_client_at_the_rate_is_never_refused(rule: Rule, requests: int) -> None:
    times = [START + number * rule.interval for number in range(requests)]

    assert passed(rule, times) == times


@pytest.mark.parametrize(
    ("quota", "window_s", "interval"), [(60, 60, SECOND), (600, 60, 100_000), (7, 60, 8_571_429), (100_000, 10, 100)]
)
def test_an_interval_is_the_window_divided_and_rounded_against_the_caller(
    quota: int, window_s: int, interval: int
) -> None:
    rule = Rule("x", quota, window_s)

    assert rule.interval == interval
    assert rule.interval * quota >= window_s * SECOND


def test_the_first_of_sixty_a_minute_leaves_fifty_nine_and_is_forgotten_after_a_second() -> None:
    rule = Rule("create", 60, 60)

    told = rule.allowed(rule.moved(None, START), START)

    assert (told.allowed, told.remaining, told.reset_s) == (True, 59, 1)
