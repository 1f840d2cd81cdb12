"""The OpenAPI document: what Powertools derives from the functions' types, and what types cannot say of an HTTP API.

`described` completes the schema of one function (names, security, problems, headers, examples), `completed` the
document that the functions' schemas are merged into. operations.json has the words and the examples of each operation,
and the problems that do not follow from what it takes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib import resources
from types import MappingProxyType
from typing import Any

from shared.core import web
from shared.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InsufficientCredits,
    InternalError,
    Invalid,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    Problem,
    RateLimited,
    TooManyJobs,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)

Json = dict[str, Any]

TITLE = "Atelier"
VERSION = "1.0.0"
DESCRIPTION = """\
The serverless back end of an AI media studio: generations, credits and the files that come of them.

Send a token of yours, or an API key, as `Authorization: Bearer …`. Everything is JSON; media are fetched and sent at \
presigned URLs. Lists are `{items, next_cursor}`, newest first: hand `next_cursor` back as `cursor` until it is null.

A POST with an `Idempotency-Key` may be repeated: the same key and body gives the same answer, with \
`Idempotency-Replayed: true`, and does nothing twice; another body under that key is refused.

Every refusal is a problem (RFC 9457): `code` is for programs and does not change, `detail` is for people. Every \
answer has an `x-request-id`, which is the `request_id` of a problem: name it when you ask us. A 429 or 503 says in \
`Retry-After` how many seconds to wait."""

PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        problem.code: problem
        for problem in (
            BadRequest("The body is not valid JSON.", code="malformed_json"),
            BadRequest("This cursor is not one of ours.", code="bad_cursor"),
            Unauthorized(),
            InsufficientCredits(needed=10, available=3),
            Forbidden("This needs the scope 'admin'."),
            NotFound("There is nothing at this address."),
            Conflict("This API key was replaced already, or has ended.", code="already_rotated"),
            Conflict("The key that this request has made is told no more.", code="secret_not_repeatable"),
            Conflict("It is on its way out already.", code="already_publishing"),
            PreconditionFailed(version=7),
            Conflict("2 projects use it.", code="asset_in_use", fields={"projects": ["pr_0h2v9m7q3x5c8b1d401k6fe8z4"]}),
            Conflict("There is no room.", code="storage_quota_exceeded", fields={"used": 99, "quota": 100}),
            Conflict("2 parts have not come yet.", code="upload_incomplete", fields={"missing_parts": [3, 7]}),
            Conflict("The file has come; nothing more can be sent or given up.", code="upload_received"),
            PayloadTooLarge(f"A request body may have {web.LARGEST_BODY} bytes."),
            UnsupportedMediaType("A request body must be application/json."),
            Invalid("The request is not valid.", errors=[{"pointer": "/prompt", "detail": "Field required"}]),
            web.key_reused(),
            PreconditionRequired("Say with If-Match which version this is made for."),
            TooManyJobs(kind="image", limit=100, retry_after=5),
            RateLimited(limit="create", retry_after=6),
            InternalError("Something went wrong here; nothing was lost."),
            Unavailable("This service is not configured yet.", code="unconfigured"),
            Unavailable("The keys that verify tokens are out of reach.", code="keys_unavailable"),
            Unavailable("Whether this token still holds cannot be told.", code="access_unavailable"),
            Unavailable("This account has no callback secret.", code="callbacks_unconfigured"),
            Unavailable("The provider's budget of the day is spent.", code="provider_budget_exhausted"),
            Unavailable("Stock is not available now.", code="stock_unavailable"),
            Unavailable("Too much is happening on this account at once; try again.", code="busy"),
        )
    }
)
"""An example of every problem of the API, by its code."""

EVERYWHERE = ("rate_limited", "internal_error")
CLOSED = ("unauthorized", "forbidden", "unconfigured", "keys_unavailable", "access_unavailable")
WITH_BODY = ("malformed_json", "payload_too_large", "unsupported_media_type", "invalid_request")

PROBLEM: Json = {
    "title": "Problem",
    "description": "A refusal (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:atelier:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "description": "For programs; it does not change."},
        "detail": {"type": "string", "description": "For people."},
        "request_id": {"type": "string", "description": "That of the header `x-request-id`."},
        "errors": {
            "type": "array",
            "description": "What is wrong where, in a 422.",
            "items": {"$ref": "#/components/schemas/Flaw"},
        },
        "needed": {"type": "integer", "description": "Credits that this takes, in a 402."},
        "available": {"type": "integer", "description": "Credits that there are, in a 402."},
        "version": {"type": "integer", "description": "The current version, in a 412."},
        "limit": {
            "type": ["integer", "string"],
            "description": "In a 429: how many jobs there may be, or the class of requests that is limited.",
        },
        "projects": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Those that use the asset, newest first, with `asset_in_use`.",
        },
        "used": {"type": "integer", "description": "Bytes that are stored, with `storage_quota_exceeded`."},
        "quota": {"type": "integer", "description": "Bytes that may be stored, with `storage_quota_exceeded`."},
        "missing_parts": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Numbers of the parts that have not come, with `upload_incomplete`.",
        },
    },
}
FLAW: Json = {
    "title": "Flaw",
    "description": "One thing that is wrong with a request.",
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {
        "pointer": {
            "type": "string",
            "description": "Where: a JSON pointer into the body (RFC 6901), or `?name` for a parameter.",
        },
        "detail": {"type": "string"},
    },
}

SECURITY_SCHEMES: Json = {
    "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of your own issuer."},
    "api_key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, for servers; `POST /v1/api-keys` makes one.",
    },
}

HEADERS: Json = {
    "x-request-id": {
        "required": True,
        "description": "The id of this request; it is in our logs, too.",
        "schema": {"type": "string", "minLength": 1},
        "example": "RzXq1h4zoAMEVxw=",
    },
    "idempotency-replayed": {
        "description": "Present when this repeats the answer of an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
    "ratelimit": {
        "description": 'What is left (IETF draft): `"create";r=9;t=6`, the policy, requests left, seconds until more.',
        "schema": {"type": "string"},
    },
    "ratelimit-policy": {
        "description": 'What there is (IETF draft): `"create";q=10;w=60`, the policy, requests, seconds.',
        "schema": {"type": "string"},
    },
    "retry-after": {
        "required": True,
        "description": "Seconds until another attempt is worth it.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "www-authenticate": {"required": True, "description": "The scheme: Bearer.", "schema": {"type": "string"}},
    "etag": {
        "required": True,
        "description": 'The version, as `If-Match` takes it: `"7"`.',
        "schema": {"type": "string"},
    },
    "location": {
        "required": True,
        "description": "Where it is; presigned, for a short time.",
        "schema": {"type": "string", "format": "uri"},
    },
}

REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')

TIME = re.compile(r"(.+_)?at|deadline")

ALWAYS = ("x-request-id", "ratelimit", "ratelimit-policy")

ADDRESSES: Mapping[str, str | int] = MappingProxyType(
    {
        "job_id": "job_5b4h4f960xmmrjfj2w13a6krwr",
        "batch_id": "batch_5b4h4f960xmmrjfj2w13a6krwr",
        "asset_id": "as_5b4h4f960xmmrjfj2w13a6krwr",
        "project_id": "pr_01k6fe8z40h2v9m7q3x5c8b1d4",
        "version": 1,
        "key_id": "key_5b4h4f960xmmrjfj2w13a6krwr",
        "publication_id": "pub_5b4h4f960xmmrjfj2w13a6krwr",
        "stock_id": "photo-2014422",
        "account_id": "alice",
    }
)
"""An example of each path parameter."""


@cache
def operations() -> Json:
    """What operations.json says of each operation."""
    document: Json = json.loads(resources.files("shared.document").joinpath("operations.json").read_text())
    return document


def described(schema: Json, *, scope: str | None) -> Json:
    """The schema of one function, its operations complete but for the components that they refer to."""
    for path, operations_of_path in schema.get("paths", {}).items():
        for method, operation in operations_of_path.items():
            operations_of_path[method] = _operation(path, method, operation, scope)
    return schema


def _operation(path: str, method: str, derived: Json, scope: str | None) -> Json:
    name = derived["operationId"].removesuffix(re.sub(r"\W", "_", path) + f"_{method}")
    notes = operations().get(name, {})
    parameters = [_parameter(parameter) for parameter in derived.get("parameters", [])]
    names = {parameter["name"].lower() for parameter in parameters}
    body = derived.get("requestBody")
    if body:
        content = body["content"]["application/json"]
        content["schema"] = _without_null(content["schema"])
    if body and "request" in notes:
        body["content"]["application/json"]["example"] = notes["request"]
    answers = {status: answer for status, answer in derived["responses"].items() if status.startswith(("2", "3"))}
    if "dry_run" in names:
        _tell_apart(answers)
    for status, answer in answers.items():
        _complete(answer, status, notes, repeatable="idempotency-key" in names)
    codes = _codes(parameters, has_body=body is not None, closed=scope is not None) | set(notes.get("problems", []))
    return {
        "operationId": name,
        "summary": notes.get("summary", name.replace("_", " ").capitalize()),
        **({"description": notes["description"]} if "description" in notes else {}),
        "tags": [notes.get("tag", "Other")],
        "security": [] if scope is None else [{scheme: [scope]} for scheme in SECURITY_SCHEMES],
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": body} if body else {}),
        "responses": {**dict(sorted(answers.items())), **_refusals(codes)},
    }


def _parameter(derived: Json) -> Json:
    schema = {name: value for name, value in derived["schema"].items() if name not in ("title", "description")}
    parameter = {**derived, "schema": _without_null(schema)}
    if derived["in"] == "header":
        parameter["name"] = derived["name"].title()
    if derived["in"] == "path" and derived["name"] in ADDRESSES:
        parameter["example"] = ADDRESSES[derived["name"]]
    return parameter


def _without_null(schema: Json) -> Json:
    """A schema without the null of its Python type: what is left out is left out, and no address can spell null."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    if not choices:
        return schema
    others = {name: value for name, value in schema.items() if name not in ("anyOf", "title")}
    return {**others, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}


def _tell_apart(answers: Json) -> None:
    """A job is 202, an estimate 200; the function's type only says that it is one of the two."""
    content = answers["202"]["content"]["application/json"]
    job, estimate = content["schema"]["anyOf"]
    content["schema"] = job
    answers["200"] = {"content": {"application/json": {"schema": estimate}}}


def _complete(answer: Json, status: str, notes: Json, *, repeatable: bool) -> None:
    """The words, the headers and the example of an answer that is no problem."""
    told = notes.get("answers", {}).get(status, {})
    answer["description"] = told.get("description", HTTPStatus(int(status)).phrase)
    headers = [*ALWAYS, *(["idempotency-replayed"] if repeatable else []), *(["location"] if status == "302" else [])]
    headers += ["etag"] if notes.get("tag") == "Projects" and "version" in told.get("example", {}) else []
    answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if status in ("204", "302"):
        answer.pop("content", None)
    if "media_type" in told:
        kind = "object" if told["media_type"].endswith("+json") else "string"
        answer["content"] = {told["media_type"]: {"schema": {"type": kind}}}
    if "example" in told:
        answer["content"][told.get("media_type", "application/json")]["example"] = told["example"]


def _codes(parameters: list[Json], *, has_body: bool, closed: bool) -> set[str]:
    """The problems that follow from what an operation takes."""
    names = {parameter["name"].lower() for parameter in parameters}
    places = {parameter["in"] for parameter in parameters}
    codes = set(EVERYWHERE)
    codes |= set(CLOSED) if closed else set()
    codes |= set(WITH_BODY) if has_body else set()
    codes |= {"not_found"} if "path" in places else set()
    codes |= {"invalid_request"} if places & {"query", "header"} else set()
    codes |= {"stale"} if "if-match" in names else set()
    codes |= {"bad_cursor"} if "cursor" in names else set()
    codes |= {"idempotency_key_reused", "busy"} if "idempotency-key" in names else set()
    return codes


def _refusals(codes: set[str]) -> Json:
    """A reference for each status; which codes it stands for is in the name of what is referred to."""
    by_status: dict[int, list[str]] = {}
    for code, problem in PROBLEMS.items():
        if code in codes:
            by_status.setdefault(problem.status, []).append(code)
    return {
        str(status): {"$ref": f"#/components/responses/{'.'.join(found)}"}
        for status, found in sorted(by_status.items())
    }


def completed(document: Json) -> Json:
    """The merged document with the components that its operations refer to, and no others."""
    document = json.loads(json.dumps(document), parse_float=lambda text: _whole(float(text)))
    document["servers"] = [{"url": "..", "description": "Where this document is"}]
    components = document["components"]
    components["schemas"] |= {"Problem": PROBLEM, "Flaw": FLAW}
    components["headers"] = HEADERS
    components["securitySchemes"] = SECURITY_SCHEMES
    named = {ref.rpartition("/")[2] for ref in references(document["paths"]) if "/responses/" in ref}
    components["responses"] = {name: _refusal(name.split(".")) for name in sorted(named)}
    document = _renamed(document)
    _require_what_is_always_there(document)
    _tell_times(document)
    schemas = document["components"]["schemas"]
    used = _reachable({key: value for key, value in document.items() if key != "components"}, document)
    document["components"]["schemas"] = {name: schemas[name] for name in sorted(schemas) if name in used}
    order = list(operations())
    document["paths"] = dict(sorted(document["paths"].items(), key=lambda item: _place(item[1], order)))
    document["tags"] = [{"name": tag} for tag in dict.fromkeys(one["tags"][0] for one in each_operation(document))]
    return document


def _place(operations_of_path: Json, order: list[str]) -> int:
    """Paths stand in the order of operations.json, what it does not know at the end."""
    names = [operation["operationId"] for operation in operations_of_path.values()]
    return min(order.index(name) if name in order else len(order) for name in names)


def _whole(number: float) -> float | int:
    return int(number) if number.is_integer() else number


def _refusal(codes: list[str]) -> Json:
    """The response of one status, with an example for each code."""
    problems = [PROBLEMS[code] for code in codes]
    status = problems[0].status
    headers = [*ALWAYS, *[name for name in ("retry-after", "www-authenticate") if name in problems[0].headers]]
    examples = {problem.code: {"value": problem.document(HEADERS["x-request-id"]["example"])} for problem in problems}
    return {
        "description": f"{HTTPStatus(status).phrase}: " + ", ".join(f"`{code}`" for code in codes),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {
            web.PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples},
        },
    }


def _renamed(document: Json) -> Json:
    """Schemas by what they are of: `Job` for the class JobView, but for a name that is another's."""
    schemas = document["components"]["schemas"]
    names = {name: schema.get("title", name) for name, schema in schemas.items()}
    taken = set(names.values())
    names = {name: title if (short := title.removesuffix("View")) in taken else short for name, title in names.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"two schemas have the same name: {sorted(names.values())}")
    document["components"]["schemas"] = {
        names[name]: {**schema, "title": names[name]} for name, schema in schemas.items()
    }
    text = json.dumps(document)
    return dict(json.loads(REFERENCE.sub(lambda found: f'"#/components/schemas/{names[found[1]]}"', text)))


def _require_what_is_always_there(document: Json) -> None:
    """An answer has all of its fields, also those that have a default in Python; a request need not."""
    asked = {"requestBodies": [one["requestBody"] for one in each_operation(document) if "requestBody" in one]}
    requests = _reachable(asked, document)
    for name, schema in document["components"]["schemas"].items():
        if name not in {*requests, "Problem", "Flaw"} and "properties" in schema:
            schema["required"] = list(schema["properties"])


def _tell_times(document: Json) -> None:
    """A time is text in Python; the name of the field tells it."""
    for schema in document["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            for choice in [field, *field.get("anyOf", [])]:
                if TIME.fullmatch(name) and choice.get("type") == "string":
                    choice["format"] = "date-time"


def each_operation(document: Json) -> Iterator[Json]:
    """Every operation."""
    for operations_of_path in document["paths"].values():
        yield from operations_of_path.values()


def references(part: Any) -> Iterator[str]:
    """Every `$ref` in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def _reachable(part: Any, document: Json) -> set[str]:
    """The names of the schemas that a part needs, directly or through others."""
    found: set[str] = set()
    waiting = list(references(part))
    while waiting:
        _, _, kind, name = waiting.pop().split("/")
        if kind != "schemas":
            waiting += references(document["components"][kind][name])
        elif name not in found:
            found.add(name)
            waiting += references(document["components"]["schemas"][name])
    return found
