"""What an operator relies on: alarms that can go off, a page for each, letters that are not lost, closed defaults."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore import xform_name

from shared.jobs.status import TERMINAL
from shared.publishing.status import TERMINAL as PUBLICATION_ENDINGS
from tests.unit.helpers import ROOT, Json, Tagged, functions, template

RESOURCES: Json = template()["Resources"]
FUNCTIONS = functions()
STACK = Tagged("Ref", "AWS::StackName")
OWN_SERVICE = {"Name": "service", "Value": STACK}
HANDBOOK = (ROOT / "docs" / "OPERATIONS.md").read_text()

# What AWS reports by itself, and by which dimensions.
BY_AWS = {
    ("AWS/ApiGateway", "Count"): {"ApiId"},
    ("AWS/ApiGateway", "4xx"): {"ApiId"},
    ("AWS/ApiGateway", "5xx"): {"ApiId"},
    ("AWS/ApiGateway", "Latency"): {"ApiId"},
    ("AWS/Lambda", "Throttles"): set(),
    ("AWS/Lambda", "ConcurrentExecutions"): set(),
    ("AWS/Lambda", "IteratorAge"): {"FunctionName"},
    ("AWS/States", "ExecutionsStarted"): {"StateMachineArn"},
    ("AWS/States", "ExecutionsSucceeded"): {"StateMachineArn"},
    ("AWS/States", "ExecutionsFailed"): {"StateMachineArn"},
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): {"QueueName"},
}


def of_type(kind: str) -> dict[str, Json]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


ALARMS = {name: resource["Properties"] for name, resource in of_type("AWS::CloudWatch::Alarm").items()}


@cache
def emitted() -> dict[str, set[str]]:
    """Every metric that the code reports, with the dimensions beside `service`."""
    found: dict[str, set[str]] = {}
    for folder in ("shared", "functions"):
        for path in (ROOT / folder).rglob("*.py"):
            for name, dimensions in _told_by(ast.parse(path.read_text())):
                found.setdefault(name, set()).update(dimensions)
    return found


def _told_by(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    for call in ast.walk(module):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
            continue
        if call.func.id not in ("count", "measure", "gauge"):
            continue
        # What `gauge` has beside the value are labels of its line, not dimensions.
        dimensions = {word.arg for word in call.keywords if word.arg} if call.func.id != "gauge" else set()
        match call.args[0]:
            case ast.Constant(value=str(name)):
                yield name, dimensions
            case ast.JoinedStr(values=[ast.Constant(value="Job_"), ast.FormattedValue()]):
                yield from ((f"Job_{status}", dimensions) for status in TERMINAL)
            case ast.JoinedStr(values=[ast.Constant(value="Publication_"), ast.FormattedValue()]):
                yield from ((f"Publication_{ending}", dimensions) for ending in PUBLICATION_ENDINGS)


def test_the_metrics_of_the_code_are_found() -> None:
    assert emitted()["Job_succeeded"] == {"kind", "provider"}
    assert emitted()["BudgetUsedPercent"] == set()


# Alarms


@pytest.mark.parametrize("name", ALARMS)
def test_every_alarm_watches_something_that_is_reported_with_these_dimensions(name: str) -> None:
    alarm = ALARMS[name]
    namespace, metric, dimensions = alarm["Namespace"], alarm["MetricName"], alarm.get("Dimensions", [])

    if namespace == "Atelier":
        assert OWN_SERVICE in dimensions
        assert {each["Name"] for each in dimensions} - {"service"} <= emitted()[metric]
    elif isinstance(namespace, Tagged):
        transformations = [
            made
            for each in of_type("AWS::Logs::MetricFilter").values()
            for made in each["Properties"]["MetricTransformations"]
        ]
        assert (namespace, metric) in [(made["MetricNamespace"], made["MetricName"]) for made in transformations]
        assert dimensions == []
    else:
        assert {each["Name"] for each in dimensions} == BY_AWS[namespace, metric]
        assert all(each["Value"].value.partition(".")[0] in RESOURCES for each in dimensions)


def test_metrics_carry_the_name_of_the_stack_that_alarms_look_for() -> None:
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    assert variables["POWERTOOLS_SERVICE_NAME"] == STACK


@pytest.mark.parametrize("name", ALARMS)
def test_every_alarm_tells_the_topic_when_it_goes_off_and_when_it_is_over(name: str) -> None:
    assert ALARMS[name]["AlarmActions"] == ALARMS[name]["OKActions"] == [Tagged("Ref", "AlarmTopic")]


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_alarming_only_where_something_must_run(name: str) -> None:
    breaching = {"SweeperSilentAlarm", "LedgerUncheckedAlarm"}

    assert ALARMS[name]["TreatMissingData"] == ("breaching" if name in breaching else "notBreaching")


def test_a_silent_sweeper_is_noticed_within_a_quarter_of_an_hour() -> None:
    alarm = ALARMS["SweeperSilentAlarm"]

    assert alarm["Period"] * alarm["EvaluationPeriods"] <= 15 * 60
    assert (alarm["Statistic"], alarm["ComparisonOperator"]) == ("SampleCount", "LessThanThreshold")


def test_the_topic_is_encrypted_with_a_key_that_alarms_may_use() -> None:
    assert RESOURCES["AlarmTopic"]["Properties"]["KmsMasterKeyId"] == Tagged("GetAtt", "AlarmKey.Arn")
    statements = RESOURCES["AlarmKey"]["Properties"]["KeyPolicy"]["Statement"]
    (alarms,) = [each for each in statements if each["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
    assert set(alarms["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}


def test_nobody_is_written_to_by_default() -> None:
    assert template()["Parameters"]["AlarmEmail"]["Default"] == ""
    assert RESOURCES["AlarmSubscription"]["Condition"] == "WithAlarmEmail"


def shown() -> Iterator[tuple[str, str, list[str]]]:
    """Namespace, metric and names of the dimensions of everything on the dashboard."""
    body = re.sub(r"\$\{!", "${", RESOURCES["Dashboard"]["Properties"]["DashboardBody"].value)
    for widget in json.loads(body)["widgets"]:
        for row in widget["properties"]["metrics"]:
            if isinstance(row[0], dict):
                searched = re.search(r"\{(\w+),service,(\w+)\} MetricName=\"(\w+)\"", row[0]["expression"])
                assert searched is not None
                yield searched[1], searched[3], ["service", searched[2]]
            else:
                words = [word for word in row if isinstance(word, str)]
                yield words[0], words[1], words[2::2]


def test_everything_on_the_dashboard_is_reported() -> None:
    shows = list(shown())

    assert len(shows) > 30
    for namespace, metric, dimensions in shows:
        if namespace == "Atelier":
            assert set(dimensions) - {"service"} <= emitted()[metric], metric
        elif namespace != "Atelier/${AWS::StackName}":
            assert set(dimensions) == BY_AWS[namespace, metric]


# Dead letters


def dead_letter_queues() -> set[str]:
    """The queues that something is sent to when it could not be delivered."""
    return {name for name in of_type("AWS::SQS::Queue") if name.endswith("DeadLetters")}


def consumers(kind: str) -> list[tuple[str, Json]]:
    return [
        (name, trigger["Properties"])
        for name, properties in FUNCTIONS.items()
        for trigger in properties.get("Events", {}).values()
        if trigger["Type"] == kind
    ]


def leads_to_dead_letters(arn: Any) -> bool:
    return isinstance(arn, Tagged) and arn.value.removesuffix(".Arn") in dead_letter_queues()


@pytest.mark.parametrize(("name", "trigger"), consumers("DynamoDB"))
def test_every_consumer_of_a_stream_gives_up_in_the_end_and_keeps_what_it_could_not_do(
    name: str, trigger: Json
) -> None:
    assert trigger["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert trigger["BisectBatchOnFunctionError"] is True
    assert 0 < trigger["MaximumRetryAttempts"] <= 100
    assert leads_to_dead_letters(trigger["DestinationConfig"]["OnFailure"]["Destination"]), name


@pytest.mark.parametrize(("name", "trigger"), consumers("SQS"))
def test_every_consumer_of_a_queue_tells_which_messages_failed(name: str, trigger: Json) -> None:
    assert trigger["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name


@pytest.mark.parametrize("name", of_type("AWS::SQS::Queue").keys() - dead_letter_queues())
def test_every_queue_puts_aside_what_nobody_could_take(name: str) -> None:
    redrive = RESOURCES[name]["Properties"]["RedrivePolicy"]

    assert leads_to_dead_letters(redrive["deadLetterTargetArn"])
    assert redrive["maxReceiveCount"] >= 3


@pytest.mark.parametrize(("name", "trigger"), consumers("ScheduleV2") + consumers("S3") + consumers("EventBridgeRule"))
def test_whatever_wakes_a_function_from_afar_has_a_place_for_what_fails(name: str, trigger: Json) -> None:
    assert leads_to_dead_letters(trigger["DeadLetterConfig"]["Arn"])
    assert leads_to_dead_letters(FUNCTIONS[name]["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"])


def test_every_dead_letter_raises_an_alarm() -> None:
    watched = {
        each["Value"].value.removesuffix(".QueueName")
        for alarm in ALARMS.values()
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        for each in alarm["Dimensions"]
    }

    assert watched == dead_letter_queues()


@pytest.mark.parametrize("name", of_type("AWS::SQS::Queue"))
def test_every_queue_is_encrypted(name: str) -> None:
    properties = RESOURCES[name]["Properties"]

    assert properties.get("SqsManagedSseEnabled") is True or "KmsMasterKeyId" in properties


@pytest.mark.parametrize("name", dead_letter_queues())
def test_dead_letters_are_kept_for_two_weeks(name: str) -> None:
    assert RESOURCES[name]["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 60 * 60


# Hardening


@pytest.mark.parametrize("name", of_type("AWS::S3::Bucket"))
def test_every_bucket_is_reached_by_tls_only(name: str) -> None:
    policies = [
        each["Properties"]
        for each in of_type("AWS::S3::BucketPolicy").values()
        if each["Properties"]["Bucket"] == Tagged("Ref", name)
    ]

    (policy,) = policies
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Resource"] == [Tagged("GetAtt", f"{name}.Arn"), Tagged("Sub", f"${{{name}.Arn}}/*")]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("name", of_type("AWS::DynamoDB::Table"))
def test_a_table_that_is_kept_refuses_to_be_deleted_unless_the_parameter_says_otherwise(name: str) -> None:
    table = RESOURCES[name]
    kept = table.get("DeletionPolicy") == "Retain"

    protected = table["Properties"].get("DeletionProtectionEnabled")
    assert protected == (Tagged("If", ["IsProtected", True, False]) if kept else None)
    assert template()["Parameters"]["DeletionProtection"]["Default"] == "true"


@pytest.mark.parametrize("name", of_type("AWS::Logs::LogGroup"))
def test_every_log_ends_after_as_many_days_as_the_parameter_says(name: str) -> None:
    assert RESOURCES[name]["Properties"]["RetentionInDays"] == Tagged("Ref", "LogRetentionDays")


def test_the_api_has_a_ceiling_and_a_log_of_its_own_with_the_request_id() -> None:
    api = RESOURCES["Api"]["Properties"]

    assert api["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": Tagged("Ref", "ApiRatePerSecond"),
        "ThrottlingBurstLimit": Tagged("Ref", "ApiBurst"),
    }
    line = json.loads(api["AccessLogSettings"]["Format"])
    assert line["request_id"] == "$context.requestId"
    assert not {word for word in line.values() if "querystring" in word.lower() or "authorization" in word.lower()}


def test_functions_and_workflows_are_traced() -> None:
    assert template()["Globals"]["Function"]["Tracing"] == "Active"
    for machine in of_type("AWS::Serverless::StateMachine").values():
        assert machine["Properties"]["Tracing"] == {"Enabled": True}


def test_only_what_providers_call_has_a_function_url() -> None:
    assert {name for name, properties in FUNCTIONS.items() if "FunctionUrlConfig" in properties} == {"ReceiveFunction"}


def test_every_suppression_of_a_check_says_why() -> None:
    told = re.findall(r"- id: CKV\w+\n +comment: (.*(?:\n {14,}.*)*)", (ROOT / "template.yaml").read_text())
    everywhere = re.findall(r"((?: *#.*\n)+) *- CKV\w+", (ROOT / ".checkov.yaml").read_text())

    assert len(told) == (ROOT / "template.yaml").read_text().count("CKV_")
    assert len(everywhere) == (ROOT / ".checkov.yaml").read_text().count("CKV_")
    assert all(len(reason) > 40 for reason in told + everywhere)


# The handbook

# Options of the command line itself.
OF_THE_CLI = {"query", "output", "cli-binary-format"}


def test_every_alarm_has_its_page_and_every_page_its_alarm() -> None:
    pages = set(re.findall(r"^### (\w+Alarm)$", HANDBOOK, re.MULTILINE))

    assert pages == ALARMS.keys()


@pytest.mark.parametrize("name", ALARMS)
def test_a_page_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    page = re.search(rf"^### {name}$(.*?)(?=^##|\Z)", HANDBOOK, re.MULTILINE | re.DOTALL)

    assert page is not None
    assert [word for word in ("**Means**", "**Look**", "**Do**") if word not in page[1]] == []


def commands() -> list[str]:
    """Every command of the handbook that is to be typed, those within others by themselves."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", HANDBOOK, re.DOTALL):
        for line in block.splitlines():
            within = re.findall(r"\$\(([^()]*)\)", line)
            found += [*within, re.sub(r"\$\([^()]*\)", "WITHIN", line)]
    return found


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_handbook_exist_with_their_options(command: str) -> None:
    found = re.match(r"aws ([\w-]+) ([\w-]+)", command)
    assert found is not None
    service, name = found.groups()
    model = boto3.session.Session().client(service, region_name="us-east-1").meta.service_model
    operations = {xform_name(operation).replace("_", "-"): operation for operation in model.operation_names}
    shape = model.operation_model(operations[name]).input_shape
    parameters = {xform_name(member).replace("_", "-") for member in shape.members}

    options = set(re.findall(r"(?<=\s)--([a-z][\w-]*)", re.sub(r"'[^']*'", "", command)))
    assert options - parameters <= OF_THE_CLI
    assert {xform_name(member).replace("_", "-") for member in shape.required_members} <= options


def test_what_the_handbook_says_to_look_for_is_logged() -> None:
    sources = "\n".join(
        path.read_text() for folder in ("shared", "functions") for path in (ROOT / folder).rglob("*.py")
    )
    logged = set(re.findall(r'logger\.\w+\(\s*f?"([^"]+)"', sources))

    prose = re.sub(r"```.*?```", "", HANDBOOK, flags=re.DOTALL)
    wanted = set(re.findall(r'"([a-z][a-z\' ]{8,})"', prose))
    assert len(wanted) > 15
    assert {words for words in wanted if not any(words in line for line in logged)} == set()


def test_the_targets_of_the_handbook_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake (?:-s )?(\w+)", HANDBOOK)) <= targets


def test_metrics_and_resources_of_the_handbook_exist() -> None:
    words = set(re.findall(r"`(\w+)`", HANDBOOK))
    parameters = template()["Parameters"].keys()
    ended = ("Table", "Function", "Queue", "DeadLetters", "Secret", "Topic", "Bucket", "Group", "Alarm")

    assert {word for word in words if word.endswith(ended)} <= RESOURCES.keys()
    by_aws = {metric for _, metric in BY_AWS}
    named = {alarm["MetricName"] for alarm in ALARMS.values()}
    outputs = template()["Outputs"].keys()
    known = emitted().keys() | by_aws | named | RESOURCES.keys() | parameters | outputs
    assert {word for word in words if re.fullmatch(r"(?:[A-Z][a-z]+){2,}", word)} <= known
