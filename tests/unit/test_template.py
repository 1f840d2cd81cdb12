"""What template.yaml promises: closed doors, kept data, and no permission too many."""

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from api import openapi
from shared.core.web import OPEN, Api
from tests.unit.helpers import ROOT, Context, Json, Loopback, Tagged, event, functions, problem, routes, template

RESOURCES: Json = template()["Resources"]
FUNCTIONS = functions()
ROUTES = routes()
OPEN_ROUTES = {"GET /v1/health", "GET /v1/openapi.json", "$default"}


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
    assert {route for route, needed in security.items() if needed == [{"jwt": ["admin"]}]} == {
        "POST /v1/admin/accounts/{account_id}/grants"
    }


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
    assert table["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", of_type("AWS::S3::Bucket"))
def test_every_bucket_is_private_encrypted_and_kept(name: str) -> None:
    bucket = RESOURCES[name]

    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["BucketEncryption"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("name", of_type("AWS::SecretsManager::Secret"))
def test_no_secret_has_a_value(name: str) -> None:
    assert RESOURCES[name]["Properties"].keys() == {"Name", "Description"}


def test_no_private_origin_is_allowed_by_default() -> None:
    assert template()["Parameters"]["AllowedPrivateOrigins"]["Default"] == ""


def test_the_environment_has_every_setting(environment: pytest.MonkeyPatch) -> None:
    from shared.core.settings import from_environment

    variables = template()["Globals"]["Function"]["Environment"]["Variables"]

    from_environment(dict.fromkeys(variables, "1"))


# The workflow


def test_the_state_machine_may_invoke_its_five_functions_and_update_jobs_and_nothing_else() -> None:
    (machine,) = of_type("AWS::Serverless::StateMachine").values()

    allowed = {
        (action, resource.value if isinstance(resource, Tagged) else resource)
        for statement in statements(machine["Properties"])
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
    steps = ("Submit", "Poll", "Store", "Settle", "Fail")
    assert allowed == {("dynamodb:UpdateItem", "JobsTable.Arn")} | {
        ("lambda:InvokeFunction", f"{step}Function.Arn") for step in steps
    }


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

    assert knowing == {"api.create_image.handler", "api.create_portrait.handler", "generation.submit.handler"}


def test_the_sweeper_comes_every_minute_and_ends_before_the_next() -> None:
    sweeper = FUNCTIONS["SweepJobsFunction"]

    assert sweeper["Events"]["EveryMinute"]["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    assert sweeper["Timeout"] < 60
