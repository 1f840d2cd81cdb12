"""Who is calling: every flaw of a token is the same 401, and what is not configured is closed."""

import base64
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from api import grant_credits, models
from shared.core import auth
from shared.core.errors import Problem, Unauthorized
from tests.unit.helpers import JWT_KEY, Context, Json, Loopback, claims, event, problem, token

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def ask(**request: Any) -> Json:
    """GET /v1/models, which is closed."""
    return models.handler(event("GET", "/v1/models", **request), Context())


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def refused(answer: Json, status: int = 401, code: str = "unauthorized") -> Json:
    document = problem(answer)
    assert (document["status"], document["code"]) == (status, code)
    return document


def test_a_good_token_is_let_in(cloud: Loopback) -> None:
    assert ask(token=token())["statusCode"] == 200


@pytest.mark.parametrize("algorithm", ["HS256", "HS384"])
def test_each_configured_algorithm_is_taken(cloud: Loopback, environment: pytest.MonkeyPatch, algorithm: str) -> None:
    environment.setenv("JWT_ALGORITHMS", "HS256, HS384")

    assert ask(token=token(algorithm=algorithm, key=JWT_KEY * 2))["statusCode"] == 401
    assert ask(token=token(algorithm=algorithm))["statusCode"] == 200


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 60},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": NOW + 3600},
        {"iat": NOW + 3600},
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "another-api"},
        {"aud": None},
        {"aud": ["another-api"]},
        {"sub": None},
        {"sub": ""},
        {"sub": "a b"},
        {"sub": "../bob"},
        {"sub": "hold#job_1"},
        {"sub": "x" * 129},
        {"sub": "alice\n"},
        {"scope": ["studio"]},
        {"scope": {"studio": True}},
        {"key": JWT_KEY[:-1] + "!"},
        {"key": JWT_KEY * 2, "algorithm": "HS512"},
        {"key": RSA, "algorithm": "RS256"},
        {"algorithm": "HS512"},
        {"algorithm": "HS384"},
        {"headers": {"crit": ["x"]}},
    ],
    ids=" ".join,
)
def test_a_token_with_any_flaw_is_refused(cloud: Loopback, changes: dict[str, Any]) -> None:
    document = refused(ask(token=token(**changes)))

    assert document["detail"] == "A valid bearer token is needed."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_that_is_not_signed_is_refused(cloud: Loopback, algorithm: str | None, signature: str) -> None:
    unsigned = f"{segment({'alg': algorithm, 'typ': 'JWT'})}.{segment(claims())}.{signature}"

    refused(ask(token=unsigned))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6cGFzc3dvcmQ=",
        "Bearer x",
        "Bearer a.b",
        "Bearer a.b.c",
        "Bearer a.b.c.d.e",
        "Bearer ....",
        "Bearer ü.ü.ü",
        "Bearer " + "x" * 20_000,
        f"Bearer {segment(b'[]')}.{segment(b'[]')}.",
        f"Bearer {segment({'alg': 'HS256', 'kid': []})}.{segment(claims())}.AAAA",
        f"Bearer {segment({'alg': ['HS256']})}.{segment(claims())}.AAAA",
        f"Bearer {segment({'alg': 'HS256'})}.{segment(b'[' * 20_000)}.AAAA",
    ],
)
def test_what_is_no_token_is_refused(cloud: Loopback, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}

    answer = ask(headers=headers)

    refused(answer)
    assert answer["headers"]["www-authenticate"] == "Bearer"


def test_a_token_alone_without_its_scheme_is_refused(cloud: Loopback) -> None:
    refused(ask(headers={"authorization": token()}))


def test_the_scheme_may_be_in_any_case(cloud: Loopback) -> None:
    assert ask(headers={"authorization": f"bearer  {token()}"})["statusCode"] == 200


def test_any_change_of_the_claims_breaks_the_signature(cloud: Loopback) -> None:
    header, _, signature = token().split(".")

    refused(ask(token=f"{header}.{segment(claims(sub='bob'))}.{signature}"))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_changed_character_of_a_token_is_refused(cloud: Loopback, data: st.DataObject) -> None:
    # Not the last one: some of its bits decode to nothing.
    good = token()
    position = data.draw(st.integers(0, len(good) - 2))
    other = data.draw(st.sampled_from("ABCDwxyz0189-_").filter(lambda character: character != good[position]))

    with pytest.raises(Unauthorized):
        auth.authenticate(f"Bearer {good[:position]}{other}{good[position + 1 :]}")


def test_a_token_that_expired_a_moment_ago_is_within_the_leeway(cloud: Loopback) -> None:
    assert ask(token=token(exp=int(time.time()) - 2))["statusCode"] == 200


def test_a_token_without_the_scope_is_forbidden(cloud: Loopback) -> None:
    path = "/v1/admin/accounts/alice/grants"

    for scope in ("studio", "", None, "administrator", "admins studio"):
        answer = grant_credits.handler(
            event("POST", path, body={"amount": 1}, token=token(scope=scope, sub="alice")), Context()
        )
        refused(answer, 403, "forbidden")


def test_an_admin_alone_is_no_studio_user(cloud: Loopback) -> None:
    refused(ask(token=token(scope="admin")), 403, "forbidden")
    assert ask(token=token(scope="admin studio"))["statusCode"] == 200


# Unconfigured means closed


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("secret", [None, "", "   ", "short", "x" * 31])
def test_without_a_proper_secret_the_door_is_closed(cloud: Loopback, secret: str | None) -> None:
    cloud.keeps_secrets({} if secret is None else {"atelier/jwt": secret})

    answer = ask(token=token(key=secret.strip() if secret and secret.strip() else JWT_KEY))

    document = refused(answer, 503, "unconfigured")
    assert "secret" not in document["detail"].lower()
    assert answer["headers"]["retry-after"]


def test_the_secret_is_asked_for_once_a_minute_only(cloud: Loopback) -> None:
    for _ in range(3):
        ask(token=token())

    assert cloud.asked == ["secretsmanager.GetSecretValue"]


@pytest.mark.parametrize("algorithms", ["", " , ", "HS256,RS256", "none,HS256"])
def test_algorithms_that_contradict_each_other_close_the_door(
    cloud: Loopback, environment: pytest.MonkeyPatch, algorithms: str
) -> None:
    environment.setenv("JWT_ALGORITHMS", algorithms)

    refused(ask(token=token()), 503, "unconfigured")


def test_asymmetric_algorithms_without_a_key_set_close_the_door(
    cloud: Loopback, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("JWT_ALGORITHMS", "RS256")

    refused(ask(token=token(key=RSA, algorithm="RS256")), 503, "unconfigured")


# Published keys


def published(*keys: tuple[str, Any]) -> Json:
    """A JWKS of these public keys."""
    found = []
    for name, key in keys:
        algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        found.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": name, "use": "sig"})
    return {"keys": found}


@pytest.fixture
def issuer(cloud: Loopback, environment: pytest.MonkeyPatch) -> Loopback:
    """An issuer on loopback with an RSA and an EC key, and no HMAC secret anywhere."""
    cloud.keeps_secrets({})
    cloud.says("/jwks.json", published(("rsa", RSA), ("ec", EC)))
    environment.setenv("JWKS_URL", f"{cloud.url}/jwks.json")
    environment.setenv("JWT_ALGORITHMS", "RS256,ES256")
    return cloud


@pytest.mark.parametrize(("kid", "key", "algorithm"), [("rsa", RSA, "RS256"), ("ec", EC, "ES256")])
def test_a_token_signed_with_a_published_key_is_let_in(issuer: Loopback, kid: str, key: Any, algorithm: str) -> None:
    assert ask(token=token(key=key, algorithm=algorithm, headers={"kid": kid}))["statusCode"] == 200


@pytest.mark.parametrize(
    ("kid", "key", "algorithm"),
    [
        ("rsa", RSA_OTHER, "RS256"),
        ("ec", RSA, "RS256"),
        ("rsa", EC, "ES256"),
        ("unknown", RSA, "RS256"),
        (None, RSA, "RS256"),
        ("rsa", RSA, "RS512"),
        ("rsa", RSA, "PS256"),
        ("rsa", JWT_KEY, "HS256"),
    ],
)
def test_a_token_of_any_other_key_is_refused(issuer: Loopback, kid: str | None, key: Any, algorithm: str) -> None:
    headers = {"kid": kid} if kid else None

    refused(ask(token=token(key=key, algorithm=algorithm, headers=headers)))


@pytest.mark.parametrize("kid", ["rsa", "ec"])
def test_a_public_key_used_as_an_hmac_secret_opens_nothing(issuer: Loopback, kid: str) -> None:
    public = (RSA if kid == "rsa" else EC).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    jwk = json.dumps(next(key for key in published(("rsa", RSA), ("ec", EC))["keys"] if key["kid"] == kid))
    for secret in (pem, jwk.encode()):
        signed = f"{segment({'alg': 'HS256', 'kid': kid})}.{segment(claims())}"
        signature = segment(hmac.digest(secret, signed.encode(), "sha256"))

        refused(ask(token=f"{signed}.{signature}"))


def test_a_key_url_inside_a_token_is_never_asked(issuer: Loopback) -> None:
    issuer.says("/evil.json", published(("rsa", RSA_OTHER)))
    headers = {"kid": "rsa", "jku": f"{issuer.url}/evil.json", "jwk": published(("rsa", RSA_OTHER))["keys"][0]}

    refused(ask(token=token(key=RSA_OTHER, algorithm="RS256", headers=headers)))

    assert "/evil.json" not in [name for name, _ in issuer.seen]


def test_the_key_set_is_read_once_for_many_tokens(issuer: Loopback) -> None:
    for _ in range(3):
        ask(token=token(key=RSA, algorithm="RS256", headers={"kid": "rsa"}))

    assert issuer.asked == ["/jwks.json"]


def test_unknown_keys_do_not_make_us_ask_the_issuer_each_time(issuer: Loopback) -> None:
    for number in range(5):
        ask(token=token(key=RSA_OTHER, algorithm="RS256", headers={"kid": f"unknown-{number}"}))

    assert issuer.asked == ["/jwks.json"]


def test_a_withdrawn_key_is_forgotten_with_its_set(issuer: Loopback) -> None:
    good = token(key=RSA, algorithm="RS256", headers={"kid": "rsa"})
    assert ask(token=good)["statusCode"] == 200

    issuer.says("/jwks.json", published(("ec", EC)))
    cached = auth._key_set(f"{issuer.url}/jwks.json").jwk_set_cache
    assert cached is not None
    cached.lifespan = 1e-9

    refused(ask(token=good))


@pytest.mark.parametrize(
    ("status", "body"), [(500, {}), (404, {}), (200, b"<html>maintenance</html>"), (200, {"keys": []}), (200, b"")]
)
def test_keys_that_cannot_be_read_close_the_door(issuer: Loopback, status: int, body: Any) -> None:
    issuer.says("/jwks.json", body, status=status)

    refused(ask(token=token(key=RSA, algorithm="RS256", headers={"kid": "rsa"})), 503, "keys_unavailable")


def test_an_issuer_that_is_down_closes_the_door(issuer: Loopback, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("JWKS_URL", "http://127.0.0.1:9/jwks.json")

    refused(ask(token=token(key=RSA, algorithm="RS256", headers={"kid": "rsa"})), 503, "keys_unavailable")


def test_every_refusal_is_a_problem() -> None:
    assert issubclass(Unauthorized, Problem)
