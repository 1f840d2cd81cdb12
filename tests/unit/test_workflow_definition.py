"""generation.asl.json, walked: nothing waits for ever, nothing is left uncaught, nothing leads nowhere."""

import json
import re
from collections.abc import Iterator
from typing import get_args

import pytest

from shared.jobs import steps
from shared.jobs.steps import Step
from tests.unit.helpers import ROOT, Json, Tagged, functions, template

TEXT = (ROOT / "functions/generation/generation.asl.json").read_text()
DEFINITION: Json = json.loads(re.sub(r"\$\{\w+\}", "60", TEXT))
STATES: dict[str, Json] = DEFINITION["States"]
TASKS = [name for name, state in STATES.items() if state["Type"] == "Task"]
CONDITION_FAILED = {
    "DynamoDb.ConditionalCheckFailedException",
    "DynamoDB.ConditionalCheckFailedException",
}
ENDS = {name for name, state in STATES.items() if state.get("End") or state["Type"] in ("Succeed", "Fail")}


def following(name: str) -> Iterator[str]:
    """Every state that can come after this one."""
    state = STATES[name]
    for branch in [state, *state.get("Choices", []), *state.get("Catch", [])]:
        if "Next" in branch:
            yield branch["Next"]
    if "Default" in state:
        yield state["Default"]


def reached(start: str) -> set[str]:
    """Every state that can come after `start`, and itself."""
    found, left = {start}, [start]
    while left:
        new = set(following(left.pop())) - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_timeout_a_retry_and_a_catch(name: str) -> None:
    task = STATES[name]

    assert task["TimeoutSeconds"] > 0
    assert task["Retry"][-1]["ErrorEquals"] == ["States.ALL"]
    assert 1 <= task["Retry"][-1]["MaxAttempts"] <= 5
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


@pytest.mark.parametrize("name", TASKS)
def test_what_nobody_expected_is_left_to_the_sweeper(name: str) -> None:
    assert STATES[name]["Catch"][-1]["Next"] == "Interrupted"
    assert STATES["Interrupted"]["Type"] == "Fail"


def test_every_state_that_is_named_exists() -> None:
    for name in STATES:
        assert set(following(name)) <= STATES.keys()


def test_every_state_is_reached() -> None:
    assert reached(DEFINITION["StartAt"]) == STATES.keys()


@pytest.mark.parametrize("name", STATES)
def test_every_path_can_end(name: str) -> None:
    assert reached(name) & (ENDS - {"Interrupted"} if name != "Interrupted" else ENDS)


def test_every_outcome_of_a_step_has_a_branch_and_every_branch_an_outcome() -> None:
    branches = [choice["StringEquals"] for choice in STATES["Next"]["Choices"]]

    assert sorted(branches) == sorted(get_args(steps.Next))
    assert all(choice["Variable"] == "$.next" for choice in STATES["Next"]["Choices"])


@pytest.mark.parametrize("outcome", get_args(steps.Next))
def test_an_outcome_goes_to_the_state_of_its_name(outcome: str) -> None:
    (choice,) = [choice for choice in STATES["Next"]["Choices"] if choice["StringEquals"] == outcome]

    assert choice["Next"] == "".join(word.capitalize() for word in outcome.split("_"))


def test_the_way_of_a_generation_with_its_webhook_has_at_most_six_transitions() -> None:
    outcomes = {choice["StringEquals"]: choice["Next"] for choice in STATES["Next"]["Choices"]}
    way = [DEFINITION["StartAt"], outcomes["await"]]
    way.append(STATES[way[-1]]["Next"])
    way.append(STATES[way[-1]]["Next"])
    way.append(outcomes["settle"])

    assert way == ["Next", "Await", "Store", "Next", "Settle"]
    assert way[-1] in ENDS
    assert len(way) <= 6


def test_the_way_of_a_provider_that_answers_at_once_waits_for_nobody() -> None:
    outcomes = {choice["StringEquals"]: choice["Next"] for choice in STATES["Next"]["Choices"]}

    way = [DEFINITION["StartAt"], outcomes["generate"], STATES["Generate"]["Next"], outcomes["settle"]]
    assert way == ["Next", "Generate", "Next", "Settle"]


def test_the_way_of_our_own_work_waits_for_nobody_either() -> None:
    outcomes = {choice["StringEquals"]: choice["Next"] for choice in STATES["Next"]["Choices"]}

    way = [DEFINITION["StartAt"], outcomes["listen"], STATES["Listen"]["Next"], outcomes["settle"]]
    assert way == ["Next", "Listen", "Next", "Settle"]


@pytest.mark.parametrize("name", ["Await", "AwaitLonger"])
def test_a_wait_leaves_its_token_only_while_there_is_no_result(name: str) -> None:
    wait = STATES[name]

    assert wait["Resource"].endswith(":aws-sdk:dynamodb:updateItem.waitForTaskToken")
    condition = wait["Parameters"]["ConditionExpression"]
    assert condition == "#status = :processing AND attribute_not_exists(#result)"
    assert wait["ResultPath"] is None, "what the webhook sends does not become the state"


@pytest.mark.parametrize("name", ["Await", "AwaitLonger"])
def test_a_webhook_that_was_faster_goes_on_to_store_and_a_timeout_to_poll(name: str) -> None:
    first, second, _ = STATES[name]["Catch"]

    assert set(first["ErrorEquals"]) == CONDITION_FAILED
    assert (first["Next"], STATES[name]["Next"]) == ("Store", "Store")
    assert (second["ErrorEquals"], second["Next"]) == (["States.Timeout"], "Poll")
    not_retried = STATES[name]["Retry"][0]
    assert (set(not_retried["ErrorEquals"]), not_retried["MaxAttempts"]) == (CONDITION_FAILED | {"States.Timeout"}, 0)


def test_a_wait_keeps_the_state_whatever_ends_it() -> None:
    for name in ("Await", "AwaitLonger"):
        assert [catch["ResultPath"] for catch in STATES[name]["Catch"]] == [None, None, "$.interruption"]


def test_both_waits_differ_only_in_how_long_they_are() -> None:
    short, long = ({k: v for k, v in STATES[name].items() if k != "Comment"} for name in ("Await", "AwaitLonger"))

    assert short == long
    assert TEXT.count("${PollSeconds}") == TEXT.count("${LongPollSeconds}") == 1


def test_what_a_pause_reads_is_what_a_step_writes() -> None:
    waits = {name: state for name, state in STATES.items() if state["Type"] == "Wait"}

    assert {name: state["Next"] for name, state in waits.items()} == {
        "Backoff": "Submit",
        "GenerateAgain": "Generate",
        "StoreAgain": "Store",
    }
    for state in waits.values():
        assert state["SecondsPath"].removeprefix("$.") in Step("backoff", wait_seconds=4).state("job_1")


def test_what_fail_reads_is_what_a_failing_step_writes() -> None:
    state = steps.fail("failed", "bad_output", "It does not decode.").state("job_1")

    assert (state["ending"], state["error"]) == ("failed", {"code": "bad_output", "detail": "It does not decode."})


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith("Await")])
def test_a_task_waits_longer_than_its_function_may_run(name: str) -> None:
    default = template()["Globals"]["Function"]["Timeout"]

    assert f'"Resource": "${{{name}Function}}"' in TEXT
    assert STATES[name]["TimeoutSeconds"] > functions()[f"{name}Function"].get("Timeout", default)


def test_every_placeholder_is_substituted_and_nothing_else() -> None:
    substitutions = template()["Resources"]["Generation"]["Properties"]["DefinitionSubstitutions"]

    assert set(re.findall(r"\$\{(\w+)\}", TEXT)) == substitutions.keys()
    for name in TASKS:
        if not name.startswith("Await"):
            assert substitutions[f"{name}Function"] == Tagged("GetAtt", f"{name}Function.Arn")
