"""What an operator does: type one request id into the documented query, and ask the doctor what is wrong."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from local import doctor
from local.cloud import Stack
from local.doctor import Finding, Site
from tests.e2e.helpers import logged
from tests.support import Json, Studio, sweep

HANDBOOK = (Path(__file__).parent.parent.parent / "docs" / "OPERATIONS.md").read_text()


# The log


def documented_query(request_id: str) -> str:
    found = re.search(r"```cloudwatch\n(.*?)```", HANDBOOK, re.DOTALL)
    assert found is not None
    assert "REQUEST_ID" in found[1]
    return found[1].replace("REQUEST_ID", request_id)


def asked(stack: Stack, query: str) -> list[str]:
    """The messages that a query of CloudWatch Logs Insights finds in the stack's log."""
    logs = stack.client("logs")
    now = int(time.time())
    begun = logs.start_query(
        logGroupNames=[f"/atelier/{stack.stack_name}"], startTime=now - 3600, endTime=now + 60, queryString=query
    )
    answer = logs.get_query_results(queryId=begun["queryId"])
    assert answer["status"] == "Complete"
    return [field["value"] for row in answer["results"] for field in row if field["field"] == "@message"]


def lines_of(messages: list[str]) -> list[Json]:
    """The lines of our own logger: neither metrics nor what Lambda says."""
    return [line for text in messages if text.startswith("{") and "message" in (line := json.loads(text))]


def everything(stack: Stack) -> list[str]:
    """Every line of the stack's log."""
    return list(logged(stack))


def test_one_request_id_finds_every_line_of_its_job_from_http_to_callback(stack: Stack, studio: Studio) -> None:
    name = f"log-{uuid4().hex[:8]}"
    url = f"{stack.simulator_url}/_sim/callbacks/{name}"
    assert studio.http.post("/callbacks/secret/rotate").is_success
    answer = studio.http.post("/images", json={"prompt": "a lighthouse", "callback_url": url})
    assert answer.status_code == 202, answer.text
    request_id, job_id = answer.headers["x-request-id"], answer.json()["id"]
    assert studio.wait(job_id)["status"] == "succeeded"

    deadline = time.monotonic() + 60
    found: list[Json] = []
    while not any(line["message"] == "callback attempted" for line in found):
        assert time.monotonic() < deadline, "no callback in the log"
        time.sleep(1)
        found = lines_of(asked(stack, documented_query(request_id)))

    told = {line["message"] for line in found}
    assert {"accepted", "answered", "result recorded", "webhook answered", "step", "settled"} <= told
    assert {(line["request_id"], line["job_id"]) for line in found} == {(request_id, job_id)}
    # What else is about this job comes of requests that looked at it, and carries their ids.
    others = [line for line in lines_of(everything(stack)) if line.get("job_id") == job_id]
    assert [line for line in others if line.get("request_id") != request_id and "route" not in line] == []


def test_no_secret_is_in_any_log(stack: Stack, studio: Studio) -> None:
    studio.run("a boat in a bottle")
    manager = stack.client("secretsmanager")
    values = [
        manager.get_secret_value(SecretId=name)["SecretString"]
        for output, name in stack.outputs.items()
        if output.endswith("SecretName")
    ]
    secret = [stack.tokens["alice"].rpartition(".")[2], *(text for value in values for text in texts(value))]

    log = "\n".join(everything(stack))

    assert len(secret) > 7
    assert '"message":"settled"' in log
    assert [number for number, text in enumerate(secret) if text in log] == []


def texts(value: str) -> list[str]:
    """What is secret in a secret: the whole, or what its JSON document holds."""
    try:
        document = json.loads(value)
    except json.JSONDecodeError:
        return [value]
    return [*document.get("api_keys", []), *([document["webhook_secret"]] if "webhook_secret" in document else [])]


def test_the_sweeper_reports_jobs_that_should_have_ended_long_ago(stack: Stack, studio: Studio) -> None:
    job = studio.create("[sim outcome=never]", kind="videos")
    stack.client("dynamodb").update_item(
        TableName=stack.tables["jobs"],
        Key={"id": {"S": job["id"]}},
        UpdateExpression="SET deadline_at = :past, abandon_at = :past, sweep_at = :past",
        ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 3600)}},
    )

    sweep(stack)

    reported = [json.loads(text)["JobsOverdue"][0] for text in everything(stack) if '"JobsOverdue":[' in text]
    assert max(reported) >= 1
    assert studio.wait(job["id"])["status"] in ("timed_out", "canceled")


# The doctor


@pytest.fixture
def site(stack: Stack) -> Site:
    return doctor.locally(stack)


def wrong(findings: Iterator[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.remedy is not None]


def test_a_stack_that_is_as_deployed_has_nothing_wrong(
    stack: Stack, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.Stack, "load", lambda _: stack)

    code = doctor.main(None)

    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith("WRONG")] == []
    assert told[-1] == "everything is as it should be"
    assert code == 0
    checked = "\n".join(told)
    for resource in ("AWS::CloudWatch::Alarm", "AWS::Scheduler::Schedule", "AWS::DynamoDB::Table"):
        assert [logical for logical, _ in site.resources[resource] if logical not in checked] == []
    for provider in doctor.QUESTIONS:
        assert f"ok     {provider} accepts key 1 of 1" in told


@contextmanager
def secret(site: Site, provider: str, value: str) -> Iterator[None]:
    manager = site.client("secretsmanager")
    name = f"{site.name}/{provider}"
    before = manager.get_secret_value(SecretId=name)["SecretString"]
    manager.put_secret_value(SecretId=name, SecretString=value)
    try:
        yield
    finally:
        manager.put_secret_value(SecretId=name, SecretString=before)


REVOKED = {
    "replicate": "r8_local_revoked",
    "kie": "kie_local_revoked",
    "fal": "fal_local_revoked",
    "openai": "sk-local-revoked",
    "elevenlabs": "el_local_revoked",
    "gemini": "gm_local_revoked",
    "postiz": "postiz_local_revoked",
    "pexels": "pexels_local_revoked",
}


@pytest.mark.parametrize("provider", doctor.QUESTIONS)
def test_a_key_that_its_provider_refuses_is_found(site: Site, provider: str) -> None:
    document = {"api_keys": [REVOKED[provider]], "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}

    with secret(site, provider, json.dumps(document)):
        findings = list(doctor.check_secrets(site))

    assert wrong(iter(findings)) == [f"{provider} accepts key 1 of 1"]
    assert not [finding for finding in findings if REVOKED[provider] in f"{finding.what} {finding.remedy}"]


@pytest.mark.parametrize(
    ("provider", "value"),
    [
        ("replicate", " "),
        ("fal", "fal_local_key"),
        ("openai", '{"api_keys": []}'),
        ("gemini", '{"api_keys": [""]}'),
        ("kie", '{"api_keys": ["kie_local_key"]}'),
        ("jwt", "too short"),
    ],
)
def test_a_secret_that_is_empty_or_of_another_shape_is_found(site: Site, provider: str, value: str) -> None:
    with secret(site, provider, value):
        assert wrong(doctor.check_secrets(site)) == [f"secret {site.name}/{provider}"]


@contextmanager
def schedule_off(site: Site) -> Iterator[str]:
    scheduler = site.client("scheduler")
    logical, name = next(
        each for each in site.resources["AWS::Scheduler::Schedule"] if each[0].startswith("RecoverJobs")
    )
    found = scheduler.get_schedule(Name=name)
    kept = {key: found[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    scheduler.update_schedule(**kept, State="DISABLED")
    try:
        yield f"schedule {logical} is enabled"
    finally:
        scheduler.update_schedule(**kept, State="ENABLED")


@contextmanager
def alarm_muted(site: Site) -> Iterator[str]:
    cloudwatch = site.client("cloudwatch")
    name = site.physical("OutcomeUnknownAlarm")
    cloudwatch.disable_alarm_actions(AlarmNames=[name])
    try:
        yield "alarm OutcomeUnknownAlarm tells the topic"
    finally:
        cloudwatch.enable_alarm_actions(AlarmNames=[name])


@contextmanager
def letter_undelivered(site: Site) -> Iterator[str]:
    queues = site.client("sqs")
    url = site.physical("ScheduleDeadLetters")
    queues.send_message(QueueUrl=url, MessageBody="{}")
    try:
        yield "ScheduleDeadLetters is empty"
    finally:
        queues.purge_queue(QueueUrl=url)


@contextmanager
def backups_off(site: Site) -> Iterator[str]:
    dynamodb = site.client("dynamodb")
    table = site.physical("CircuitsTable")

    def turn(on: bool) -> None:
        wanted = {"PointInTimeRecoveryEnabled": on}
        dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=wanted)

    turn(False)
    try:
        yield "table CircuitsTable can be restored"
    finally:
        turn(True)


@pytest.mark.parametrize(
    ("sabotage", "check"),
    [
        (schedule_off, doctor.check_schedules),
        (alarm_muted, doctor.check_alarms),
        (letter_undelivered, doctor.check_dead_letters),
        (backups_off, doctor.check_tables),
    ],
)
def test_whatever_was_turned_off_or_left_lying_is_found(
    site: Site,
    sabotage: Callable[[Site], Any],
    check: Callable[[Site], Iterator[Finding]],
) -> None:
    with ExitStack() as restoring:
        expected = restoring.enter_context(sabotage(site))

        assert wrong(check(site)) == [expected]

    assert wrong(check(site)) == []


def test_a_door_that_is_open_or_shut_when_it_should_not_be_is_found(site: Site) -> None:
    elsewhere = Site(**{**vars_of(site), "webhook_url": f"{site.api_url}/v1/health", "api_url": site.webhook_url})

    assert len(wrong(doctor.check_doors(elsewhere))) == 3


def test_what_cannot_be_checked_is_a_finding_and_not_the_end(site: Site) -> None:
    closed = Site(**{**vars_of(site), "api_url": "http://127.0.0.1:9", "status": "ROLLBACK_COMPLETE"})

    told = wrong(doctor.examine(closed))

    assert told[0] == f"stack {site.name} is ROLLBACK_COMPLETE"
    assert len(told) == 2


def vars_of(site: Site) -> Json:
    return {name: getattr(site, name) for name in Site.__dataclass_fields__}
