"""What template.yaml promises: closed doors, kept data, and no permission too many."""

import json
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

from api import openapi
from shared.core import limits
from shared.core.errors import Unavailable
from shared.core.settings import PROVIDERS, SERVICES, MissingSetting, from_environment, settings
from shared.core.web import OPEN, Api
from shared.jobs import budget, catalog, decide
from shared.jobs.catalog import Kind
from shared.jobs.requests import REQUESTS
from shared.providers.registry import GENERATORS, PREDICTORS
from shared.publishing import publish
from tests.unit.helpers import (
    ENVIRONMENT,
    ROOT,
    Context,
    Json,
    Loopback,
    Tagged,
    event,
    functions,
    problem,
    routes,
    template,
)

RESOURCES: Json = template()["Resources"]
FUNCTIONS = functions()
ROUTES = routes()
OPEN_ROUTES = {"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs", "$default"}


def of_type(kind: str) -> dict[str, Json]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def statements(properties: Json) -> Iterator[Json]:
    for policy in properties.get("Policies", []):
        yield from policy["Statement"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def app_of(handler: str) -> Api:
    app = import_module(handler.rpartition(".")[0]).app
    assert isinstance(app, Api)
    return app


def test_every_resource_that_is_everything_says_why() -> None:
    for number, line in enumerate((ROOT / "template.yaml").read_text().splitlines(), start=1):
        stripped = line.split("#")[0]
        if '"*"' in stripped or stripped.rstrip().endswith(("Resource: *", "- *", "'*'")):
            assert "#" in line, f"template.yaml:{number}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_may_do_everything_of_a_service(name: str) -> None:
    for statement in statements(FUNCTIONS[name]):
        assert statement["Effect"] == "Allow"
        assert not [action for action in listed(statement["Action"]) if "*" in action]


# The HTTP API


def documented() -> dict[str, Json]:
    """`METHOD /path` of every operation that the functions themselves describe."""
    answer = openapi.handler(event("GET", "/v1/openapi.json"), Context())
    assert answer["statusCode"] == 200
    paths = json.loads(answer["body"])["paths"]
    return {
        f"{method.upper()} {path}": operation
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def test_every_route_of_the_template_is_in_the_code_and_the_other_way_round() -> None:
    assert ROUTES.keys() - {"$default"} == documented().keys()


@pytest.mark.parametrize("route", ROUTES.keys() - {"$default"})
def test_every_route_goes_to_the_function_that_has_it(route: str) -> None:
    method, path = route.split(" ")
    app = app_of(ROUTES[route])
    schema = json.loads(app.get_openapi_json_schema())

    assert method.lower() in schema["paths"][path]


def test_only_health_the_document_and_the_default_route_are_open() -> None:
    assert {route for route, handler in ROUTES.items() if app_of(handler).scope is OPEN} == OPEN_ROUTES


@pytest.mark.parametrize("route", ROUTES.keys() - OPEN_ROUTES)
@pytest.mark.parametrize("authorization", [None, "Bearer a.b.c"])
def test_every_other_route_is_closed_without_a_token(cloud: Loopback, route: str, authorization: str | None) -> None:
    method, path = route.split(" ")
    handler = import_module(ROUTES[route].rpartition(".")[0]).handler
    headers = {"authorization": authorization} if authorization else {}

    answer = handler(event(method, path, headers=headers, body={} if method == "POST" else None), Context())

    assert problem(answer)["code"] == "unauthorized"
    assert answer["statusCode"] == 401


def test_the_document_says_which_operations_need_what() -> None:
    security = {route: operation["security"] for route, operation in documented().items()}

    assert {route for route, needed in security.items() if needed == []} == OPEN_ROUTES - {"$default"}
    assert {route for route, needed in security.items() if "admin" in json.dumps(needed)} == {
        route for route in ROUTES if " /v1/admin/" in route
    }


DOOR = {("dynamodb:BatchGetItem", "AccessTable.Arn"), ("dynamodb:UpdateItem", "LimitsTable.Arn")}


@pytest.mark.parametrize("name", [name for name, told in FUNCTIONS.items() if told["Handler"].startswith("api.")])
def test_every_function_of_the_api_can_ask_at_the_door_what_it_needs(name: str) -> None:
    """Whether a token was revoked, and how often somebody was here; an open one needs no more than the second."""
    rights = {
        (action, resource.value)
        for statement in statements(FUNCTIONS[name])
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if isinstance(resource, Tagged)
    }

    is_open = app_of(FUNCTIONS[name]["Handler"]).scope is OPEN
    assert rights & DOOR == (DOOR - {("dynamodb:BatchGetItem", "AccessTable.Arn")} if is_open else DOOR)


def test_only_the_doors_own_functions_may_change_who_may_come_in() -> None:
    writing = {
        name
        for name, properties in FUNCTIONS.items()
        for statement in statements(properties)
        if Tagged("GetAtt", "AccessTable.Arn") in listed(statement["Resource"])
        and {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"} & set(listed(statement["Action"]))
    }

    assert writing >= {"ApiKeysFunction", "RevokeFunction", "AccountsFunction"}
    assert not [name for name in writing if name.startswith(("Create", "Jobs", "Credits", "Models", "Assets"))]


def test_only_one_function_can_derive_api_keys() -> None:
    assert [name for name in FUNCTIONS if "api-keys" in secrets_of(FUNCTIONS[name])] == ["ApiKeysFunction"]


def test_the_plans_that_a_stack_can_have_are_those_of_the_file() -> None:
    assert set(template()["Parameters"]["DefaultPlan"]["AllowedValues"]) == limits.plans().keys()


def test_no_route_needs_an_authorizer_that_could_be_forgotten() -> None:
    assert "Auth" not in RESOURCES["Api"]["Properties"]
    assert all(
        "Auth" not in trigger["Properties"]
        for properties in FUNCTIONS.values()
        for trigger in properties.get("Events", {}).values()
    )


# What is kept


@pytest.mark.parametrize("name", of_type("AWS::DynamoDB::Table"))
def test_every_table_is_encrypted_backed_up_and_kept(name: str) -> None:
    table = RESOURCES[name]

    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    encryption = table["Properties"]["SSESpecification"]
    assert (encryption["SSEEnabled"], encryption["SSEType"]) == (True, "KMS")
    # Which providers are left alone for half a minute, and who was here how often, is not worth keeping.
    kept = name not in ("CircuitsTable", "LimitsTable", "ConnectionsTable", "StockTable")
    assert (table.get("DeletionPolicy") == "Retain", table.get("UpdateReplacePolicy") == "Retain") == (kept, kept)


@pytest.mark.parametrize("name", of_type("AWS::S3::Bucket"))
def test_every_bucket_is_private_encrypted_and_kept(name: str) -> None:
    bucket = RESOURCES[name]

    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["BucketEncryption"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", of_type("AWS::SecretsManager::Secret"))
def test_no_secret_has_a_value(name: str) -> None:
    generated = {"GenerateSecretString"} if name == "ApiKeysSecret" else set()

    assert RESOURCES[name]["Properties"].keys() - {"KmsKeyId"} == {"Name", "Description"} | generated


def test_every_provider_has_a_secret_of_the_name_that_is_asked_for(environment: pytest.MonkeyPatch) -> None:
    named = {resource["Properties"]["Name"].value for resource in of_type("AWS::SecretsManager::Secret").values()}

    names = [settings().secret_name(name) for name in (*PROVIDERS, *SERVICES)]
    wanted = {name.replace("atelier/", "${AWS::StackName}/") for name in names}
    assert named == wanted | {"${AWS::StackName}/jwt", "${AWS::StackName}/api-keys"}


def test_only_what_we_can_lose_expires() -> None:
    expiring = {
        name: table["Properties"].get("TimeToLiveSpecification", {}).get("AttributeName")
        for name, table in of_type("AWS::DynamoDB::Table").items()
    }

    # Accounts, holds, entries and assets are written without this attribute.
    assert expiring == {
        "JobsTable": "expires_at",
        "LedgerTable": "expires_at",
        "AssetsTable": "expires_at",
        "CircuitsTable": "expiration",
        "AccessTable": "expires_at",
        "ProjectsTable": "expires_at",
        "ProjectListsTable": None,
        "AuditTable": "expires_at",
        "LimitsTable": "expires_at",
        "DeliveriesTable": "expires_at",
        "ConnectionsTable": "expires_at",
        "PublicationsTable": "expires_at",
        "StockTable": "expires_at",
    }


def test_no_private_origin_is_allowed_by_default() -> None:
    assert template()["Parameters"]["AllowedPrivateOrigins"]["Default"] == ""


def test_the_environment_has_every_setting(environment: pytest.MonkeyPatch) -> None:
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    from_environment({**dict.fromkeys(variables, "1"), "PROVIDER_BUDGETS_USD": ""})
    for name in variables.keys() - {"POWERTOOLS_LOG_LEVEL", "POWERTOOLS_SERVICE_NAME"}:
        with pytest.raises(MissingSetting, match=name):
            from_environment({other: "1" for other in variables if other != name})


def test_the_defaults_of_the_parameters_are_settings_that_can_be_read() -> None:
    parameters = template()["Parameters"]
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]
    values = {
        name: str(parameters[value.value]["Default"]) if getattr(value, "value", "") in parameters else "x"
        for name, value in variables.items()
    }

    told = from_environment(values)

    assert told.base_urls.keys() == {*PROVIDERS, *SERVICES}
    assert all(url.startswith("https://") and not url.endswith("/") for url in told.base_urls.values())
    assert (told.budgets_usd, told.jobs_in_flight, told.provider_timeout, told.generate_timeout) == ({}, 100, 10, 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" ", {}),
        ("replicate=200,kie=50", {"replicate": 200, "kie": 50}),
        (" fal = 0.5 , gemini=0,", {"fal": 0.5, "gemini": 0}),
    ],
)
def test_budgets_are_dollars_a_day_by_provider(text: str, expected: dict[str, float]) -> None:
    assert from_environment({**ENVIRONMENT, "PROVIDER_BUDGETS_USD": text}).budgets_usd == expected


@pytest.mark.parametrize("text", ["replicate", "replicate=", "replicate=much"])
def test_a_budget_that_is_no_number_is_no_setting(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        from_environment({**ENVIRONMENT, "PROVIDER_BUDGETS_USD": text})


# The workflow


def test_the_state_machine_may_invoke_its_seven_functions_and_update_jobs_and_nothing_else() -> None:
    machine = RESOURCES["Generation"]

    allowed = {
        (action, resource.value if isinstance(resource, Tagged) else resource)
        for statement in statements(machine["Properties"])
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
    steps = ("Submit", "Generate", "Listen", "Poll", "Store", "Settle", "Fail")
    assert allowed == {("dynamodb:UpdateItem", "JobsTable.Arn")} | {
        ("lambda:InvokeFunction", f"{step}Function.Arn") for step in steps
    }


def test_the_state_machine_of_publications_may_invoke_its_three_functions_and_nothing_else() -> None:
    allowed = {
        (action, resource.value)
        for statement in statements(RESOURCES["Publishing"]["Properties"])
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }

    assert allowed == {
        ("lambda:InvokeFunction", f"{step}Function.Arn") for step in ("UploadPost", "SubmitPost", "FollowPost")
    }


@pytest.mark.parametrize("name", ["UploadPost", "SubmitPost", "FollowPost", "SweepPublications", "Publications"])
def test_only_functions_of_publishing_read_the_key_of_postiz(name: str) -> None:
    assert secrets_of(FUNCTIONS[f"{name}Function"]) == {"postiz"}


def test_a_create_call_ends_before_its_attempt_is_believed_lost() -> None:
    assert FUNCTIONS["SubmitPostFunction"]["Timeout"] <= publish.CREATE_LIMIT_S


def test_a_function_behind_the_api_ends_before_the_api_gives_up() -> None:
    default = template()["Globals"]["Function"]["Timeout"]

    for properties in FUNCTIONS.values():
        if properties["Handler"].startswith("api."):
            assert properties.get("Timeout", default) < 30


def test_only_functions_that_create_predictions_know_the_webhook_url() -> None:
    knowing = {
        properties["Handler"]
        for properties in FUNCTIONS.values()
        if "WEBHOOK_URL" in properties.get("Environment", {}).get("Variables", {})
    }

    assert knowing == {f"api.create_{kind}.handler" for kind in PREDICTED} | {"generation.submit.handler"}


def providers_of(kind: Kind) -> set[str]:
    return {model.provider for model in catalog.of_kind(kind)}


PREDICTED = {kind.replace("-", "_") for kind in REQUESTS if providers_of(kind) & PREDICTORS}


def secrets_of(properties: Json) -> set[str]:
    """The providers whose keys a function may read."""
    resources = [
        resource.value
        for statement in statements(properties)
        for resource in listed(statement["Resource"])
        if statement["Action"] == "secretsmanager:GetSecretValue"
    ]
    return {resource.rpartition("/")[2].removesuffix("-*") for resource in resources} - {"jwt"}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_function_that_creates_reads_the_keys_of_its_kinds_providers_and_no_others(kind: Kind) -> None:
    (properties,) = (
        properties
        for properties in FUNCTIONS.values()
        if properties["Handler"] == f"api.create_{kind.replace('-', '_')}.handler"
    )

    assert secrets_of(properties) == providers_of(kind)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CreateBatchFunction", set(PROVIDERS)),
        ("SubmitFunction", PREDICTORS),
        ("GenerateFunction", GENERATORS),
        ("ListenFunction", set()),
        ("CreateSilenceCutsFunction", set()),
        ("PollFunction", PREDICTORS),
        ("StoreFunction", PREDICTORS),
        ("ReceiveFunction", PREDICTORS),
        ("SweepJobsFunction", PREDICTORS),
        ("RecoverJobsFunction", PREDICTORS),
        ("CancelJobFunction", PREDICTORS),
        ("SettleFunction", set()),
        ("FailFunction", set()),
        ("GetBatchFunction", set()),
    ],
)
def test_a_function_reads_the_keys_of_the_providers_it_calls(name: str, expected: set[str]) -> None:
    assert secrets_of(FUNCTIONS[name]) == expected


def allowed(name: str, table: str) -> set[str]:
    """What a function may do with a table."""
    return {
        action
        for statement in statements(FUNCTIONS[name])
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if resource == Tagged("GetAtt", f"{table}.Arn")
    }


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("Create") and "Batch" not in name])
def test_a_function_that_creates_can_answer_the_repeat_of_a_request(name: str) -> None:
    assert {"dynamodb:GetItem", "dynamodb:PutItem"} <= allowed(name, "JobsTable")


@pytest.mark.parametrize("kind", [kind for kind, request in REQUESTS.items() if request.media])
def test_a_function_whose_requests_have_files_may_look_them_up(kind: str) -> None:
    name = "".join(word.capitalize() for word in kind.split("-"))

    assert allowed(f"Create{name}Function", "AssetsTable") == {"dynamodb:GetItem"}


def test_every_function_that_reads_media_has_what_reads_it() -> None:
    with_layer = {
        name for name, properties in FUNCTIONS.items() if Tagged("Ref", "MediaLayer") in properties.get("Layers", [])
    }

    names = ("Store", "Generate", "Listen", "Stock", "InspectUpload")
    assert with_layer == {f"{name}Function" for name in names}


def test_a_generation_is_given_up_only_after_its_function_has_ended() -> None:
    assert FUNCTIONS["GenerateFunction"]["Timeout"] < decide.GENERATE_LIMIT_S
    assert FUNCTIONS["SubmitFunction"]["Timeout"] <= decide.CREATE_LIMIT_S


@pytest.mark.parametrize(("name", "percent"), [("BudgetNearAlarm", 80), ("BudgetSpentAlarm", 100)])
def test_an_alarm_watches_what_the_budget_of_the_day_reports(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, percent: int
) -> None:
    alarm = RESOURCES[name]["Properties"]
    environment.setenv("PROVIDER_BUDGETS_USD", "kie=10")
    environment.setattr(budget, "spent", lambda provider, now: percent / 10)

    with suppress(Unavailable):
        budget.check("kie")

    report = json.loads(capsys.readouterr().out.splitlines()[0])
    (emitted,) = report["_aws"]["CloudWatchMetrics"]
    assert alarm["Namespace"] == emitted["Namespace"]
    assert alarm["MetricName"] == emitted["Metrics"][0]["Name"]
    assert emitted["Metrics"][0]["Unit"] == "Percent"
    assert emitted["Dimensions"] == [["service"]]
    # A function's service is the name of the stack (POWERTOOLS_SERVICE_NAME).
    assert alarm["Dimensions"] == [{"Name": "service", "Value": Tagged("Ref", "AWS::StackName")}]
    assert report[alarm["MetricName"]] == [alarm["Threshold"]] == [percent]
    assert (alarm["ComparisonOperator"], alarm["Statistic"]) == ("GreaterThanOrEqualToThreshold", "Maximum")


def test_recovery_comes_every_quarter_of_an_hour_and_ends_before_the_next() -> None:
    recovery = FUNCTIONS["RecoverJobsFunction"]

    assert recovery["Events"]["EveryQuarter"]["Properties"]["ScheduleExpression"] == "rate(15 minutes)"
    assert recovery["Timeout"] < 15 * 60


def test_the_sweeper_comes_every_minute_and_ends_before_the_next() -> None:
    sweeper = FUNCTIONS["SweepJobsFunction"]

    assert sweeper["Events"]["EveryMinute"]["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    assert sweeper["Timeout"] < 60


# The audit


AUDITED = ("JobsTable", "LedgerTable", "AssetsTable", "AccessTable", "ProjectsTable", "PublicationsTable")


def test_every_audited_table_has_a_stream_with_both_images_and_the_audit_reads_it() -> None:
    triggers = FUNCTIONS["AuditFunction"]["Events"].values()

    read = {trigger["Properties"]["Stream"].value for trigger in triggers}
    assert read == {f"{table}.StreamArn" for table in AUDITED}
    for table in AUDITED:
        assert RESOURCES[table]["Properties"]["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


@pytest.mark.parametrize("name", [name for name, told in FUNCTIONS.items() if told["Handler"].startswith("events.")])
def test_a_record_of_a_stream_that_cannot_be_handled_holds_nobody_up_and_is_not_lost(name: str) -> None:
    for trigger in FUNCTIONS[name]["Events"].values():
        if trigger["Type"] != "DynamoDB":
            continue
        told = trigger["Properties"]
        assert told["StartingPosition"] == "TRIM_HORIZON"
        assert told["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert told["BisectBatchOnFunctionError"] is True
        assert told["MaximumRetryAttempts"] > 0
        assert told["DestinationConfig"]["OnFailure"]["Type"] == "SQS"


def test_nobody_but_the_audit_writes_the_audit_and_nobody_can_delete_of_it() -> None:
    rights = {name: allowed(name, "AuditTable") for name in FUNCTIONS}

    assert {name: right for name, right in rights.items() if right} == {
        "AuditFunction": {"dynamodb:PutItem"},
        "AuditViewFunction": {"dynamodb:Query", "dynamodb:BatchGetItem"},
    }


def test_the_reconciliation_can_change_no_entry_and_no_hold_away() -> None:
    assert allowed("ReconcileLedgerFunction", "LedgerTable") == {
        "dynamodb:GetItem",
        "dynamodb:Query",
        "dynamodb:UpdateItem",
    }
    assert FUNCTIONS["ReconcileLedgerFunction"]["Timeout"] == 900


def test_nothing_may_look_through_a_whole_table() -> None:
    assert not [
        (name, action)
        for name in FUNCTIONS
        for statement in statements(FUNCTIONS[name])
        for action in listed(statement["Action"])
        if action in ("dynamodb:Scan", "dynamodb:*")
    ]


def test_files_may_be_deleted_by_whoever_stores_them_and_by_the_purge() -> None:
    deleting = {
        name
        for name in FUNCTIONS
        for statement in statements(FUNCTIONS[name])
        if "s3:DeleteObject" in listed(statement["Action"])
    }

    uploading = {"UploadsFunction", "InspectUploadFunction", "ExpireMediaFunction"}
    # Documents that are too large for an item.
    editing = {"ProjectsFunction", "ProjectOperationsFunction", "ProjectVersionsFunction", "ImportProjectFunction"}
    editing |= {"ListenFunction"}
    others = {"StoreFunction", "GenerateFunction", "PurgeMediaFunction", "StockFunction"}
    assert deleting == others | uploading | editing


def test_temporary_files_are_gone_after_a_day() -> None:
    rules = {rule["Id"]: rule for rule in RESOURCES["MediaBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]}

    assert (rules["temporary-files"]["Prefix"], rules["temporary-files"]["ExpirationInDays"]) == ("tmp/", 1)
