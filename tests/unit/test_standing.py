"""What was revoked is refused: tokens, everything of an account, API keys; and how long a memory may say otherwise."""

import io
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from api import models
from shared.core import api_keys, auth, clock, dynamo, ids, standing
from tests.unit.helpers import JWT_KEY, Context, Json, Loopback, claims, event, problem, token

BATCH = "DynamoDB_20120810.BatchGetItem"
UPDATE = "DynamoDB_20120810.UpdateItem"
NAME = "0" * ids.LENGTH
KEY = api_keys.spell(NAME, salt="salt", pepper="pepper")


@dataclass
class Access:
    """The access table on loopback."""

    server: Loopback
    items: dict[str, Json] = field(default_factory=dict)

    def answer(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        ((table, asked),) = json.loads(request)["RequestItems"].items()
        found = [self.items[key["id"]["S"]] for key in asked["Keys"] if key["id"]["S"] in self.items]
        body = {"Responses": {table: [dynamo.attributes(item) for item in found]}, "UnprocessedKeys": {}}
        return 200, {}, json.dumps(body).encode()

    def put(self, item_id: str, **values: Any) -> None:
        self.items[item_id] = {"id": item_id, **values}

    @property
    def reads(self) -> list[set[str]]:
        """The ids that each call has asked for."""
        return [
            {key["id"]["S"] for key in asked["Keys"]}
            for name, body in self.server.seen
            if name == BATCH
            for asked in json.loads(body)["RequestItems"].values()
        ]


@pytest.fixture
def access(cloud: Loopback) -> Access:
    table = Access(cloud)
    cloud.answers[BATCH] = table.answer
    return table


def ask(credential: str) -> Json:
    return models.handler(event("GET", "/v1/models", token=credential), Context())


def refused(answer: Json) -> None:
    document = problem(answer)
    assert (document["status"], document["code"]) == (401, "unauthorized")
    assert document["detail"] == "A valid bearer token is needed.", "no refusal tells which flaw it was"


def put_key(access: Access, **changes: Any) -> None:
    good = {
        "account": "alice",
        "scopes": ["studio"],
        "hash": api_keys.digest(KEY),
        "issued_at": time.time() - 60,
        "expires_at": int(time.time()) + 600,
    }
    access.put(f"key#{NAME}", **(good | changes))


# Tokens


def test_a_token_costs_one_read_of_its_account_and_itself(access: Access) -> None:
    assert ask(token(jti="one"))["statusCode"] == 200

    assert access.reads == [{"account#alice", "jti#alice#one"}]


def test_a_revoked_token_is_refused_and_its_neighbour_is_not(access: Access) -> None:
    access.put("jti#alice#one", account="alice", expires_at=int(time.time()) + 600)

    refused(ask(token(jti="one")))
    assert ask(token(jti="two"))["statusCode"] == 200
    assert ask(token(jti="one", sub="bob"))["statusCode"] == 200, "somebody else's token of the same id is theirs"


def test_a_token_without_an_id_goes_by_its_hash(access: Access) -> None:
    plain = token()
    name = auth.verify(plain).id
    access.put(f"jti#alice#{name}", account="alice", expires_at=1)

    refused(ask(plain))
    assert ask(token(extra="x"))["statusCode"] == 200


def test_another_spelling_of_a_signature_is_the_same_token() -> None:
    """An ECDSA signature (r, s) is as good with (r, -s); a revoked token must not come back as its twin."""
    key = ec.generate_private_key(ec.SECP256R1())
    one, two = (jwt.encode(claims(iat=1, exp=2_000_000_000), key, algorithm="ES256") for _ in range(2))
    assert one != two
    said = {"sub": "alice", "exp": 1}

    assert auth._token(said, one).id == auth._token(said, two).id


@pytest.mark.parametrize("jti", ["", "x" * 256, 7, ["x"], {"x": 1}])
def test_an_id_that_could_not_be_revoked_is_no_id(access: Access, jti: Any) -> None:
    """PyJWT's own encoder refuses most of them, so they are signed by hand."""
    signed = jwt.api_jws.encode(json.dumps(claims(jti=jti)).encode(), JWT_KEY, algorithm="HS256")

    refused(ask(signed))


def test_after_a_revocation_of_everything_only_newer_tokens_count(access: Access) -> None:
    now = int(time.time())
    access.put("account#alice", tokens_valid_after=now - 100.5)

    refused(ask(token(iat=now - 200)))
    refused(ask(token(iat=now - 101)))
    refused(ask(token(iat=None)))
    assert ask(token(iat=now - 100))["statusCode"] == 200
    assert ask(token(iat=now - 200, sub="bob"))["statusCode"] == 200


def test_a_token_from_the_future_is_refused(access: Access) -> None:
    now = int(time.time())

    refused(ask(token(iat=now + 60)))
    refused(ask(token(nbf=now + 60)))
    assert ask(token(iat=now + 2, nbf=now + 2))["statusCode"] == 200, "within the leeway"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["null", "Infinity", "NaN", "1e999", '"soon"', "[]", "{}", "true"])
def test_a_time_that_is_none_is_refused_and_breaks_nothing(access: Access, name: str, value: str) -> None:
    said = {other: claim for other, claim in claims().items() if other != name}
    text = json.dumps(said)[:-1] + f', "{name}": {value}}}'
    signed = jwt.api_jws.encode(text.encode(), JWT_KEY, algorithm="HS256")

    answer = ask(signed)

    # JSON's `true` is Python's 1: long ago, which is bad for `exp` alone.
    if value == "true" and name != "exp":
        assert answer["statusCode"] == 200
    else:
        refused(answer)


def test_what_is_remembered_is_ten_seconds_old_at_the_most(access: Access, environment: pytest.MonkeyPatch) -> None:
    good, now = token(jti="one"), time.time()
    environment.setattr(clock, "now", lambda: now)
    assert ask(good)["statusCode"] == 200
    access.put("jti#alice#one", account="alice", expires_at=int(now) + 600)

    environment.setattr(clock, "now", lambda: now + standing.MAX_AGE_S - 0.01)
    assert ask(good)["statusCode"] == 200
    environment.setattr(clock, "now", lambda: now + standing.MAX_AGE_S)
    refused(ask(good))

    assert standing.MAX_AGE_S == 10
    assert len(access.reads) == 2


def test_a_clock_that_was_set_back_makes_no_memory_young(access: Access, environment: pytest.MonkeyPatch) -> None:
    good, now = token(jti="one"), time.time()
    environment.setattr(clock, "now", lambda: now)
    assert ask(good)["statusCode"] == 200
    access.put("jti#alice#one", account="alice", expires_at=int(now) + 600)

    environment.setattr(clock, "now", lambda: now - 3600)

    refused(ask(good))


@pytest.mark.parametrize("kind", ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"])
def test_while_the_table_cannot_be_read_nobody_is_let_in(cloud: Loopback, log: io.StringIO, kind: str) -> None:
    cloud.says(BATCH, {"__type": kind, "message": "no"}, status=400)

    answer = ask(token())

    document = problem(answer)
    assert (document["status"], document["code"]) == (503, "access_unavailable")
    assert "nobody is let in" in log.getvalue()


def test_items_that_the_table_holds_back_are_asked_for_again_and_then_given_up(cloud: Loopback) -> None:
    held_back = {"access": {"Keys": [{"id": {"S": "account#alice"}}]}}
    cloud.says(BATCH, {"Responses": {}, "UnprocessedKeys": held_back})

    document = problem(ask(token()))

    assert (document["status"], document["code"]) == (503, "busy")
    assert cloud.asked.count("secretsmanager.GetSecretValue") == 1


def test_a_forged_token_asks_the_table_nothing(access: Access) -> None:
    refused(ask(token(key="x" * 64)))

    assert access.reads == []


# API keys


def test_an_api_key_is_its_account_with_its_scopes(access: Access) -> None:
    put_key(access)

    caller = auth.authenticate(f"Bearer {KEY}")

    assert (caller.account, caller.scopes, caller.is_key) == ("alice", frozenset({"studio"}), True)
    assert caller.actor == f"alice/key_{NAME}"
    assert ask(KEY)["statusCode"] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"hash": "0" * 64},
        {"hash": ""},
        {"expires_at": 1},
        {"expires_at": int(time.time()) - 1},
    ],
)
def test_an_api_key_that_is_not_or_no_longer_one_is_refused(access: Access, changes: Json) -> None:
    put_key(access, **changes)

    refused(ask(KEY))


def test_a_deleted_key_is_refused(access: Access) -> None:
    put_key(access)
    del access.items[f"key#{NAME}"]["hash"]

    refused(ask(KEY))


def test_an_api_key_does_not_survive_the_revocation_of_everything(access: Access) -> None:
    put_key(access)
    access.put("account#alice", tokens_valid_after=time.time() - 30)

    refused(ask(KEY))


def test_an_api_key_without_the_scope_is_forbidden(access: Access) -> None:
    put_key(access, scopes=["admin"])

    assert problem(ask(KEY))["code"] == "forbidden"


@pytest.mark.parametrize(
    "key",
    [
        "atl_",
        f"atl_{NAME}",
        f"atl_{NAME}_",
        f"atl_{NAME}_{'0' * 63}",
        f"atl_{NAME}_{'0' * 65}",
        f"atl_{NAME}_{'G' * 64}",
        f"atl_{NAME.upper()}x_{'0' * 64}",
        f"atl_{'../' * 8}__{'0' * 64}",
        KEY.upper(),
        KEY + "\n",
        KEY[:-1],
    ],
)
def test_what_is_not_spelled_like_a_key_asks_the_table_nothing(access: Access, key: str) -> None:
    put_key(access)
    answer = ask(key)

    if key.strip() == KEY:  # A header's value has no blanks at its ends.
        assert answer["statusCode"] == 200
    else:
        refused(answer)
        assert access.reads == []


def test_one_changed_character_of_the_secret_is_refused(access: Access) -> None:
    put_key(access)

    refused(ask(KEY[:-1] + ("0" if KEY[-1] != "0" else "1")))


def test_the_use_of_a_key_is_noted_once_an_hour(access: Access, environment: pytest.MonkeyPatch) -> None:
    put_key(access)
    for _ in range(3):
        assert ask(KEY)["statusCode"] == 200

    noted = [body for name, body in access.server.seen if name == UPDATE and b"used#" in body]
    assert len(noted) == 1


def test_a_use_that_cannot_be_noted_costs_the_caller_nothing(access: Access) -> None:
    put_key(access)
    access.server.says(UPDATE, {"__type": "AccessDeniedException", "message": "no"}, status=400)

    assert ask(KEY)["statusCode"] == 200


def test_no_key_is_ever_logged(access: Access, log: io.StringIO) -> None:
    put_key(access)
    ask(KEY)
    ask(KEY[:-1] + "x")

    assert '"answered"' in log.getvalue()
    assert KEY[-64:] not in log.getvalue()
    assert KEY[-64:-1] not in log.getvalue()


@given(st.text(alphabet=ids.ALPHABET, min_size=26, max_size=26), st.text(min_size=1), st.text(min_size=1))
def test_a_key_says_its_name_and_is_the_only_one_of_its_digest(name: str, salt: str, pepper: str) -> None:
    key = api_keys.spell(name, salt=salt, pepper=pepper)

    assert api_keys.name_of(key) == name
    assert api_keys.is_of(key, api_keys.digest(key))
    assert not api_keys.is_of(key, "")
    assert api_keys.spell(name, salt=salt + "x", pepper=pepper) != key
    assert api_keys.spell(name, salt=salt, pepper=pepper + "x") != key


# Published keys


@pytest.fixture
def moment(environment: pytest.MonkeyPatch) -> Json:
    """What the monotonic clock says; a test sets it."""
    told: Json = {"now": 1000.0}
    environment.setattr(time, "monotonic", lambda: told["now"])
    return told


@pytest.fixture
def issuer(cloud: Loopback, environment: pytest.MonkeyPatch) -> Loopback:
    environment.setenv("JWKS_URL", f"{cloud.url}/jwks.json")
    environment.setenv("JWT_ALGORITHMS", "ES256")
    return cloud


EC_KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("old", "new")}


def publish(issuer: Loopback, *names: str) -> None:
    from jwt.algorithms import ECAlgorithm

    keys = [json.loads(ECAlgorithm.to_jwk(EC_KEYS[name].public_key())) | {"kid": name, "use": "sig"} for name in names]
    issuer.says("/jwks.json", {"keys": keys})


def signed(name: str, kid: str | None = None) -> str:
    return token(key=EC_KEYS[name], algorithm="ES256", headers={"kid": kid or name})


def test_a_new_key_is_fetched_after_a_minute_and_a_flood_of_unknown_ones_asks_no_more(
    issuer: Loopback, moment: Json
) -> None:
    publish(issuer, "old")
    assert ask(signed("old"))["statusCode"] == 200
    publish(issuer, "old", "new")
    asked = issuer.asked.count("/jwks.json")
    assert asked == 1

    for number in range(50):
        refused(ask(signed("new", f"unknown-{number}")))
        moment["now"] += 1
    assert issuer.asked.count("/jwks.json") == 1

    moment["now"] = 1000 + auth.JWKS_COOLDOWN_S
    assert ask(signed("new"))["statusCode"] == 200
    for number in range(50):
        refused(ask(signed("new", f"unknown-{number}")))
        moment["now"] += 1
    assert issuer.asked.count("/jwks.json") == 2
    assert auth.JWKS_COOLDOWN_S == 60


def test_an_issuer_that_fails_is_not_hammered_with_unknown_keys_and_known_ones_go_on(
    issuer: Loopback, moment: Json
) -> None:
    publish(issuer, "old")
    assert ask(signed("old"))["statusCode"] == 200
    issuer.says("/jwks.json", {}, status=500)
    moment["now"] += auth.JWKS_COOLDOWN_S

    for number in range(30):
        assert problem(ask(signed("new", f"unknown-{number}")))["code"] == "keys_unavailable"
        assert ask(signed("old"))["statusCode"] == 200
        moment["now"] += 1

    assert issuer.asked.count("/jwks.json") == 2


def test_an_issuer_that_never_answered_is_asked_every_few_seconds(issuer: Loopback, moment: Json) -> None:
    issuer.says("/jwks.json", {}, status=500)

    for _ in range(10):
        assert problem(ask(signed("old")))["code"] == "keys_unavailable"
        moment["now"] += 1

    assert issuer.asked.count("/jwks.json") == 2


def test_a_withdrawn_key_opens_nothing_after_five_minutes(issuer: Loopback, moment: Json) -> None:
    publish(issuer, "old")
    assert ask(signed("old"))["statusCode"] == 200
    publish(issuer, "new")

    moment["now"] += auth.JWKS_MAX_AGE_S + 1

    refused(ask(signed("old")))
    assert ask(signed("new"))["statusCode"] == 200
