"""The door of the deployed API, attacked; and API keys, revocation and limits as they live."""

import base64
import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from local.cloud import Stack
from shared.core import auth, limits, standing, web
from tests.e2e.helpers import Recording, at_once, check_problem, eventually, pointers
from tests.support import Json, Studio, plain

NewStudio = Callable[..., Studio]
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
HELD_S = standing.MAX_AGE_S + 1


def secret(stack: Stack) -> str:
    name = stack.outputs["JwtSecretName"]
    return str(stack.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])


def claims(account: str, **changes: Any) -> Json:
    now = int(time.time())
    good = {
        "iss": "atelier",
        "aud": "atelier-api",
        "sub": account,
        "scope": "studio",
        "iat": now,
        "exp": now + 600,
        "jti": uuid4().hex,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(stack: Stack, account: str, *, headers: Json | None = None, **changes: Any) -> str:
    return jwt.encode(claims(account, **changes), secret(stack), algorithm="HS256", headers=headers)


def ask(studio: Studio, credential: str, path: str = "/credits") -> httpx.Response:
    return studio.http.get(path, headers={"authorization": f"Bearer {credential}"})


def rows_of(stack: Stack, table: str) -> list[Json]:
    """Everything that a table has."""
    pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=stack.tables[table], ConsistentRead=True)
    return [plain(item) for page in pages for item in page["Items"]]


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


# Tokens


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def by_hand(account: str, key: bytes, **header: str) -> str:
    """Signed by HMAC with a key that PyJWT itself would refuse to use."""
    text = f"{segment({'alg': 'HS256', 'typ': 'JWT', **header})}.{segment(claims(account))}"
    signature = base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256))
    return f"{text}.{signature.decode().rstrip('=')}"


def own_key(account: str, **headers: Any) -> str:
    """A token of the attacker's own key, which its header recommends."""
    return jwt.encode(claims(account), RSA, algorithm="RS256", headers={"kid": "mine", **headers})


def jwk() -> Json:
    return json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "mine", "use": "sig"}


ATTACKS: dict[str, Callable[[Stack, str], str]] = {
    "HMAC with an RSA public key": lambda _, account: by_hand(account, public_pem(RSA)),
    "HMAC with an EC public key": lambda _, account: by_hand(account, public_pem(EC)),
    "HMAC with an empty key": lambda _, account: by_hand(account, b""),
    **{
        f"alg {name!r}": lambda _, account, name=name: f"{segment({'alg': name})}.{segment(claims(account))}."
        for name in ("none", "None", "nOnE", "", None, ["HS256"], {"alg": "HS256"})
    },
    "a key by jku": lambda stack, account: own_key(account, jku=f"{stack.simulator_url}/jwks.json"),
    "a key by x5u": lambda stack, account: own_key(account, x5u=f"{stack.simulator_url}/certificate.pem"),
    "a key by jwk": lambda _, account: own_key(account, jwk=jwk()),
    "a kid that is a path to nothing": lambda _, account: by_hand(account, b"", kid="../../../../dev/null"),
    "expired": lambda stack, account: signed(stack, account, exp=int(time.time()) - auth.LEEWAY_S - 5),
    "not valid yet": lambda stack, account: signed(stack, account, nbf=int(time.time()) + 60),
    "issued in the future": lambda stack, account: signed(stack, account, iat=int(time.time()) + 60),
    "another audience": lambda stack, account: signed(stack, account, aud="other-api"),
    "audiences without ours": lambda stack, account: signed(stack, account, aud=["a", "b"]),
    "another issuer": lambda stack, account: signed(stack, account, iss="https://evil.example"),
    "no expiry": lambda stack, account: signed(stack, account, exp=None),
    "tampered claims": lambda stack, account: re.sub(
        r"\.[^.]+\.", f".{segment(claims(account, scope='studio admin'))}.", signed(stack, "mallory"), count=1
    ),
    "a cut signature": lambda stack, account: signed(stack, account)[:-4],
    "no signature": lambda stack, account: signed(stack, account).rpartition(".")[0] + ".",
    "oversized": lambda stack, account: signed(stack, account, padding="x" * auth.LONGEST_CREDENTIAL),
    "a jti too long to revoke": lambda stack, account: signed(stack, account, jti="x" * 256),
    "encrypted in name only": lambda stack, account: signed(stack, account, headers={"crit": ["exp"]}),
    "an API key of nobody": lambda _, account: f"atl_{'0' * 26}_{'0' * 64}",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_token_made_by_an_attacker_opens_nothing(studio: Studio, attack: str) -> None:
    answer = ask(studio, ATTACKS[attack](studio.stack, studio.account))

    document = check_problem(answer, 401, "unauthorized")
    assert document["detail"] == "A valid bearer token is needed."
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_token_that_the_attacks_vary_is_good(studio: Studio) -> None:
    assert ask(studio, signed(studio.stack, studio.account)).status_code == 200


def test_two_authorizations_are_none(studio: Studio) -> None:
    good = signed(studio.stack, studio.account)

    for value in (f"Bearer {good}, Bearer {good}", f"Bearer {good} {good}", f"Bearer bearer {good}"):
        answer = studio.http.get("/credits", headers={"authorization": value})
        check_problem(answer, 401, "unauthorized")


# Headers


def raw(studio: Studio, head: str) -> bytes:
    """What the API answers to a request written by hand."""
    parts = urlsplit(studio.stack.api_url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1"))
        connection.settimeout(30)
        found = b""
        while b"\r\n\r\n" not in found:
            more = connection.recv(65536)
            if not more:
                break
            found += more
    return found


@pytest.mark.parametrize(
    "value", ["a%0d%0aset-cookie: x=1", "a\\r\\nset-cookie: x=1", "ü\x85set-cookie: x=1", "${jndi:ldap://x}", "\x01"]
)
@pytest.mark.parametrize("name", ["idempotency-key", "x-request-id", "x-amzn-trace-id", "accept", "origin"])
def test_no_header_of_a_request_writes_one_of_the_answer(studio: Studio, name: str, value: str) -> None:
    path = urlsplit(studio.stack.api_url).path + "/v1/jobs/job_1/cancel"
    found = raw(
        studio,
        f"POST {path} HTTP/1.1\nhost: localhost\nconnection: close\ncontent-length: 0\n"
        f"authorization: {studio.http.headers['authorization']}\n{name}: {value}\n\n",
    )

    status, _, headers = found.partition(b"\r\n")
    assert status.split()[1] in (b"400", b"404", b"422"), found
    assert b"\nset-cookie" not in headers.lower()


def test_the_id_of_a_request_is_ours_and_not_the_callers(studio: Studio) -> None:
    answer = studio.http.get("/credits", headers={"x-request-id": "mine", "x-amzn-requestid": "mine"})

    assert answer.headers["x-request-id"] != "mine"


# What belongs to others


def test_nothing_of_another_account_can_be_seen_or_changed(new_studio: NewStudio) -> None:
    owner, stranger = new_studio(), new_studio()
    job = owner.run("a secret lighthouse")
    batch = owner.post("batches", {"generations": [{"kind": "image", "prompt": "a secret"}]})
    key = owner.http.post("/api-keys", json={"name": "theirs", "scopes": ["studio"]}).json()
    asset = job["assets"][0]["id"]
    attempts = [
        ("GET", "/jobs/{}", job["id"]),
        ("POST", "/jobs/{}/cancel", job["id"]),
        ("GET", "/batches/{}", batch["id"]),
        ("GET", "/assets/{}", asset),
        ("GET", "/assets/{}/content", asset),
        ("DELETE", "/api-keys/{}", key["id"]),
        ("POST", "/api-keys/{}/rotate", key["id"]),
    ]

    for method, path, theirs in attempts:
        nobodys = re.sub(r"[0-9a-z]{26}$", "0" * 26, theirs)
        seen = []
        for one in (theirs, nobodys):
            body = {"json": {}} if method == "POST" and "rotate" in path else {}
            document = check_problem(stranger.http.request(method, path.format(one), **body), 404, "not_found")
            seen.append({**document, "request_id": ""})
        assert seen[0] == seen[1], "somebody else's looks like nobody's"

    for path in ("/jobs", "/credits/entries", "/api-keys"):
        listed = json.dumps(stranger.http.get(path).json())
        assert not [one for one in (job["id"], batch["id"], key["id"], asset) if one in listed]
    assert [one["id"] for one in owner.http.get("/api-keys").json()["items"]] == [key["id"]]
    assert ask(owner, key["key"]).status_code == 200
    for one in owner.http.get(f"/batches/{batch['id']}").json()["items"]:
        owner.wait(one["id"])


def test_a_cursor_of_another_account_opens_none_of_its_lists(new_studio: NewStudio) -> None:
    owner, stranger = new_studio(), new_studio()
    for number in range(2):
        owner.run(f"a secret {number}")
        owner.http.post("/api-keys", json={"name": f"theirs {number}", "scopes": ["studio"]})

    for path in ("/jobs", "/credits/entries", "/api-keys"):
        page = owner.http.get(path, params={"limit": 1}).json()
        assert page["next_cursor"], path
        answer = stranger.http.get(path, params={"cursor": page["next_cursor"]})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            theirs = {one["id"] for one in owner.http.get(path).json()["items"]}
            assert not theirs & {one["id"] for one in answer.json()["items"]}


def test_a_token_cannot_be_revoked_by_another_account(new_studio: NewStudio) -> None:
    owner, stranger = new_studio(credits=0), new_studio(credits=0)
    jti = uuid4().hex
    token = signed(owner.stack, owner.account, jti=jti)
    key = owner.http.post("/api-keys", json={"name": "theirs", "scopes": ["studio"]}).json()["key"]

    for theirs in (token, key, "nonsense", "atl_nonsense", "a.b.c"):
        assert pointers(stranger.http.post("/auth/revoke", json={"token": theirs})) == {"/token"}
    by_id = stranger.http.post("/auth/revoke", json={"jti": jti, "expires_at": int(time.time()) + 600})
    everything = stranger.http.post("/auth/revoke", json={"all": True})

    assert (by_id.status_code, everything.status_code) == (200, 200)
    time.sleep(HELD_S)
    assert ask(owner, token).status_code == 200
    assert ask(owner, key).status_code == 200
    assert ask(stranger, signed(stranger.stack, stranger.account, iat=int(time.time()) - 30)).status_code == 401
    renew(stranger)


def renew(studio: Studio) -> None:
    """A fresh token, for what is checked when the test is over."""
    time.sleep(1.1)
    studio.http.headers["authorization"] = f"Bearer {studio.stack.token(studio.account)}"


# Ids and bodies

ODD_IDS = [
    "..%2fcredits",
    "..%2F..%2Fadmin",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fv1%2fhealth",
    "..%5c..%5c",
    "%00",
    "job_%00",
    "null",
    "undefined",
    "-1",
    "0",
    "*",
    "%25",
    "%2500",
    "job_%F0%9F%8E%A8",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8F",
    "job_" + "0" * 5000,
    "%ff%fe",
    "%ED%A0%80",
    "'%20OR%201=1--",
    "%7B%22S%22:%22x%22%7D",
    "key%23",
    "account%23alice",
    "hold%23job_1",
    "jti%23alice%23x",
    "%0d%0aset-cookie:x=1",
]


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_odd_id_is_nothing_that_is_there(studio: Studio, odd: str) -> None:
    attempts = [
        ("GET", f"/jobs/{odd}"),
        ("POST", f"/jobs/{odd}/cancel"),
        ("GET", f"/batches/{odd}"),
        ("GET", f"/assets/{odd}"),
        ("GET", f"/assets/{odd}/content"),
        ("DELETE", f"/api-keys/{odd}"),
        ("POST", f"/api-keys/{odd}/rotate"),
    ]
    for method, path in attempts:
        answer = studio.http.request(method, path, **({"json": {}} if path.endswith("rotate") else {}))

        # What no route fits is answered by the gateway's default route, in the same way.
        check_problem(answer, 404, "not_found")
        assert "set-cookie" not in answer.headers


def test_an_odd_account_of_a_grant_is_refused(studio: Studio) -> None:
    admin = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}

    for odd in ("account%23x", "%20", "a%2Fb", "x" * 129, "%00", "-alice", "%F0%9F%8E%A8"):
        for path in ("grants", "revoke"):
            answer = studio.http.post(f"/admin/accounts/{odd}/{path}", json={"amount": 1}, headers=admin)
            assert answer.status_code in (404, 422), answer.text


NAMES = ["../../etc/passwd", "a/b\\c", "<script>alert(1)</script>", "\u202eevil", "ﷺ" * 50, "'; DROP TABLE x;--", "🗝"]


@pytest.mark.parametrize("name", NAMES)
def test_an_odd_name_is_kept_as_text_and_leads_nowhere(studio: Studio, name: str) -> None:
    made = studio.http.post("/api-keys", json={"name": name, "scopes": ["studio"]})

    assert made.status_code == 201
    assert made.json()["name"] == name
    assert [one["name"] for one in studio.http.get("/api-keys").json()["items"]] == [name]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, {"/name", "/scopes"}),
        ({"name": "", "scopes": ["studio"]}, {"/name"}),
        ({"name": "x" * 101, "scopes": ["studio"]}, {"/name"}),
        ({"name": None, "scopes": ["studio"]}, {"/name"}),
        ({"name": "a\x00b", "scopes": ["studio"]}, {"/name"}),
        ({"name": "x", "scopes": []}, {"/scopes"}),
        ({"name": "x", "scopes": "studio"}, {"/scopes"}),
        ({"name": "x", "scopes": ["root"]}, {"/scopes/0"}),
        ({"name": "x", "scopes": ["studio"], "expires_in_days": 0}, {"/expires_in_days"}),
        ({"name": "x", "scopes": ["studio"], "expires_in_days": 367}, {"/expires_in_days"}),
        ({"name": "x", "scopes": ["studio"], "expires_in_days": "1"}, {"/expires_in_days"}),
        ({"name": "x", "scopes": ["studio"], "account": "alice"}, {"/account"}),
        ({"name": "x", "scopes": ["studio"], "hash": "0" * 64}, {"/hash"}),
    ],
)
def test_a_key_request_with_a_flaw_is_told_where(studio: Studio, body: Json, where: set[str]) -> None:
    assert pointers(studio.http.post("/api-keys", json=body)) == where
    assert studio.http.get("/api-keys").json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("path", ["/api-keys", "/auth/revoke", "/images", "/batches"])
@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (b"[" * 30_000, 400, "malformed_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "malformed_json"),
        (b'{"name": "' + b"x" * web.LARGEST_BODY + b'"}', 413, "payload_too_large"),
        (b"x" * 5_000_000, 413, "payload_too_large"),
        (b'{"name": 1e999999}', 422, "invalid_request"),
        (b'{"name": ' + b"9" * 4000 + b"}", 422, "invalid_request"),
        (b'{"name": "a", "name": ["b"]}', 422, "invalid_request"),
    ],
    ids=["deep list", "deep object", "oversize", "huge", "infinite number", "long number", "twice the same name"],
)
def test_a_monstrous_body_is_refused(studio: Studio, path: str, text: bytes, status: int, code: str) -> None:
    answer = studio.http.post(path, content=text, headers={"content-type": "application/json"})

    check_problem(answer, status, code)


# Revocation


def test_a_revoked_token_is_refused_everywhere_within_ten_seconds(studio: Studio) -> None:
    token = signed(studio.stack, studio.account)
    for path in ("/credits", "/jobs", "/models", "/api-keys"):  # Four functions remember it.
        assert ask(studio, token, path).status_code == 200

    answer = studio.http.post("/auth/revoke", json={"token": token})

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"revoked": "token", "effective_within_s": 10}
    time.sleep(answer.json()["effective_within_s"])
    for path in ("/credits", "/jobs", "/models", "/api-keys"):
        check_problem(ask(studio, token, path), 401, "unauthorized")
    assert studio.http.get("/credits").status_code == 200, "the other token of the account is still good"


def test_a_token_revokes_itself_with_an_empty_body(studio: Studio) -> None:
    token = signed(studio.stack, studio.account)

    answer = studio.http.post("/auth/revoke", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == 200, answer.text
    assert answer.json()["revoked"] == "token"
    eventually(lambda: ask(studio, token).status_code == 401, timeout=HELD_S, what="refusal")


def test_a_revocation_by_id_is_kept_until_the_token_would_have_expired(studio: Studio) -> None:
    jti, expires = uuid4().hex, int(time.time()) + 600
    token = signed(studio.stack, studio.account, jti=jti, exp=expires)

    answer = studio.http.post("/auth/revoke", json={"jti": jti, "expires_at": expires})

    assert answer.status_code == 200
    check_problem(ask(studio, token), 401, "unauthorized")
    (row,) = [row for row in rows_of(studio.stack, "access") if row["id"] == f"jti#{studio.account}#{jti}"]
    assert row["expires_at"] == expires


@pytest.mark.parametrize(
    "body",
    [
        {"jti": "x"},
        {"expires_at": 1},
        {"all": False},
        {"all": True, "jti": "x", "expires_at": 5},
        {"jti": "", "expires_at": 5},
        {"jti": "x", "expires_at": -1},
        {"jti": "x", "expires_at": 10**20},
        {"token": 7},
        {"everything": True},
    ],
)
def test_a_revocation_that_is_not_one_revokes_nothing(studio: Studio, body: Json) -> None:
    check_problem(studio.http.post("/auth/revoke", json=body), 422, "invalid_request")
    assert studio.http.get("/credits").status_code == 200


@pytest.mark.parametrize("who", ["the account", "an admin"])
def test_everything_of_an_account_can_be_revoked_at_once(studio: Studio, who: str) -> None:
    old = [signed(studio.stack, studio.account) for _ in range(2)]
    key = studio.http.post("/api-keys", json={"name": "server", "scopes": ["studio"]}).json()["key"]
    for credential in (*old, key):
        assert ask(studio, credential).status_code == 200

    if who == "an admin":
        headers = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}
        answer = studio.http.post(f"/admin/accounts/{studio.account}/revoke", headers=headers)
    else:
        answer = studio.http.post("/auth/revoke", json={"all": True})

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"revoked": "account", "effective_within_s": 10}
    time.sleep(10)
    for credential in (*old, key):
        check_problem(ask(studio, credential), 401, "unauthorized")
    studio.http.headers["authorization"] = f"Bearer {signed(studio.stack, studio.account)}"
    assert studio.http.get("/credits").status_code == 200, "a newer token is let in"
    assert studio.http.get("/api-keys").json()["items"] == [], "what opens nothing is not on the list"


def test_a_studio_token_revokes_no_other_account_and_changes_no_plan(new_studio: NewStudio) -> None:
    owner, stranger = new_studio(credits=0), new_studio(credits=0)

    for method, path, body in (("POST", "revoke", None), ("PUT", "plan", {"plan": "scale"})):
        answer = stranger.http.request(method, f"/admin/accounts/{owner.account}/{path}", json=body)
        check_problem(answer, 403, "forbidden")
    assert owner.http.get("/jobs").status_code == 200


def test_a_repeated_revocation_of_everything_leaves_newer_tokens_alone(studio: Studio) -> None:
    headers = {"authorization": f"Bearer {studio.stack.tokens['admin']}", "idempotency-key": uuid4().hex}
    path = f"/admin/accounts/{studio.account}/revoke"

    first = studio.http.post(path, headers=headers)
    time.sleep(1.1)
    newer = signed(studio.stack, studio.account)
    time.sleep(1.1)
    again = studio.http.post(path, headers=headers)
    another = studio.http.post("/admin/accounts/nobody-at-all/revoke", headers=headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert first.json() == again.json()
    check_problem(another, 422, "idempotency_key_reused")
    time.sleep(HELD_S)
    assert ask(studio, newer).status_code == 200
    studio.http.headers["authorization"] = f"Bearer {newer}"


# API keys


def make_key(studio: Studio, *, key: str | None = None, **body: Any) -> Json:
    wanted = {"name": "server", "scopes": ["studio"], **body}
    answer = studio.http.post("/api-keys", json=wanted, headers={"idempotency-key": key} if key else {})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_key_is_shown_once_and_only_its_hash_is_kept(studio: Studio) -> None:
    made = make_key(studio)
    shown = made["key"]
    assert re.fullmatch(r"atl_[0-9a-z]{26}_[0-9a-f]{64}", shown)
    assert shown.startswith(made["prefix"] + "_")
    assert ask(studio, shown).status_code == 200

    listed = studio.http.get("/api-keys")

    assert shown.rpartition("_")[2] not in listed.text
    (seen,) = listed.json()["items"]
    assert seen["last_used_at"]
    assert {**made, "key": None, "last_used_at": None} == {**seen, "key": None, "last_used_at": None}
    for table in ("access", "limits"):
        assert shown.rpartition("_")[2] not in json.dumps(rows_of(studio.stack, table), default=str)
    (row,) = [row for row in rows_of(studio.stack, "access") if row.get("account") == studio.account]
    assert row["hash"] == hashlib.sha256(shown.encode()).hexdigest()


def test_a_key_has_its_own_scopes_and_no_more(studio: Studio) -> None:
    admin = {"authorization": f"Bearer {studio.stack.token(studio.account, 'studio admin')}"}
    both = studio.http.post("/api-keys", json={"name": "both", "scopes": ["studio", "admin"]}, headers=admin)
    assert both.status_code == 201
    weak = make_key(studio)["key"]

    def granted(credential: str) -> httpx.Response:
        path = f"/admin/accounts/{studio.account}/grants"
        return studio.http.post(path, json={"amount": 1}, headers={"authorization": f"Bearer {credential}"})

    check_problem(granted(weak), 403, "forbidden")
    assert granted(both.json()["key"]).status_code == 201
    for credential in (weak, None):
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        stronger = studio.http.post("/api-keys", json={"name": "x", "scopes": ["admin"]}, headers=headers)
        check_problem(stronger, 403, "forbidden")
        path = f"/api-keys/{both.json()['id']}/rotate"
        check_problem(studio.http.post(path, json={}, headers=headers), 403, "forbidden")


def test_a_key_makes_none_that_outlives_it(studio: Studio) -> None:
    headers = {"authorization": f"Bearer {make_key(studio, expires_in_days=7)['key']}"}

    longer = studio.http.post(
        "/api-keys", json={"name": "x", "scopes": ["studio"], "expires_in_days": 8}, headers=headers
    )
    shorter = studio.http.post(
        "/api-keys", json={"name": "x", "scopes": ["studio"], "expires_in_days": 6}, headers=headers
    )

    assert pointers(longer) == {"/expires_in_days"}
    assert shorter.status_code == 201


def test_an_expired_key_is_refused_and_off_the_list(studio: Studio) -> None:
    made = make_key(studio)
    studio.stack.client("dynamodb").update_item(
        TableName=studio.stack.tables["access"],
        Key={"id": {"S": f"key#{made['prefix'].removeprefix('atl_')}"}},
        UpdateExpression="SET expires_at = :past",
        ExpressionAttributeValues={":past": {"N": str(int(time.time()) - 1)}},
    )

    check_problem(ask(studio, made["key"]), 401, "unauthorized")
    assert studio.http.get("/api-keys").json()["items"] == []


def test_a_deleted_key_is_refused_everywhere_within_ten_seconds(studio: Studio) -> None:
    made = make_key(studio)
    for path in ("/credits", "/jobs", "/api-keys"):
        assert ask(studio, made["key"], path).status_code == 200

    answer = studio.http.delete(f"/api-keys/{made['id']}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert studio.http.get("/api-keys").json()["items"] == []
    check_problem(studio.http.delete(f"/api-keys/{made['id']}"), 404, "not_found")
    check_problem(studio.http.post(f"/api-keys/{made['id']}/rotate", json={}), 404, "not_found")
    time.sleep(10)
    for path in ("/credits", "/jobs", "/api-keys"):
        check_problem(ask(studio, made["key"], path), 401, "unauthorized")


@pytest.mark.parametrize("how", ["by itself", "by its text"])
def test_a_key_can_be_revoked_like_a_token(studio: Studio, how: str) -> None:
    key = make_key(studio)["key"]

    if how == "by itself":
        answer = studio.http.post("/auth/revoke", headers={"authorization": f"Bearer {key}"})
    else:
        answer = studio.http.post("/auth/revoke", json={"token": key})

    assert answer.json() == {"revoked": "api_key", "effective_within_s": 10}
    eventually(lambda: ask(studio, key).status_code == 401, timeout=HELD_S, what="refusal")


def test_a_rotated_key_is_good_beside_the_new_one_until_the_overlap_ends(studio: Studio) -> None:
    old = make_key(studio, name="render farm", expires_in_days=30)

    answer = studio.http.post(f"/api-keys/{old['id']}/rotate", json={"overlap_seconds": 14})
    rotated = time.time()

    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert (new["name"], new["scopes"]) == ("render farm", ["studio"])
    assert new["id"] != old["id"]
    assert [ask(studio, one["key"]).status_code for one in (old, new)] == [200, 200]
    assert {one["id"]: one["rotated_to"] for one in studio.http.get("/api-keys").json()["items"]} == {
        old["id"]: new["id"],
        new["id"]: None,
    }
    check_problem(studio.http.post(f"/api-keys/{old['id']}/rotate", json={}), 409, "already_rotated")
    time.sleep(max(0.0, rotated + 15 - time.time()))
    check_problem(ask(studio, old["key"]), 401, "unauthorized")
    assert ask(studio, new["key"]).status_code == 200


def test_a_repeated_request_for_a_key_gets_the_same_key(studio: Studio) -> None:
    key, body = uuid4().hex, {"name": "server", "scopes": ["studio"]}

    answers = at_once(
        [lambda: studio.http.post("/api-keys", json=body, headers={"idempotency-key": key})] * 8, workers=8
    )
    later = studio.http.post("/api-keys", json=body, headers={"idempotency-key": key})
    other = studio.http.post("/api-keys", json={**body, "name": "x"}, headers={"idempotency-key": key})

    assert {answer.status_code for answer in (*answers, later)} == {201}
    assert len({json.dumps(answer.json()) for answer in (*answers, later)}) == 1
    assert ["idempotency-replayed" in answer.headers for answer in answers].count(False) == 1
    assert later.headers["idempotency-replayed"] == "true"
    check_problem(other, 422, "idempotency_key_reused")
    assert len(studio.http.get("/api-keys").json()["items"]) == 1
    assert ask(studio, later.json()["key"]).status_code == 200


def test_a_repeated_rotation_makes_one_key(studio: Studio) -> None:
    old, key = make_key(studio), uuid4().hex
    path = f"/api-keys/{old['id']}/rotate"

    answers = at_once(
        [lambda: studio.http.post(path, json={"overlap_seconds": 0}, headers={"idempotency-key": key})] * 6, workers=6
    )
    studio.http.delete(f"/api-keys/{old['id']}")
    later = studio.http.post(path, json={"overlap_seconds": 0}, headers={"idempotency-key": key})

    assert {answer.status_code for answer in (*answers, later)} == {201}, later.text
    assert len({answer.json()["key"] for answer in (*answers, later)}) == 1
    assert ["idempotency-replayed" in answer.headers for answer in (*answers, later)].count(False) == 1
    assert len(studio.http.get("/api-keys").json()["items"]) == 1


def test_rotations_at_once_make_one_new_key(studio: Studio) -> None:
    old = make_key(studio)
    path = f"/api-keys/{old['id']}/rotate"

    answers = at_once([lambda: studio.http.post(path, json={})] * 6, workers=6)

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5


def test_no_repeated_request_brings_a_deleted_key_back(studio: Studio) -> None:
    key = uuid4().hex
    made = make_key(studio, key=key)
    studio.http.delete(f"/api-keys/{made['id']}")

    again = studio.http.post(
        "/api-keys", json={"name": "server", "scopes": ["studio"]}, headers={"idempotency-key": key}
    )

    check_problem(again, 409, "secret_not_repeatable")
    assert made["key"] not in again.text
    assert studio.http.get("/api-keys").json()["items"] == []


def test_keys_come_in_pages_newest_first(studio: Studio) -> None:
    made = [make_key(studio, name=f"key {number}")["id"] for number in range(5)]

    found: list[str] = []
    cursor = None
    while True:
        page = studio.http.get("/api-keys", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == made[::-1]


def test_a_job_made_with_a_key_is_the_accounts(studio: Studio) -> None:
    headers = {"authorization": f"Bearer {make_key(studio)['key']}"}

    job = studio.http.post("/images", json={"prompt": "a lighthouse"}, headers=headers).json()

    assert studio.wait(job["id"])["status"] == "succeeded"


# Limits


@pytest.fixture
def limited(new_studio: NewStudio) -> Callable[[], Studio]:
    """Makes accounts on the plan `trial`."""

    def make() -> Studio:
        studio = new_studio()
        set_plan(studio, "trial")
        time.sleep(HELD_S)
        return studio

    return make


def set_plan(studio: Studio, plan: str) -> None:
    headers = {"authorization": f"Bearer {studio.stack.tokens['admin']}"}
    answer = studio.http.put(f"/admin/accounts/{studio.account}/plan", json={"plan": plan}, headers=headers)
    assert answer.status_code == 200, answer.text


def dry(studio: Studio) -> httpx.Response:
    return studio.http.post("/images", json={"prompt": "x"}, params={"dry_run": "true"})


def remaining(answer: httpx.Response) -> int:
    found = re.fullmatch(r'"(\w+)";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert found, answer.headers["ratelimit"]
    return int(found[2])


def test_a_burst_passes_then_a_429_says_exactly_when_to_come_back(
    limited: Callable[[], Studio], new_studio: NewStudio
) -> None:
    studio, neighbour = limited(), new_studio()
    rule = limits.plans()["trial"]["create"]

    begun = time.time()
    answers = [dry(studio)]
    while answers[-1].status_code == 200 and len(answers) < 50:
        answers.append(dry(studio))
    took = time.time() - begun

    *passed, refused = answers
    assert rule.quota <= len(passed) <= rule.quota + took * rule.quota / rule.window_s + 1
    assert remaining(passed[0]) == rule.quota - 1
    assert remaining(passed[-1]) == 0
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {f'"create";q={rule.quota};w={rule.window_s}'}
    document = check_problem(refused, 429, "rate_limited")
    assert document["limit"] == "create"
    wait = int(refused.headers["retry-after"])
    assert refused.headers["ratelimit"] == f'"create";r=0;t={wait}'
    assert 1 <= wait <= rule.window_s / rule.quota + 1
    # Another class and another account are not disturbed.
    assert studio.http.get("/jobs").status_code == 200
    assert dry(neighbour).status_code == 200

    time.sleep(wait)

    assert dry(studio).status_code == 200


def test_requests_at_once_pass_no_more_often_than_the_quota(limited: Callable[[], Studio]) -> None:
    studio = limited()
    rule = limits.plans()["trial"]["create"]

    begun = time.time()
    answers = at_once([lambda: dry(studio)] * 25, workers=25)
    took = time.time() - begun

    passed = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert rule.quota <= len(passed) <= rule.quota + took * rule.quota / rule.window_s + 1


def test_every_answer_tells_its_limit(studio: Studio) -> None:
    answers = {
        "read": studio.http.get("/credits"),
        "create": dry(studio),
        "write": studio.http.post("/jobs/job_0/cancel"),
        "admin": studio.http.post("/admin/accounts/x/grants", json={"amount": 1}),
        "open": studio.http.get("/health"),
        "failed": ask(studio, "nonsense"),
    }

    for name, answer in answers.items():
        rule = limits.plans()["local"][name]
        assert answer.headers["ratelimit-policy"] == f'"{name}";q={rule.quota};w={rule.window_s}', answer.text
        assert remaining(answer) < rule.quota
    assert studio.http.get("/nowhere").headers["ratelimit-policy"].startswith('"open"')


def test_a_refused_request_costs_one_write_and_then_none(limited: Callable[[], Studio], recording: Recording) -> None:
    studio = limited()
    while dry(studio).status_code != 429:
        pass

    begun = time.time()
    answers = [dry(studio) for _ in range(5)]
    ended = time.time()

    # A process that has not seen the bucket full yet writes once.
    writes = [
        event
        for event in recording.events("CreateImageFunction", "UpdateItem")
        if begun <= event["EventTime"].timestamp() <= ended and studio.account in event["CloudTrailEvent"]
    ]
    assert [answer.status_code for answer in answers].count(429) >= 4
    assert len(writes) <= 4


# Idempotency of what is left


def test_a_repeated_cancel_is_one_cancel(studio: Studio) -> None:
    job = studio.create("[sim delay=60]")
    headers = {"idempotency-key": uuid4().hex}

    answers = at_once([lambda: studio.http.post(f"/jobs/{job['id']}/cancel", headers=headers)] * 4, workers=4)
    ended = studio.wait(job["id"])
    later = studio.http.post(f"/jobs/{job['id']}/cancel", headers=headers)

    assert {answer.status_code for answer in answers} == {200}
    assert ["idempotency-replayed" in answer.headers for answer in answers].count(False) == 1
    assert ended["status"] == "canceled"
    assert (later.json()["status"], later.headers["idempotency-replayed"]) == ("canceled", "true")
    assert [entry["type"] for entry in studio.entries()] == ["release", "hold", "grant"]
