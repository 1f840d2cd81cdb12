"""Publications without a call: statuses, decisions, requests, and the workflow's definition."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.publishing import accept, status, steps
from shared.publishing.accept import PublicationRequest
from shared.publishing.status import ChannelState, Status
from shared.publishing.steps import Step
from tests.unit.helpers import ROOT, Json, Tagged, functions, template

# Statuses


def test_a_status_that_is_over_never_changes() -> None:
    assert {name for name, following in status.TRANSITIONS.items() if not following} == status.TERMINAL
    assert set(get_args(Status)) == status.TERMINAL | status.UNFINISHED
    assert not status.TERMINAL & status.UNFINISHED


@pytest.mark.parametrize("name", sorted(status.UNFINISHED))
def test_everything_that_is_not_over_can_fail_and_be_canceled(name: Status) -> None:
    assert {"failed", "canceled"} <= status.TRANSITIONS[name]


@pytest.mark.parametrize(
    ("states", "mode", "now", "expected"),
    [
        (["pending"], "now", 100, "submitting"),
        (["queued", "pending"], "schedule", 0, "submitting"),
        (["queued"], "schedule", 99, "scheduled"),
        (["queued"], "schedule", 100, "publishing"),
        (["queued"], "now", 0, "publishing"),
        (["queued", "published"], "schedule", 99, "publishing"),
        (["draft", "draft"], "draft", 0, "draft"),
        (["published", "published"], "now", 0, "published"),
        (["published", "error"], "now", 0, "partly_published"),
        (["published", "canceled"], "schedule", 0, "partly_published"),
        (["error", "error"], "now", 0, "failed"),
        (["error"], "draft", 0, "failed"),
        (["error", "canceled"], "schedule", 0, "failed"),
        (["canceled", "canceled"], "schedule", 0, "canceled"),
    ],
)
def test_what_the_channels_make_of_a_publication(
    states: list[ChannelState], mode: Any, now: int, expected: str
) -> None:
    assert status.overall(mode, states, publish_at=100, now=now) == expected


CHANNEL_STATES = st.lists(st.sampled_from(get_args(ChannelState)), min_size=1, max_size=4)


@given(CHANNEL_STATES, st.sampled_from(["now", "schedule"]), st.integers(0, 200))
def test_a_publication_is_over_exactly_when_every_channel_is(states: list[Any], mode: Any, now: int) -> None:
    if "draft" in states:
        return
    found = status.overall(mode, states, publish_at=100, now=now)

    assert (found in status.TERMINAL) == (set(states) <= status.CHANNEL_ENDED)


@given(CHANNEL_STATES)
def test_the_order_of_the_channels_does_not_matter(states: list[Any]) -> None:
    found = {
        status.overall("schedule", list(order), publish_at=100, now=50) for order in itertools.permutations(states)
    }

    assert len(found) == 1


@pytest.mark.parametrize(
    ("name", "mode", "now", "expected"),
    [
        ("queued", "now", 500, True),
        ("submitting", "now", 0, False),
        ("submitting", "schedule", 39, True),
        ("scheduled", "schedule", 39, True),
        ("scheduled", "schedule", 40, False),
        ("publishing", "schedule", 0, False),
        ("published", "schedule", 0, False),
    ],
)
def test_a_publication_can_be_taken_back_until_a_minute_before_its_time(
    name: Status, mode: Any, now: float, expected: bool
) -> None:
    assert status.cancelable(name, mode, publish_at=100, now=now) is expected


def test_postiz_is_asked_at_the_time_and_then_less_and_less_often() -> None:
    def after(seconds: float, name: Status = "publishing") -> int:
        return status.next_look(name, publish_at=1000, now=1000 + seconds, scale=1)

    assert after(-400, "scheduled") == 400
    assert after(-10 * 86400, "scheduled") == 86400
    assert [after(seconds) for seconds in (0, 60, 400, 2000, 90_000)] == [10, 15, 100, 300, 300]


def test_a_back_off_doubles_has_an_end_and_is_never_shorter_than_asked_for() -> None:
    assert [status.backoff(tries, scale=1) for tries in range(4)] == [2, 4, 8, 16]
    assert status.backoff(30, scale=1) == 300
    assert status.backoff(0, scale=1, asked=90) == 90
    assert status.backoff(0, scale=0.01) == 1


# Requests


def asked(**changes: Any) -> Json:
    return {"text": "Hello", "channels": [{"id": "int-1"}], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "draft"},
        {"mode": "schedule", "publish_at": "2026-12-01T10:00:00Z"},
        {"mode": "schedule", "publish_at": "2026-12-01T10:00:00.5+02:00"},
        {"channels": [{"id": "a", "settings": {"title": "x", "tags": [{"a": 1}]}}, {"id": "b"}]},
    ],
)
def test_a_request_that_is_possible(changes: Json) -> None:
    assert PublicationRequest.model_validate(asked(**changes)).text == "Hello"


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "schedule"},
        {"publish_at": "2026-12-01T10:00:00Z"},
        {"mode": "draft", "publish_at": "2026-12-01T10:00:00Z"},
        {"mode": "schedule", "publish_at": "2026-12-01"},
        {"mode": "schedule", "publish_at": "2026-12-01T10:00:00"},
        {"mode": "schedule", "publish_at": "2026-13-01T10:00:00Z"},
        {"mode": "schedule", "publish_at": 1793527200},
        {"mode": "later"},
        {"text": ""},
        {"text": "\x00"},
        {"text": "x" * 10_001},
        {"channels": []},
        {"channels": [{"id": "a"}, {"id": "a"}]},
        {"channels": [{"id": str(number)} for number in range(21)]},
        {"channels": [{"id": "a", "settings": {"x": "y" * 8000}}]},
        {"channels": [{"id": "a", "settings": {"x": float("nan")}}]},
        {"channels": [{"id": "a", "state": "published"}]},
        {"more": 1},
    ],
)
def test_a_request_that_is_not(changes: Json) -> None:
    with pytest.raises(ValidationError):
        PublicationRequest.model_validate(asked(**changes))


def test_times_with_an_offset_are_the_same_moment() -> None:
    assert accept.seconds("2026-11-01T12:00:00+02:00") == accept.seconds("2026-11-01T10:00:00Z") == 1793527200


# publishing.asl.json, walked

TEXT = (ROOT / "functions/publishing/publishing.asl.json").read_text()
DEFINITION: Json = json.loads(TEXT)
STATES: dict[str, Json] = DEFINITION["States"]
TASKS = [name for name, state in STATES.items() if state["Type"] == "Task"]


def following(name: str) -> Iterator[str]:
    """Every state that can come after this one."""
    state = STATES[name]
    for branch in [state, *state.get("Choices", []), *state.get("Catch", [])]:
        if "Next" in branch:
            yield branch["Next"]
    if "Default" in state:
        yield state["Default"]


def test_every_state_is_reached_and_exists() -> None:
    found, left = {DEFINITION["StartAt"]}, [DEFINITION["StartAt"]]
    while left:
        new = set(following(left.pop())) - found
        found |= new
        left += new

    assert found == STATES.keys()


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_timeout_a_retry_and_a_catch_that_leaves_it_to_the_sweeper(name: str) -> None:
    task = STATES[name]

    assert task["Retry"][-1]["ErrorEquals"] == ["States.ALL"]
    assert 1 <= task["Retry"][-1]["MaxAttempts"] <= 5
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
    assert task["Catch"][-1]["Next"] == "Interrupted"
    assert STATES["Interrupted"]["Type"] == "Fail"
    function = task["Resource"].removeprefix("${").removesuffix("}")
    assert task["TimeoutSeconds"] > functions()[function]["Timeout"]


def test_every_outcome_of_a_step_has_the_branch_of_its_name() -> None:
    branches = {choice["StringEquals"]: choice["Next"] for choice in STATES["Next"]["Choices"]}

    assert branches == {name: "".join(word.capitalize() for word in name.split("_")) for name in get_args(steps.Next)}
    assert all(choice["Variable"] == "$.next" for choice in STATES["Next"]["Choices"])


def test_what_a_pause_reads_is_what_a_step_writes() -> None:
    waits = {name: state for name, state in STATES.items() if state["Type"] == "Wait"}

    assert {name: state["Next"] for name, state in waits.items()} == {
        "UploadAgain": "Upload",
        "SubmitAgain": "Submit",
        "FollowAgain": "Follow",
    }
    for state in waits.values():
        assert state["SecondsPath"].removeprefix("$.") in Step("follow_again", 4).state("pub_1")


def test_every_placeholder_is_substituted_and_nothing_else() -> None:
    substitutions = template()["Resources"]["Publishing"]["Properties"]["DefinitionSubstitutions"]

    assert substitutions == {name: Tagged("GetAtt", f"{name}.Arn") for name in re.findall(r"\$\{(\w+)\}", TEXT)}
