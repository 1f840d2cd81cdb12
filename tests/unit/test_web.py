"""The HTTP edge: whatever comes in, a problem with an id goes out, and a 5xx says nothing of the inside."""

import io
import json
from typing import Annotated, Any

import pytest
from aws_lambda_powertools.event_handler import Response
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from api import create_image, health, models, not_found
from shared.core import web
from shared.core.errors import InsufficientCredits, Unavailable
from shared.core.text import Text
from tests.unit.helpers import Context, Json, Loopback, event, problem, token

DRY = {"query": {"dry_run": "true"}}


def create(body: Any, **request: Any) -> Json:
    """POST /v1/images?dry_run=true, with a good token."""
    return create_image.handler(event("POST", "/v1/images", body=body, token=token(), **{**DRY, **request}), Context())


# An API of the test's own, for what no route of ours does.

app = web.Api(scope=web.OPEN)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: Annotated[Text, Field(max_length=5)]
    parts: list[dict[str, int]] = []


@app.post("/v1/things")
def make_thing(request: Thing) -> Response[Thing]:
    return Response(201, content_type="application/json", body=request)


@app.get("/v1/failures/<kind>")
def fail(kind: str) -> dict[str, str]:
    match kind:
        case "aws":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "arn:aws:iam::1:role/secret"}}, "PutItem")
        case "credits":
            raise InsufficientCredits(needed=10, available=3)
        case "busy":
            raise Unavailable("Try again.", code="busy", retry_after=1)
    raise RuntimeError("the password is swordfish")


@app.get("/v1/echo")
def echo(limit: web.Limit = 20, cursor: web.Cursor = None, key: web.IdempotencyKey = None) -> dict[str, Any]:
    return {"limit": limit, "cursor": cursor, "id": web.request_id()}


@app.get("/v1/me")
def me() -> dict[str, str]:
    return {"account": web.account()}


handler = web.handler(app)


def things(body: Any, **request: Any) -> Json:
    return handler(event("POST", "/v1/things", body=body, **request), Context())


def refused(answer: Json, status: int, code: str) -> Json:
    document = problem(answer)
    assert (document["status"], document["code"]) == (status, code), document
    return document


# Every answer


def test_every_answer_carries_the_id_of_its_request(cloud: Loopback) -> None:
    requests = [
        (health, event("GET", "/v1/health")),
        (not_found, event("GET", "/nowhere")),
        (models, event("GET", "/v1/models")),
        (models, event("GET", "/v1/models", token=token())),
        (create_image, event("POST", "/v1/images", body="{", token=token())),
        (create_image, event("POST", "/v1/images", body={}, token=token())),
    ]

    for function, request in requests:
        answer = function.handler(request, Context())

        assert answer["headers"]["x-request-id"] == request["requestContext"]["requestId"]
        if answer["statusCode"] >= 400:
            problem(answer)


def test_a_request_that_fails_inside_has_the_same_id_in_code_and_answer() -> None:
    request = event("GET", "/v1/echo")

    answer = handler(request, Context())

    assert (
        json.loads(answer["body"])["id"] == answer["headers"]["x-request-id"] == request["requestContext"]["requestId"]
    )


def test_answers_are_not_stored_by_caches_unless_they_say_so() -> None:
    assert health.handler(event("GET", "/v1/health"), Context())["headers"]["cache-control"] == "no-store"


def test_who_called_before_is_forgotten(cloud: Loopback) -> None:
    models.handler(event("GET", "/v1/models", token=token(sub="alice")), Context())

    refused(handler(event("GET", "/v1/me"), Context()), 401, "unauthorized")


# Bodies


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "}",
        "{'prompt': 'x'}",
        '{"prompt": "x"',
        '{"prompt": "x"} {}',
        "nul",
        "\x00",
        "[" * 30_000,
        '{"a":' * 10_000,
        '{"prompt": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": [{"b": "\\ud83d"}]}',
        '{"count": ' + "9" * 5000 + "}",
    ],
    ids=lambda body: body[:20].replace("\x00", "NUL"),
)
def test_a_body_that_is_not_json_is_400(cloud: Loopback, body: str) -> None:
    refused(create(body), 400, "malformed_json")


@pytest.mark.parametrize("body", ["[]", "[{}]", '"x"', "7", "null", "true", "NaN"])
def test_a_body_that_is_no_object_is_422_and_points_at_the_whole(cloud: Loopback, body: str) -> None:
    document = refused(create(body), 422, "invalid_request")

    assert [error["pointer"] for error in document["errors"]] == [""]


def test_no_body_at_all_is_422(cloud: Loopback) -> None:
    assert refused(create(None), 422, "invalid_request")["errors"]


def test_a_body_that_is_not_utf_8_is_400(cloud: Loopback) -> None:
    request = event("POST", "/v1/images", body={}, token=token())
    request |= {"body": "//79", "isBase64Encoded": True}

    refused(create_image.handler(request, Context()), 400, "malformed_json")


def test_a_base64_body_is_read_like_any_other(cloud: Loopback) -> None:
    answer = create({"prompt": "ein Leuchtturm für Übermorgen"}, base64_encoded=True)

    assert answer["statusCode"] == 200
    estimate = {"kind": "image", "model": "flux-schnell", "credits": 3, "units": 1, "per": "image"}
    assert json.loads(answer["body"]) == {"estimate": estimate}


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("character", ["x", "ü", "🎨"])
def test_a_body_of_more_than_64_kilobytes_is_413(cloud: Loopback, character: str, encoded: bool) -> None:
    fits = '{"prompt":""}'
    room = web.LARGEST_BODY - len(fits)
    filling = character * (room // len(character.encode()))
    largest = fits.replace('""', f'"{filling}"')

    refused(create(largest, base64_encoded=encoded), 422, "invalid_request")
    refused(create(largest + " " * 5, base64_encoded=encoded), 413, "payload_too_large")
    refused(create("{" + "x" * 10**6, base64_encoded=encoded), 413, "payload_too_large")


def test_the_size_of_a_body_is_told_before_anybody_parses_it(cloud: Loopback) -> None:
    refused(create("[" * (web.LARGEST_BODY + 1)), 413, "payload_too_large")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/jsonp", "json"]
)
def test_another_content_type_is_415(cloud: Loopback, content_type: str) -> None:
    answer = create({"prompt": "x"}, headers={"content-type": content_type})

    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"]
)
def test_json_may_be_called_json_in_every_legal_way(cloud: Loopback, content_type: str) -> None:
    assert create({"prompt": "x"}, headers={"content-type": content_type})["statusCode"] == 200


def test_nul_in_a_text_is_422_and_points_at_it(cloud: Loopback) -> None:
    document = refused(create({"prompt": "a\x00b"}), 422, "invalid_request")

    assert [error["pointer"] for error in document["errors"]] == ["/prompt"]


def test_nobody_unknown_learns_what_is_wrong_with_a_body(cloud: Loopback) -> None:
    answer = create_image.handler(event("POST", "/v1/images", body="{"), Context())

    refused(answer, 401, "unauthorized")


# Validation


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/name"]),
        ({"name": 7}, ["/name"]),
        ({"name": "too long"}, ["/name"]),
        ({"name": "x", "nome": "y"}, ["/nome"]),
        ({"name": "x", "a/b~c": 1}, ["/a~1b~0c"]),
        ({"name": "x", "parts": [{"a": 1}, {"b": "2"}]}, ["/parts/1/b"]),
        ({"name": 7, "parts": 7}, ["/name", "/parts"]),
    ],
)
def test_every_flaw_of_a_body_has_a_pointer(body: Json, pointers: list[str]) -> None:
    document = refused(things(body), 422, "invalid_request")

    assert [error["pointer"] for error in document["errors"]] == pointers
    assert all(error["detail"] for error in document["errors"])


@pytest.mark.parametrize(
    ("query", "pointer"), [({"limit": "0"}, "?limit"), ({"limit": "101"}, "?limit"), ({"limit": "x"}, "?limit")]
)
def test_a_flaw_of_a_parameter_names_it(query: dict[str, str], pointer: str) -> None:
    document = refused(handler(event("GET", "/v1/echo", query=query), Context()), 422, "invalid_request")

    assert [error["pointer"] for error in document["errors"]] == [pointer]


def test_a_cursor_of_any_length_is_not_taken() -> None:
    refused(handler(event("GET", "/v1/echo", query={"cursor": "x" * 401}), Context()), 422, "invalid_request")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_idempotency_key_has_1_to_255_characters(key: str) -> None:
    answer = handler(event("GET", "/v1/echo", headers={"idempotency-key": key}), Context())

    refused(answer, 422, "invalid_request")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["name", "parts", "x"]) | st.text(max_size=8)


@given(st.dictionaries(NAMES, VALUES, max_size=4).map(json.dumps) | st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
def test_no_body_makes_anything_but_an_answer_or_a_refusal(body: str) -> None:
    answer = things(body)

    assert answer["statusCode"] in (201, 400, 422)
    json.loads(answer["body"])
    answer["body"].encode()


# Problems


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/v1", "/v1/unknown", "/v1/images/1", "/v1//health", "/../etc/passwd"])
def test_an_address_that_is_no_route_is_a_404_problem(method: str, path: str) -> None:
    refused(not_found.handler(event(method, path), Context()), 404, "not_found")


@pytest.mark.parametrize("kind", ["aws", "anything"])
def test_what_nobody_expected_is_a_500_that_reveals_nothing(kind: str, log: io.StringIO) -> None:
    answer = handler(event("GET", f"/v1/failures/{kind}"), Context())

    document = refused(answer, 500, "internal_error")
    assert document["detail"] == "Something went wrong here; nothing was lost."
    told = json.dumps(answer)
    for secret in ("swordfish", "role/secret", "Traceback", "RuntimeError", "ClientError", "AccessDenied", ".py"):
        assert secret not in told
    assert "Traceback" in log.getvalue(), "the log has what the caller does not get"


def test_missing_settings_are_a_500_that_reveals_nothing(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("JWT_ISSUER")

    answer = models.handler(event("GET", "/v1/models", token=token()), Context())

    refused(answer, 500, "internal_error")
    assert "JWT_ISSUER" not in json.dumps(answer)


def test_missing_credits_are_a_402_with_both_numbers() -> None:
    document = refused(handler(event("GET", "/v1/failures/credits"), Context()), 402, "insufficient_credits")

    assert (document["needed"], document["available"]) == (10, 3)


def test_busy_is_a_503_that_says_when_to_come_back() -> None:
    answer = handler(event("GET", "/v1/failures/busy"), Context())

    refused(answer, 503, "busy")
    assert answer["headers"]["retry-after"] == "1"


def test_tokens_and_bodies_are_not_logged(cloud: Loopback, log: io.StringIO) -> None:
    good = token()

    create_image.handler(event("POST", "/v1/images", body={"prompt": "my secret garden"}, token=good, **DRY), Context())
    models.handler(event("GET", "/v1/models", token=good + "x"), Context())

    assert '"status":200' in log.getvalue()
    assert good not in log.getvalue()
    assert "secret garden" not in log.getvalue()
