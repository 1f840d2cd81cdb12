"""What nobody should send, sent to the deployed API: every refusal is a problem that says what is wrong and no more."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from local.cloud import Stack
from local.simulator.delivery import new_secret
from shared.core import web
from tests.e2e.helpers import (
    IMAGE,
    Provider,
    check_problem,
    check_refunded,
    eventually,
    only_prediction,
    pointers,
)
from tests.support import Json, Studio, job_rows, rows

NewStudio = Callable[..., Studio]

CLOSED = [
    ("POST", "/images"),
    ("POST", "/portraits"),
    ("POST", "/videos"),
    ("POST", "/character-videos"),
    ("POST", "/speech"),
    ("POST", "/music"),
    ("POST", "/transcriptions"),
    ("POST", "/stems"),
    ("POST", "/analyses"),
    ("POST", "/batches"),
    ("GET", "/batches/batch_00000000000000000000000000"),
    ("GET", "/jobs"),
    ("GET", "/jobs/job_00000000000000000000000000"),
    ("POST", "/jobs/job_00000000000000000000000000/cancel"),
    ("GET", "/credits"),
    ("GET", "/credits/entries"),
    ("POST", "/admin/accounts/mallory/grants"),
    ("POST", "/admin/accounts/mallory/revoke"),
    ("PUT", "/admin/accounts/mallory/plan"),
    ("POST", "/auth/revoke"),
    ("GET", "/audit"),
    ("GET", "/callbacks/secret"),
    ("POST", "/callbacks/secret/rotate"),
    ("GET", "/jobs/job_00000000000000000000000000/callback"),
    ("POST", "/jobs/job_00000000000000000000000000/callback/redeliver"),
    ("GET", "/admin/callbacks/dead"),
    ("POST", "/admin/callbacks/dead/job_00000000000000000000000000/replay"),
    ("POST", "/realtime/tickets"),
    ("POST", "/api-keys"),
    ("GET", "/api-keys"),
    ("DELETE", "/api-keys/key_00000000000000000000000000"),
    ("POST", "/api-keys/key_00000000000000000000000000/rotate"),
    ("GET", "/models"),
    ("GET", "/assets/as_00000000000000000000000000"),
    ("GET", "/assets/as_00000000000000000000000000/content"),
    ("GET", "/assets"),
    ("PATCH", "/assets/as_00000000000000000000000000"),
    ("DELETE", "/assets/as_00000000000000000000000000"),
    ("POST", "/assets/as_00000000000000000000000000/restore"),
    ("GET", "/storage"),
    ("POST", "/uploads"),
    ("GET", "/uploads/up_00000000000000000000000000"),
    ("DELETE", "/uploads/up_00000000000000000000000000"),
    ("GET", "/uploads/up_00000000000000000000000000/parts"),
    ("POST", "/uploads/up_00000000000000000000000000/complete"),
    ("GET", "/projects"),
    ("POST", "/projects"),
    ("POST", "/projects/import"),
    ("GET", "/projects/pr_00000000000000000000000000"),
    ("PUT", "/projects/pr_00000000000000000000000000"),
    ("DELETE", "/projects/pr_00000000000000000000000000"),
    ("POST", "/projects/pr_00000000000000000000000000/duplicate"),
    ("POST", "/projects/pr_00000000000000000000000000/operations"),
    ("GET", "/projects/pr_00000000000000000000000000/versions"),
    ("GET", "/projects/pr_00000000000000000000000000/versions/1"),
    ("POST", "/projects/pr_00000000000000000000000000/versions/1/restore"),
    ("GET", "/projects/pr_00000000000000000000000000/export.otio"),
    ("GET", "/projects/pr_00000000000000000000000000/captions"),
    ("POST", "/projects/pr_00000000000000000000000000/silence-cuts"),
    ("GET", "/stock"),
    ("POST", "/stock/photo-1/import"),
    ("GET", "/channels"),
    ("POST", "/assets/as_00000000000000000000000000/publications"),
    ("GET", "/publications"),
    ("GET", "/publications/pub_00000000000000000000000000"),
    ("POST", "/publications/pub_00000000000000000000000000/cancel"),
]


# Tokens


@pytest.fixture
def api(stack: Stack) -> httpx.Client:
    """A client without a token."""
    with httpx.Client(base_url=f"{stack.api_url}/v1", timeout=60, trust_env=False) as client:
        yield client


def claims(**changes: Any) -> Json:
    """Those of a good token, changed; None takes one away."""
    good = {
        "iss": "atelier",
        "aud": "atelier-api",
        "sub": "mallory",
        "scope": "studio admin",
        "exp": int(time.time()) + 600,
        "jti": uuid.uuid4().hex,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def secret(stack: Stack) -> str:
    name = stack.outputs["JwtSecretName"]
    return str(stack.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])


def unsigned(stack: Stack) -> str:
    """`alg: none`, with the signature left out."""
    parts = [{"alg": "none", "typ": "JWT"}, claims()]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def tampered(stack: Stack) -> str:
    header, _, signature = stack.token("alice", "studio").split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims()).encode()).decode().rstrip("=")
    return f"{header}.{payload}.{signature}"


FLAWED: dict[str, Callable[[Stack], str]] = {
    "expired": lambda stack: stack.token("mallory", "studio admin", ttl=-60),
    "another secret": lambda stack: jwt.encode(claims(), "x" * 64, algorithm="HS256"),
    "another HMAC algorithm": lambda stack: jwt.encode(claims(), secret(stack), algorithm="HS512"),
    "an asymmetric algorithm": lambda stack: jwt.encode(
        claims(), rsa.generate_private_key(public_exponent=65537, key_size=2048), algorithm="RS256"
    ),
    "alg none": unsigned,
    "changed after signing": tampered,
    "another audience": lambda stack: jwt.encode(claims(aud="others"), secret(stack), algorithm="HS256"),
    "another issuer": lambda stack: jwt.encode(claims(iss="others"), secret(stack), algorithm="HS256"),
    "not valid yet": lambda stack: jwt.encode(claims(nbf=int(time.time()) + 600), secret(stack), algorithm="HS256"),
    **{
        f"without {name}": lambda stack, name=name: jwt.encode(claims(**{name: None}), secret(stack), algorithm="HS256")
        for name in ("exp", "iss", "aud", "sub")
    },
    "a subject that is no account": lambda stack: jwt.encode(claims(sub="account#1"), secret(stack), algorithm="HS256"),
    "a scope that is no text": lambda stack: jwt.encode(claims(scope=["admin"]), secret(stack), algorithm="HS256"),
    "not a token": lambda stack: "open-sesame",
}


def test_the_token_that_the_flawed_ones_are_made_of_is_good(stack: Stack, api: httpx.Client) -> None:
    good = jwt.encode(claims(), secret(stack), algorithm="HS256")

    assert api.get("/credits", headers={"authorization": f"Bearer {good}"}).status_code == 200


@pytest.mark.parametrize("flaw", FLAWED)
def test_a_flawed_token_is_refused(stack: Stack, api: httpx.Client, flaw: str) -> None:
    headers = {"authorization": f"Bearer {FLAWED[flaw](stack)}"}

    answer = api.get("/credits", headers=headers)

    problem = check_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    # The same words for every flaw.
    assert problem["detail"] == "A valid bearer token is needed."


@pytest.mark.parametrize("authorization", [None, "", "Basic YTpi", "Bearer", "Token x"])
def test_a_request_without_a_token_is_refused(api: httpx.Client, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}

    check_problem(api.get("/credits", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_closed_route_answers_without_a_token(api: httpx.Client, method: str, path: str) -> None:
    check_problem(api.request(method, path), 401, "unauthorized")
    # Nor does it look at the body first.
    check_problem(api.request(method, path, content=b"{", headers={"authorization": "x"}), 401, "unauthorized")


def test_the_list_of_closed_routes_is_complete(stack: Stack) -> None:
    known = {f"{method} /v1{path}" for method, path in CLOSED}
    gateway = stack.client("apigatewayv2")
    (api_id,) = [one["ApiId"] for one in gateway.get_apis()["Items"] if one["ApiId"] in stack.api_url]
    routes = {route["RouteKey"] for route in gateway.get_routes(ApiId=api_id)["Items"]}

    spelled = {
        key.replace("{job_id}", "job_" + "0" * 26)
        .replace("{batch_id}", "batch_" + "0" * 26)
        .replace("{asset_id}", "as_" + "0" * 26)
        .replace("{account_id}", "mallory")
        .replace("{key_id}", "key_" + "0" * 26)
        .replace("{upload_id}", "up_" + "0" * 26)
        .replace("{project_id}", "pr_" + "0" * 26)
        .replace("{publication_id}", "pub_" + "0" * 26)
        .replace("{stock_id}", "photo-1")
        .replace("{version}", "1")
        for key in routes
    }

    assert spelled - known == {"GET /v1/health", "GET /v1/openapi.json", "GET /v1/docs", "$default"}


def test_a_studio_token_grants_nothing(studio: Studio) -> None:
    answer = studio.http.post(f"/admin/accounts/{studio.account}/grants", json={"amount": 1000})

    check_problem(answer, 403, "forbidden")
    assert studio.credits()["available"] == 100


def test_an_admin_token_without_the_studio_scope_makes_nothing(studio: Studio) -> None:
    headers = {"authorization": f"Bearer {studio.stack.token(studio.account, 'admin')}"}

    check_problem(studio.http.post("/images", json={"prompt": "x"}, headers=headers), 403, "forbidden")


# What belongs to others


def test_somebody_elses_job_and_asset_are_not_there(new_studio: NewStudio) -> None:
    owner, stranger = new_studio(), new_studio()
    job = owner.run("a secret lighthouse")
    (asset,) = job["assets"]

    answers = [
        stranger.http.get(f"/jobs/{job['id']}"),
        stranger.http.post(f"/jobs/{job['id']}/cancel"),
        stranger.http.get(f"/assets/{asset['id']}"),
        stranger.http.get(f"/assets/{asset['id']}/content"),
    ]
    nobodys = [
        stranger.http.get("/jobs/job_00000000000000000000000000"),
        stranger.http.post("/jobs/job_00000000000000000000000000/cancel"),
        stranger.http.get("/assets/as_00000000000000000000000000"),
        stranger.http.get("/assets/as_00000000000000000000000000/content"),
    ]

    for answer, nobody in zip(answers, nobodys, strict=True):
        theirs, none = (check_problem(one, 404, "not_found") for one in (answer, nobody))
        # Somebody else's looks like nobody's.
        assert {**theirs, "request_id": ""} == {**none, "request_id": ""}
    assert stranger.http.get("/jobs").json() == {"items": [], "next_cursor": None}


def test_somebody_elses_idempotency_key_is_another_key(new_studio: NewStudio) -> None:
    first, second = new_studio(), new_studio()

    jobs = [one.create(f"for {one.account}", key="mine") for one in (first, second)]

    assert jobs[0]["id"] != jobs[1]["id"]
    for one, job in zip((first, second), jobs, strict=True):
        assert one.wait(job["id"])["status"] == "succeeded"


def test_somebody_elses_cursor_opens_nothing(new_studio: NewStudio) -> None:
    owner, stranger = new_studio(), new_studio()
    for _ in range(2):
        owner.grant(1)

    cursor = owner.http.get("/credits/entries", params={"limit": 1}).json()["next_cursor"]
    answer = stranger.http.get("/credits/entries", params={"cursor": cursor})

    assert answer.status_code == 200
    mine = {entry["id"] for entry in stranger.entries()}
    assert {entry["id"] for entry in answer.json()["items"]} <= mine


def test_the_path_of_an_id_leads_nowhere_else(studio: Studio) -> None:
    for path in ("/jobs/..%2Fcredits", "/jobs/%00", "/assets/as_%23", "/jobs/" + "x" * 2000):
        assert studio.http.get(path).status_code in (404, 422)


# Bodies

GOOD = {"prompt": "a lighthouse"}
INVALID: list[tuple[str, Any, set[str]]] = [
    ("no prompt", {}, {"/prompt"}),
    ("an empty prompt", {"prompt": ""}, {"/prompt"}),
    ("a blank prompt", {"prompt": " \n\t "}, {"/prompt"}),
    ("a prompt too long", {"prompt": "x" * 2001}, {"/prompt"}),
    ("a prompt that is a number", {"prompt": 7}, {"/prompt"}),
    ("a prompt that is null", {"prompt": None}, {"/prompt"}),
    ("a prompt with NUL", {"prompt": "a\x00b"}, {"/prompt"}),
    ("an unknown model", {**GOOD, "model": "flux-9"}, {"/model"}),
    ("a model of another kind", {**GOOD, "model": "flux-dev-portrait"}, {"/model"}),
    ("a model that is a list", {**GOOD, "model": ["flux-schnell"]}, {"/model"}),
    ("a count that is text", {**GOOD, "count": "2"}, {"/count"}),
    ("a count that is a fraction", {**GOOD, "count": 1.5}, {"/count"}),
    ("a count that is a boolean", {**GOOD, "count": True}, {"/count"}),
    ("a count of nothing", {**GOOD, "count": 0}, {"/count"}),
    ("a count too large", {**GOOD, "count": 5}, {"/count"}),
    ("more than the model makes", {**GOOD, "model": "flux-1.1-pro", "count": 2}, {"/count"}),
    ("a malformed ratio", {**GOOD, "aspect_ratio": "wide"}, {"/aspect_ratio"}),
    ("a ratio that the model has not", {**GOOD, "aspect_ratio": "99:1"}, {"/aspect_ratio"}),
    ("a negative seed", {**GOOD, "seed": -1}, {"/seed"}),
    ("a seed too large", {**GOOD, "seed": 2**32}, {"/seed"}),
    ("an unknown field", {**GOOD, "promt": "x"}, {"/promt"}),
    ("an unknown field with a slash", {**GOOD, "a/b~c": 1}, {"/a~1b~0c"}),
    ("metadata that is text", {**GOOD, "metadata": "x"}, {"/metadata"}),
    ("a metadata value that is a number", {**GOOD, "metadata": {"n": 1}}, {"/metadata/n"}),
    ("too much metadata", {**GOOD, "metadata": {f"k{number}": "" for number in range(21)}}, {"/metadata"}),
    ("several flaws", {"prompt": "", "count": 9, "size": "xl"}, {"/prompt", "/count", "/size"}),
    ("a list", [GOOD], {""}),
    ("a text", "a lighthouse", {""}),
    ("null", None, {""}),
]


@pytest.fixture(scope="module")
def sender(stack: Stack) -> Studio:
    """An account with credits that none of these requests may touch."""
    studio = Studio(stack, f"bad-input-{uuid.uuid4().hex[:8]}")
    studio.grant(100)
    yield studio
    assert studio.credits() == {"available": 100, "held": 0, "spent": 0}
    assert job_rows(stack, studio.account) == []
    studio.check_invariants()
    studio.close()


@pytest.mark.parametrize(("body", "expected"), [case[1:] for case in INVALID], ids=[case[0] for case in INVALID])
def test_an_invalid_request_is_told_where_it_is_wrong(sender: Studio, body: Any, expected: set[str]) -> None:
    assert pointers(sender.http.post("/images", json=body)) == expected


def test_an_empty_body_is_an_invalid_request(sender: Studio) -> None:
    answer = sender.http.post("/images", headers={"content-type": "application/json"})

    assert pointers(answer)


@pytest.mark.parametrize(
    "text",
    [b"{", b"{'prompt': 'x'}", b'{"prompt": "x"', b"\xff\xfe", b'{"prompt": "\\ud800"}', b"[" * 40_000, b"NaN}"],
    ids=["open", "single quotes", "cut off", "not UTF-8", "lone surrogate", "deep", "rubbish"],
)
def test_malformed_json_is_refused(sender: Studio, text: bytes) -> None:
    answer = sender.http.post("/images", content=text, headers={"content-type": "application/json"})

    check_problem(answer, 400, "malformed_json")


@pytest.mark.parametrize("size", [web.LARGEST_BODY + 1, 1_000_000, 7_000_000])
def test_a_body_over_the_limit_is_refused(sender: Studio, size: int) -> None:
    content = json.dumps({"prompt": "x"}).ljust(size).encode()

    answer = sender.http.post("/images", content=content, headers={"content-type": "application/json"})

    check_problem(answer, 413, "payload_too_large")


def test_a_body_at_the_limit_is_read(sender: Studio) -> None:
    content = json.dumps({"prompt": ""}).ljust(web.LARGEST_BODY).encode()

    answer = sender.http.post("/images", content=content, headers={"content-type": "application/json"})

    assert pointers(answer) == {"/prompt"}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_that_is_not_json_is_refused(sender: Studio, content_type: str) -> None:
    answer = sender.http.post("/images", content=b'{"prompt": "x"}', headers={"content-type": content_type})

    check_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_idempotency_key_of_the_wrong_length_is_refused(sender: Studio, key: str) -> None:
    answer = sender.http.post("/images", json=GOOD, headers={"idempotency-key": key})

    assert len(pointers(answer)) == 1


@pytest.mark.parametrize(
    "body", [{}, {"amount": 0}, {"amount": -5}, {"amount": 1.5}, {"amount": "5"}, {"amount": 10**10}]
)
def test_a_grant_is_a_whole_number_of_credits(sender: Studio, body: Json) -> None:
    admin = {"authorization": f"Bearer {sender.stack.tokens['admin']}"}

    answer = sender.http.post(f"/admin/accounts/{sender.account}/grants", json=body, headers=admin)

    assert pointers(answer) == {"/amount"}


# Queries


@pytest.mark.parametrize("path", ["/jobs", "/credits/entries"])
@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "!!!",
        "x" * 300,
        base64.urlsafe_b64encode(b"\x00\xff").decode(),
        base64.b64encode(b"x#").decode(),
        "=",
        "",
    ],
)
def test_a_bad_cursor_is_refused(sender: Studio, path: str, cursor: str) -> None:
    check_problem(sender.http.get(path, params={"cursor": cursor}), 400, "bad_cursor")


@pytest.mark.parametrize("path", ["/jobs", "/credits/entries"])
@pytest.mark.parametrize("limit", ["0", "101", "-1", "many", "1.5", ""])
def test_a_limit_outside_its_bounds_is_refused(sender: Studio, path: str, limit: str) -> None:
    assert pointers(sender.http.get(path, params={"limit": limit})) == {"?limit"}


@pytest.mark.parametrize(("name", "value"), [("kind", "statue"), ("status", "lost")])
def test_an_unknown_filter_value_is_refused(sender: Studio, name: str, value: str) -> None:
    assert pointers(sender.http.get("/jobs", params={name: value})) == {f"?{name}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/"),
        ("DELETE", "/jobs"),
        ("GET", "/images"),
        ("PUT", "/credits"),
        ("GET", "/jobs/a/b"),
    ],
)
def test_an_unknown_address_is_a_problem_too(sender: Studio, method: str, path: str) -> None:
    check_problem(sender.http.request(method, path), 404, "not_found")


# Credits and keys


def test_a_request_without_credits_is_told_the_numbers(new_studio: NewStudio) -> None:
    nobody, poor = new_studio(0), new_studio(IMAGE + 1)

    none = nobody.http.post("/images", json=GOOD)
    few = poor.http.post("/images", json={**GOOD, "count": 2})

    problem = check_problem(none, 402, "insufficient_credits")
    assert (problem["needed"], problem["available"]) == (IMAGE, 0)
    problem = check_problem(few, 402, "insufficient_credits")
    assert (problem["needed"], problem["available"]) == (2 * IMAGE, IMAGE + 1)
    assert nobody.http.get("/jobs").json()["items"] == poor.http.get("/jobs").json()["items"] == []
    assert poor.credits() == {"available": IMAGE + 1, "held": 0, "spent": 0}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("images", {"prompt": "another lighthouse"}),
        ("images", {**GOOD, "count": 2}),
        ("images", {**GOOD, "metadata": {"order": "8"}}),
        ("portraits", GOOD),
    ],
)
def test_a_key_with_another_request_is_refused(studio: Studio, kind: str, body: Json) -> None:
    job = studio.create(GOOD["prompt"], key="order-8")

    answer = studio.http.post(f"/{kind}", json=body, headers={"idempotency-key": "order-8"})

    check_problem(answer, 422, "idempotency_key_reused")
    assert studio.wait(job["id"])["status"] == "succeeded"
    assert studio.credits() == {"available": 100 - IMAGE, "held": 0, "spent": IMAGE}


def test_a_grant_key_with_another_amount_is_refused(new_studio: NewStudio) -> None:
    studio = new_studio(0)
    admin = {"authorization": f"Bearer {studio.stack.tokens['admin']}", "idempotency-key": "payment-2"}
    path = f"/admin/accounts/{studio.account}/grants"

    first = studio.http.post(path, json={"amount": 5}, headers=admin)
    second = studio.http.post(path, json={"amount": 6}, headers=admin)

    assert first.status_code == 201
    check_problem(second, 422, "idempotency_key_reused")
    assert studio.credits()["available"] == 5


# Webhooks


@pytest.fixture
def waiting(studio: Studio) -> Json:
    """A job in the middle of its work, and what its webhook would be if it had succeeded or failed."""
    job = studio.create("[sim outcome=never]")
    return studio.wait(job["id"], until={"processing"})


def test_webhooks_that_prove_nothing_are_refused_and_change_nothing(
    studio: Studio, provider: Provider, waiting: Json
) -> None:
    prediction = provider.prediction(only_prediction(studio, waiting["id"])["id"])
    body = json.dumps({**prediction, "status": "failed", "error": "so they say"}).encode()
    good = provider.signed(body)
    before = settled(studio, waiting["id"])

    refused = {
        "unsigned": {"content-type": "application/json"},
        "forged": provider.signed(body, secret=new_secret()),
        "stale": provider.signed(body, age=301),
        "from the future": provider.signed(body, age=-900),
        "another body": provider.signed(body + b" "),
        "another id": {**good, "webhook-id": "msg_other"},
        "another time": {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        "no time": {name: value for name, value in good.items() if name != "webhook-timestamp"},
        "a time in words": {**good, "webhook-timestamp": "now"},
        "no id": {name: value for name, value in good.items() if name != "webhook-id"},
        "no signature": {name: value for name, value in good.items() if name != "webhook-signature"},
        "another version": {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        "half a signature": {**good, "webhook-signature": good["webhook-signature"][:20]},
    }
    answers = {flaw: provider.deliver(waiting["id"], body, headers) for flaw, headers in refused.items()}

    details = {check_problem(answer, 401, "unauthorized")["detail"] for answer in answers.values()}
    assert len(details) == 1
    assert settled(studio, waiting["id"]) == before
    # The signature was the only thing that was wrong.
    assert provider.deliver(waiting["id"], body, good).status_code == 200
    job = studio.wait(waiting["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_failed")
    check_refunded(studio, job)


def test_one_good_signature_among_several_is_enough(studio: Studio, provider: Provider, waiting: Json) -> None:
    """As during a rotation of the provider's secret."""
    prediction = provider.prediction(only_prediction(studio, waiting["id"])["id"])
    body = json.dumps({**prediction, "status": "failed", "error": "no"}).encode()
    good = provider.signed(body)
    other = provider.signed(body, secret=new_secret())["webhook-signature"]

    answer = provider.deliver(
        waiting["id"], body, {**good, "webhook-signature": f"{other} {good['webhook-signature']}"}
    )

    assert answer.status_code == 200
    assert studio.wait(waiting["id"])["status"] == "failed"


def test_a_signed_webhook_that_is_no_prediction_is_refused(provider: Provider) -> None:
    for body in (b"", b"{}", b"[]", b"null", b"[" * 20_000, b'{"id": "x", "status": "perhaps"}', b"\xff"):
        answer = provider.deliver("job_x", body, provider.signed(body))

        check_problem(answer, 401, "unauthorized")


def test_a_webhook_for_a_job_that_is_not_there_says_no_more_than_that(provider: Provider) -> None:
    body = json.dumps({"id": "abc", "status": "succeeded", "output": ["https://example.com/a.png"]}).encode()
    running = json.dumps({"id": "abc", "status": "processing"}).encode()

    answers = [
        provider.deliver("job_00000000000000000000000000", body, provider.signed(body)),
        provider.deliver("job_00000000000000000000000000", running, provider.signed(running)),
        provider.deliver("", body, provider.signed(body)),
        provider.deliver(None, body, provider.signed(body)),
        provider.deliver("job_00000000000000000000000000", body, provider.signed(body), name="nobody"),
        provider.deliver("job_00000000000000000000000000", body, provider.signed(body), name=""),
    ]

    details = {check_problem(answer, 404, "not_found")["detail"] for answer in answers}
    assert len(details) == 1


def test_only_a_post_is_a_webhook(stack: Stack, provider: Provider) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = provider.http.request(method, f"{stack.webhook_url}/replicate", params={"job": "job_x"})

        check_problem(answer, 404, "not_found")


def settled(studio: Studio, job_id: str) -> Json:
    """The job as the table has it, once it waits; without the token that each wait writes anew."""
    row = eventually(
        lambda: (now := rows(studio.stack, "jobs", id=job_id)[0]) and "task_token" in now and now,
        timeout=20,
        what="wait for the webhook",
    )
    return {name: value for name, value in row.items() if name not in ("task_token", "sweep_at")}
