"""The OpenAPI document: complete, valid, its examples true, its problems those of the code; and the page of it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from api import openapi
from shared.core import errors
from shared.core.errors import Problem
from shared.core.settings import IN_HOUSE
from shared.document import contract, page
from shared.jobs.requests import OF_PROJECTS, REQUESTS
from tests.unit.helpers import ROOT, Context, Json, event

DOCUMENT = openapi.document()
OPERATIONS: dict[str, tuple[str, str, Json]] = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
REGISTRY: Registry[Any] = Registry().with_resource(
    "urn:document", Resource(contents=DOCUMENT, specification=DRAFT202012)
)


def judged(schema: Json, value: Any) -> list[str]:
    """What is wrong with a value."""
    pointed = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    found = OAS31Validator(pointed, registry=REGISTRY, format_checker=oas31_format_checker).iter_errors(value)
    return [f"{'/'.join(map(str, flaw.absolute_path))}: {flaw.message}" for flaw in found]


def answers(operation: Json) -> dict[str, Json]:
    """Every answer with its status, references resolved."""
    responses = DOCUMENT["components"]["responses"]
    return {
        status: responses[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        for status, answer in operation["responses"].items()
    }


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)

    assert DOCUMENT["openapi"].startswith("3.1.")


def test_every_operation_has_words_of_its_own() -> None:
    assert contract.operations().keys() == OPERATIONS.keys()
    for name, (_, path, operation) in OPERATIONS.items():
        assert operation["tags"] == [contract.operations()[name]["tag"]]
        assert operation["summary"] == contract.operations()[name]["summary"], path


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_body_has_an_example_that_fits_its_schema(name: str) -> None:
    body = OPERATIONS[name][2].get("requestBody")
    if body is None:
        assert "request" not in contract.operations()[name]
        return
    content = body["content"]["application/json"]

    assert judged(content["schema"], content["example"]) == []


@pytest.mark.parametrize("request_type", REQUESTS.values(), ids=lambda request: request.kind)
def test_the_examples_of_generations_are_requests_that_a_model_serves(request_type: Any) -> None:
    name = "create_" + request_type.kind.replace("-", "_")
    request = request_type.model_validate(contract.operations()[name]["request"])

    assert request.fields(request.chosen_model())


def test_the_example_of_work_on_a_project_is_a_request_that_its_model_serves() -> None:
    for kind, request_type in OF_PROJECTS.items():
        body = contract.operations()["create_" + kind.replace("-", "_")]["request"]

        assert request_type.model_validate(body).chosen_model().provider == IN_HOUSE


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_has_an_example_that_fits_its_schema(name: str) -> None:
    for status, answer in answers(OPERATIONS[name][2]).items():
        assert answer["description"], status
        for media_type, content in answer.get("content", {}).items():
            examples = [one["value"] for one in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else []
            assert examples or media_type == "text/html", status
            for example in examples:
                assert judged(content["schema"], example) == [], status


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_lists_the_problems_of_what_it_takes(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    listed = {code for answer in answers(operation).values() for code in problems_of(answer)}
    parameters = {(one["in"], one["name"]) for one in operation.get("parameters", [])}

    assert listed >= {"rate_limited", "internal_error"}
    assert ({"unauthorized", "forbidden", "unconfigured"} <= listed) == bool(operation["security"])
    assert ({"malformed_json", "payload_too_large", "unsupported_media_type"} <= listed) == ("requestBody" in operation)
    assert ("not_found" in listed) >= any(place == "path" for place, _ in parameters)
    assert ("bad_cursor" in listed) == (("query", "cursor") in parameters)
    assert ("idempotency_key_reused" in listed) == (("header", "Idempotency-Key") in parameters)
    makes_jobs = operation["tags"] == ["Generations"] or name in ("create_batch", "create_silence_cuts")
    assert ("insufficient_credits" in listed) == ("too_many_jobs" in listed) == makes_jobs


def problems_of(answer: Json) -> list[str]:
    return list(answer.get("content", {}).get("application/problem+json", {}).get("examples", {}))


def test_what_operations_add_are_problems_that_there_are() -> None:
    added = {code for notes in contract.operations().values() for code in notes.get("problems", [])}

    assert added <= contract.PROBLEMS.keys()


def test_every_problem_of_the_document_is_in_the_table_for_people_with_its_status() -> None:
    table = (ROOT / "docs/ERRORS.md").read_text().partition("\nA job that ended")[0]
    rows = {(int(status), code) for status, code in re.findall(r"\| (\d{3}) \| `(\w+)` \|", table)}

    # What only providers are told when they deliver a webhook.
    assert rows - {(503, "unconfirmed")} == {(problem.status, code) for code, problem in contract.PROBLEMS.items()}


def test_every_class_of_problem_occurs_in_the_document() -> None:
    classes = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Problem)} - {Problem}

    assert {type(problem) for problem in contract.PROBLEMS.values()} == classes


def test_every_post_takes_an_idempotency_key() -> None:
    for name, (method, _, operation) in OPERATIONS.items():
        takes = "Idempotency-Key" in {one["name"] for one in operation.get("parameters", [])}
        assert takes == (method == "post"), name


def test_every_answer_tells_its_request_id_and_its_limit() -> None:
    for _, _, operation in OPERATIONS.values():
        for status, answer in answers(operation).items():
            assert answer["headers"].keys() >= {"x-request-id", "ratelimit", "ratelimit-policy"}
            assert ("retry-after" in answer["headers"]) == (status in ("429", "503"))


def test_nobody_may_send_a_field_that_there_is_not() -> None:
    asked = {json.dumps(operation.get("requestBody")) for _, _, operation in OPERATIONS.values()}
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if any(f'/schemas/{name}"' in body for body in asked):
            assert schema["additionalProperties"] is False, name


def test_every_time_is_one_for_programs() -> None:
    job = DOCUMENT["components"]["schemas"]["Job"]["properties"]
    key = DOCUMENT["components"]["schemas"]["Key"]["properties"]

    assert [job[name]["format"] for name in ("created_at", "updated_at", "deadline")] == ["date-time"] * 3
    assert key["last_used_at"]["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "null"}]
    assert judged(job["deadline"], "tomorrow")


def test_no_parameter_can_be_null() -> None:
    for name, (_, _, operation) in OPERATIONS.items():
        assert "null" not in json.dumps([one["schema"] for one in operation.get("parameters", [])]), name


def test_every_schema_is_used_and_every_reference_leads_somewhere() -> None:
    found = set(contract.references(DOCUMENT))
    for reference in found:
        _, _, kind, name = reference.split("/")
        assert name in DOCUMENT["components"][kind]

    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} <= found


# The page


class Outline(HTMLParser):
    """What a page consists of: its tags, its attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in [*attrs, ("", "")]]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def answer() -> Json:
    return openapi.handler(event("GET", "/v1/docs"), Context())


@pytest.fixture
def outline(answer: Json) -> Outline:
    parsed = Outline()
    parsed.feed(answer["body"])
    assert parsed.open == []
    return parsed


def test_the_page_has_every_operation_and_every_schema(outline: Outline) -> None:
    anchors = {value for _, name, value in outline.attributes if name == "id"}

    assert anchors == OPERATIONS.keys() | {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]}
    for _, path, operation in OPERATIONS.values():
        assert {path, operation["summary"]} <= set(outline.texts)


def test_every_link_of_the_page_leads_somewhere(outline: Outline) -> None:
    anchors = {f"#{value}" for _, name, value in outline.attributes if name == "id"}

    assert {value for _, name, value in outline.attributes if name == "href"} <= anchors | {"openapi.json"}


def test_the_page_loads_and_runs_nothing(answer: Json, outline: Outline) -> None:
    tags = {tag for tag, _, _ in outline.attributes}
    names = {name for _, name, _ in outline.attributes}

    assert not tags & {"script", "link", "img", "iframe", "form", "object"}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style", "action")}
    policy = dict(part.strip().split(" ", 1) for part in answer["headers"]["content-security-policy"].split(";"))
    style = base64.b64encode(hashlib.sha256(page.STYLE.encode()).digest()).decode()
    assert answer["body"].count("<style>") == 1
    assert f"<style>{page.STYLE}</style>" in answer["body"]
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "style-src": f"'sha256-{style}'",
    }


def test_what_the_document_says_is_text_on_the_page_and_never_markup() -> None:
    nasty = "<script>alert(1)</script>"
    operation = {**OPERATIONS["get_health"][2], "summary": nasty, "description": nasty, "tags": [nasty]}
    document = {**DOCUMENT, "tags": [{"name": nasty}], "paths": {"/<i>": {"get": operation}}}

    assert "<script" not in page.html(document)
    assert "<i>" not in page.html(document)
