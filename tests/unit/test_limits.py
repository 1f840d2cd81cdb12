"""Rate limits at the edge: which bucket, what an answer says of it, and what happens when nobody can count."""

import io
import json
import re
from typing import Any

import pytest

from api import create_image, credits, grant_credits, health, models
from shared.core import clock, limits
from shared.core.gcra import SECOND
from tests.unit.helpers import Context, Json, Loopback, event, problem, token

UPDATE = "DynamoDB_20120810.UpdateItem"
NOW = 1_790_848_800.0


@pytest.fixture(autouse=True)
def still(environment: pytest.MonkeyPatch) -> None:
    """Time stands still, at a moment when no token of these tests is valid for another reason than its `exp`."""
    environment.setattr(clock, "now", lambda: NOW)


def at(server: Loopback, tat_s: float) -> None:
    """Buckets that stand at this many seconds from now, and have room."""
    server.says(UPDATE, {"Attributes": {"tat": {"N": str(round((NOW + tat_s) * SECOND))}}})


def full(server: Loopback, tat_s: float) -> None:
    """Buckets that stand at this many seconds from now, whose conditions do not hold."""
    item = {"id": {"S": "x"}, "tat": {"N": str(round((NOW + tat_s) * SECOND))}}
    answer = {"__type": "ConditionalCheckFailedException", "message": "no", "Item": item}
    server.says(UPDATE, answer, status=400)


def writes(server: Loopback) -> list[Json]:
    return [json.loads(body) for name, body in server.seen if name == UPDATE]


def bucket(server: Loopback) -> str:
    """The one bucket that was counted."""
    (write,) = writes(server)
    return str(write["Key"]["id"]["S"])


def listed(**request: Any) -> Json:
    """GET /v1/models with a good token."""
    return models.handler(event("GET", "/v1/models", token=token(), **request), Context())


def test_an_answer_tells_the_policy_and_what_is_left(cloud: Loopback) -> None:
    at(cloud, 0.1)

    answer = listed()

    assert answer["statusCode"] == 200
    assert answer["headers"]["ratelimit-policy"] == '"read";q=600;w=60'
    assert answer["headers"]["ratelimit"] == '"read";r=599;t=1'


def test_a_full_bucket_is_a_429_that_says_when_to_come_back(cloud: Loopback) -> None:
    full(cloud, 62.05)

    answer = listed()

    document = problem(answer)
    assert (document["status"], document["code"], document["limit"]) == (429, "rate_limited", "read")
    assert answer["headers"]["retry-after"] == "3"
    assert answer["headers"]["ratelimit"] == '"read";r=0;t=3'
    assert answer["headers"]["ratelimit-policy"] == '"read";q=600;w=60'


def test_a_denied_bucket_is_denied_without_a_write_until_its_time(
    cloud: Loopback, environment: pytest.MonkeyPatch
) -> None:
    full(cloud, 62.05)
    assert listed()["statusCode"] == 429
    written = len(writes(cloud))

    again = listed()
    environment.setattr(clock, "now", lambda: NOW + 2)
    later = listed()
    environment.setattr(clock, "now", lambda: NOW + 3)
    at(cloud, 62.15)
    in_time = listed()

    assert [answer["statusCode"] for answer in (again, later, in_time)] == [429, 429, 200]
    assert [answer["headers"]["retry-after"] for answer in (again, later)] == ["3", "1"]
    assert len(writes(cloud)) == written + 1


def test_a_bucket_seen_idle_or_busy_is_written_so_at_the_first_try(cloud: Loopback) -> None:
    at(cloud, 0.1)
    listed()
    listed()

    first, second = writes(cloud)

    assert first["ConditionExpression"] == limits.IDLE
    assert second["ConditionExpression"] == limits.BUSY


@pytest.mark.parametrize(
    ("function", "request_of", "expected"),
    [
        (models, ("GET", "/v1/models"), "account#alice#read"),
        (credits, ("GET", "/v1/credits/nowhere"), "account#alice#read"),
        (create_image, ("POST", "/v1/images"), "account#alice#create"),
        (grant_credits, ("POST", "/v1/admin/accounts/bob/grants"), "account#alice#admin"),
    ],
)
def test_an_account_has_a_bucket_for_each_class_of_route(
    cloud: Loopback, function: Any, request_of: tuple[str, str], expected: str
) -> None:
    good = token(scope="studio admin")
    function.handler(event(*request_of, token=good, body={} if request_of[0] == "POST" else None), Context())

    assert bucket(cloud) == expected


def test_who_lacks_the_scope_is_counted_too(cloud: Loopback) -> None:
    answer = grant_credits.handler(
        event("POST", "/v1/admin/accounts/bob/grants", token=token(), body={"amount": 1}), Context()
    )

    assert answer["statusCode"] == 403
    assert bucket(cloud) == "account#alice#admin"


def test_an_open_route_is_counted_by_the_address(cloud: Loopback) -> None:
    assert health.handler(event("GET", "/v1/health"), Context())["statusCode"] == 200

    assert bucket(cloud) == "ip#203.0.113.7#open"


def test_what_a_client_says_of_its_address_is_not_believed(cloud: Loopback) -> None:
    headers = {"x-forwarded-for": "198.51.100.1", "x-real-ip": "198.51.100.1", "forwarded": "for=198.51.100.1"}
    health.handler(event("GET", "/v1/health", headers=headers), Context())

    assert bucket(cloud) == "ip#203.0.113.7#open"


def test_a_refused_token_is_counted_by_the_address(cloud: Loopback) -> None:
    answer = models.handler(event("GET", "/v1/models", token="a.b.c"), Context())

    assert answer["statusCode"] == 401
    assert answer["headers"]["ratelimit-policy"] == '"failed";q=30;w=60'
    assert bucket(cloud) == "ip#203.0.113.7#failed"


def test_who_is_refused_too_often_is_told_to_wait_and_a_good_token_is_still_let_in(cloud: Loopback) -> None:
    full(cloud, 60)
    assert models.handler(event("GET", "/v1/models", token="a.b.c"), Context())["statusCode"] == 429

    at(cloud, 0.1)

    assert models.handler(event("GET", "/v1/models", token="a.b.c"), Context())["statusCode"] == 429
    assert listed()["statusCode"] == 200


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", "ip#203.0.113.7#open"),
        ("2001:db8:1:2:3:4:5:6", "ip#2001:db8:1:2::/64#open"),
        ("2001:db8:1:2:ffff::1", "ip#2001:db8:1:2::/64#open"),
        ("2001:db8:1:3::1", "ip#2001:db8:1:3::/64#open"),
        ("", "ip#unknown#open"),
        ("account#alice", "ip#unknown#open"),
    ],
)
def test_an_ipv6_address_counts_with_its_neighbours(address: str, expected: str) -> None:
    assert limits.of_address(address, "open")[0] == expected


def test_an_accounts_own_plan_is_the_one_that_counts(cloud: Loopback) -> None:
    item = {"id": {"S": "account#alice"}, "plan": {"S": "trial"}}
    cloud.says("DynamoDB_20120810.BatchGetItem", {"Responses": {"access": [item]}, "UnprocessedKeys": {}})

    assert listed()["headers"]["ratelimit-policy"] == '"read";q=60;w=60'


def test_a_plan_that_is_no_more_is_the_default_one(cloud: Loopback, log: io.StringIO) -> None:
    item = {"id": {"S": "account#alice"}, "plan": {"S": "founders"}}
    cloud.says("DynamoDB_20120810.BatchGetItem", {"Responses": {"access": [item]}, "UnprocessedKeys": {}})

    assert listed()["headers"]["ratelimit-policy"] == '"read";q=600;w=60'
    assert "founders" in log.getvalue()


@pytest.mark.parametrize(("status", "kind"), [(400, "AccessDeniedException"), (400, "ResourceNotFoundException")])
def test_while_nobody_can_count_requests_pass_and_a_metric_tells(
    cloud: Loopback, log: io.StringIO, capsys: pytest.CaptureFixture[str], status: int, kind: str
) -> None:
    cloud.says(UPDATE, {"__type": kind, "message": "no"}, status=status)

    answers = [listed() for _ in range(3)]

    assert [answer["statusCode"] for answer in answers] == [200] * 3
    assert all("ratelimit" not in answer["headers"] for answer in answers)
    assert all(answer["headers"]["ratelimit-policy"] == '"read";q=600;w=60' for answer in answers)
    assert len(writes(cloud)) == 1, "a table that does not answer is left alone for a while"
    assert '"level":"ERROR"' in log.getvalue()
    assert "RateLimitsUnavailable" in capsys.readouterr().out


def test_every_plan_has_a_rule_for_every_class() -> None:
    for plan, rules in limits.plans().items():
        assert rules.keys() == set(limits.CLASSES), plan
        assert all(rule.quota > 0 and rule.window_s > 0 for rule in rules.values())
        # An sf-string of RFC 9651, and integers: nothing of it needs escaping.
        for rule in rules.values():
            told = limits.headers(rule, rule.allowed(rule.moved(None, SECOND), SECOND))
            assert re.fullmatch(r'"[a-z]+";q=\d+;w=\d+', told["ratelimit-policy"])
            assert re.fullmatch(r'"[a-z]+";r=\d+;t=\d+', told["ratelimit"])


def test_what_a_process_remembers_has_an_end(cloud: Loopback, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(limits, "MOST_REMEMBERED", 3)
    at(cloud, 0.1)

    for number in range(10):
        limits.take(f"ip#{number}#open", limits.rule("standard", "open"))

    assert list(limits._seen) == [f"ip#{number}#open" for number in (7, 8, 9)]
