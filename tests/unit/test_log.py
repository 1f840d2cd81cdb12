"""shared/core/log: what a line carries, what it hides, and what a metric looks like."""

import io
import json

import pytest
from aws_lambda_powertools.metrics import MetricUnit

from shared.core import log as logs
from shared.core import secrets
from shared.core.log import about, count, gauge, logger, masked, measure
from tests.unit.helpers import Json, Loopback, token

URL = "https://media.s3.amazonaws.com/assets/a.png"


def lines(text: str) -> list[Json]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "secret",
    [
        token(),
        "atl_live_0123456789abcdefABCDEF",
        "r8_0123456789abcdefghijABCDEFGHIJ",
        "sk-proj-abcdEFGH1234_5678-abcd",
        "sk_0123456789abcdef0123456789abcdef",
        "AIzaSyA-0123456789abcdefghijklmnop",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef",
        "AQCEAAAAKgAAAAMAAAAAAAAAAe" + "0aBcD" * 20,
    ],
)
def test_what_looks_like_a_secret_is_masked_wherever_it_stands(log: io.StringIO, secret: str) -> None:
    logger.info(f"before {secret} after", field=secret, nested={"deep": [f"x={secret}"]})
    try:
        raise ValueError(f"refused: {secret}")
    except ValueError:
        logger.exception("went wrong")

    assert secret not in log.getvalue()
    first, second = lines(log.getvalue())
    assert first["message"].startswith("before ***")
    assert first["message"].endswith(" after")
    assert "ValueError: refused: ***" in second["exception"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdefghijklmnop.qrstuvw", "Authorization: Bearer ***"),
        ("Authorization: Key 0123456789abcdef:0123", "Authorization: Key ***"),
        ('{"authorization": "anything at all"}', '{"authorization": "***"}'),
        ('{"task_token": "anything at all"}', '{"task_token": "***"}'),
        (f"{URL}?X-Amz-Signature=00ff&X-Amz-Date=1", f"{URL}?X-Amz-Signature=***&X-Amz-Date=1"),
        (f"{URL}?X-Amz-Date=1&X-Amz-Security-Token=a%2Fb", f"{URL}?X-Amz-Date=1&X-Amz-Security-Token=***"),
        ("wss://x/prod?ticket=abc", "wss://x/prod?ticket=***"),
    ],
)
def test_what_stands_where_secrets_stand_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "key certainly not",
        "job_01HZZZZZZZZZZZZZZZZZZZZZZZ asset_01HZZZZZZZZZZZZZZZZZZZZZZZ",
        "https://api.example.com/v1/jobs?limit=10&cursor=abc",
        "40419bb6-60f0-4771-ace1-b93e63e85ffe",
        "atelier/replicate sk- whsec_",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert masked(text) == text


def test_a_secret_that_was_read_is_masked_whatever_it_looks_like(
    environment: pytest.MonkeyPatch, cloud: Loopback, log: io.StringIO
) -> None:
    key = "0123456789abcdef0123456789abcdef"
    cloud.keeps_secrets({"atelier/kie": json.dumps({"api_keys": [key], "webhook_secret": 'qu"oted-secret'})})

    assert secrets.document("atelier/kie")["api_keys"] == [key]
    logger.info(f"asking with {key}", signed_with='qu"oted-secret')

    assert key not in log.getvalue()
    (line,) = lines(log.getvalue())
    assert (line["message"], line["signed_with"]) == ("asking with ***", "***")


def test_a_short_text_is_not_taken_for_a_secret() -> None:
    logs.hide("image")

    assert masked("an image") == "an image"


def test_lines_about_a_job_carry_the_id_of_the_request_that_created_it(log: io.StringIO) -> None:
    logger.append_keys(request_id="sweep-1")
    with about("job_1", None):
        logger.info("found")
        logger.append_keys(request_id="request-1")
        logger.info("read")
    with about("job_2", "request-2"):
        logger.info("known")
    logger.info("swept")

    told = [(line["message"], line.get("job_id"), line["request_id"]) for line in lines(log.getvalue())]
    assert told == [
        ("found", "job_1", "sweep-1"),
        ("read", "job_1", "request-1"),
        ("known", "job_2", "request-2"),
        ("swept", None, "sweep-1"),
    ]


def test_a_metric_is_counted_as_a_whole_and_by_each_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    with about("job_1", "request-1"):
        count("Job_failed", kind="image", provider="fal")

    (line,) = lines(capsys.readouterr().out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Atelier"
    assert directive["Dimensions"] == [["service"], ["service", "kind"], ["service", "provider"]]
    assert directive["Metrics"] == [{"Name": "Job_failed", "Unit": "Count"}]
    assert (line["service"], line["kind"], line["provider"]) == (logger.service, "image", "fal")
    assert line["Job_failed"] == [1.0]
    assert (line["job_id"], line["request_id"]) == ("job_1", "request-1")


def test_percentages_and_seconds_have_their_units(capsys: pytest.CaptureFixture[str]) -> None:
    gauge("BudgetUsedPercent", 81.5, provider="fal")
    measure("JobSeconds", 4.25, MetricUnit.Seconds, kind="image")

    percent, seconds = lines(capsys.readouterr().out)
    assert percent["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "BudgetUsedPercent", "Unit": "Percent"}]
    assert percent["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    assert (percent["BudgetUsedPercent"], percent["provider"]) == ([81.5], "fal")
    assert seconds["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "JobSeconds", "Unit": "Seconds"}]
    assert seconds["JobSeconds"] == [4.25]
