"""What the alarms wait for: the metrics that tell of throttling, failing providers and failing jobs."""

import json

import pytest
from aws_lambda_powertools.utilities.circuit_breaker import CircuitState, CircuitTransition
from botocore.exceptions import ClientError

from shared.core import aws
from shared.jobs import settle
from shared.providers import breaker
from shared.providers.outcomes import Failure
from tests.unit.helpers import Json, Loopback, job


def told(capsys: pytest.CaptureFixture[str]) -> list[Json]:
    """The metrics that were reported, as documents of the embedded metric format."""
    return [line for text in capsys.readouterr().out.splitlines() if "_aws" in (line := json.loads(text))]


def names(metrics: list[Json]) -> list[str]:
    return [metric["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"] for metric in metrics]


def test_every_time_that_aws_tells_us_to_wait_is_counted(
    server: Loopback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    error = {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "slowly"}
    server.says("DynamoDB_20120810.GetItem", error, status=400, content_type="application/x-amz-json-1.0")

    with pytest.raises(ClientError, match="slowly"):
        aws.dynamodb().get_item(TableName="jobs", Key={"id": {"S": "x"}})

    metrics = told(capsys)
    assert names(metrics) == ["AwsThrottled"] * 3
    assert {metric["operation"] for metric in metrics} == {"GetItem"}


def test_an_answer_that_is_no_throttling_is_not_counted(server: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "none"}
    server.says("DynamoDB_20120810.GetItem", error, status=400, content_type="application/x-amz-json-1.0")

    with pytest.raises(ClientError, match="none"):
        aws.dynamodb().get_item(TableName="jobs", Key={"id": {"S": "x"}})

    assert told(capsys) == []


@pytest.mark.parametrize(
    ("state", "expected"),
    [(CircuitState.OPEN, ["CircuitOpened"]), (CircuitState.HALF_OPEN, []), (CircuitState.CLOSED, [])],
)
def test_a_circuit_is_counted_when_it_opens(
    capsys: pytest.CaptureFixture[str], state: CircuitState, expected: list[str]
) -> None:
    breaker._told(CircuitTransition("fal", CircuitState.CLOSED, state, 5))

    metrics = told(capsys)
    assert names(metrics) == expected
    assert [metric["provider"] for metric in metrics] == ["fal"] * len(expected)


def test_a_success_tells_its_time_and_what_it_has_cost(capsys: pytest.CaptureFixture[str]) -> None:
    settle._tell(job(status="succeeded", cost_usd=0.25))

    metrics = {name: metric for metric in told(capsys) for name in names([metric])}
    assert metrics.keys() == {"Job_succeeded", "FailedPercent", "JobSeconds", "ProviderCostUsd"}
    assert metrics["FailedPercent"]["FailedPercent"] == [0.0]
    assert metrics["ProviderCostUsd"]["ProviderCostUsd"] == [0.25]
    assert (metrics["Job_succeeded"]["kind"], metrics["Job_succeeded"]["provider"]) == ("image", "replicate")


@pytest.mark.parametrize(
    ("status", "code", "held_against_us"),
    [
        ("failed", "provider_failed", True),
        ("failed", "provider_unavailable", True),
        ("timed_out", "timed_out", True),
        ("failed", "invalid_input", False),
        ("failed", "content_refused", False),
        ("canceled", "canceled", False),
    ],
)
def test_failures_count_unless_the_caller_has_caused_them(
    capsys: pytest.CaptureFixture[str], status: str, code: str, held_against_us: bool
) -> None:
    settle._tell(job(status=status, error=Failure(code, "Something.")))

    assert names(told(capsys)) == [f"Job_{status}", *(["FailedPercent"] if held_against_us else [])]
