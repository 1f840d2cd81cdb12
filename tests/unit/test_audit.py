"""What the audit makes of a stream's record: who, what, when and from where; no secret, nothing too long or twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import audit as api
from events import audit as function
from shared.core import dynamo
from shared.core.errors import BadRequest
from shared.delivery import audit, audit_table
from shared.delivery.audit_table import Search
from tests.unit.helpers import Context, Json, Loopback, event, load, problem, token

NOW = 1_790_848_812
BY = {"actor": "alice", "address": "203.0.113.7", "request_id": "req-1", "at": "2026-10-01T10:00:11.000Z"}
LATER = {**BY, "at": "2026-10-01T10:00:12.000Z"}
JOB = {"id": "job_1", "account": "alice", "status": "submitting", "request_id": "req-1", "updated_at": "a"}
TTL = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def record(
    table: str, old: Json | None, new: Json | None, *, number: str = "1", event_id: str = "e1", **more: Any
) -> Json:
    change = {"ApproximateCreationDateTime": float(NOW), "SequenceNumber": number, "Keys": {}}
    for name, image in (("OldImage", old), ("NewImage", new)):
        if image is not None:
            change[name] = dynamo.attributes(image)
    kind = "MODIFY" if old and new else "INSERT" if new else "REMOVE"
    arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}/stream/2026-09-01T08:00:00.000"
    return {"eventID": event_id, "eventName": kind, "dynamodb": change, "eventSourceARN": arn, **more}


def row(*images: Json | None, table: str = "jobs", **more: Any) -> Json:
    found = audit.row(record(table, images[0], images[1], **more))
    assert found is not None
    return found


def test_a_change_tells_who_what_when_and_from_where() -> None:
    told = row({**JOB, "changed_by": BY}, {**JOB, "status": "processing", "updated_at": "b", "changed_by": LATER})

    assert (told["account"], told["resource"], told["item"], told["action"]) == ("alice", "job/job_1", "job", "changed")
    assert (told["actor"], told["address"], told["request_id"]) == ("alice", "203.0.113.7", "req-1")
    assert told["at"].startswith("2026-10-01T10:00:12.000Z#")
    assert told["changes"] == {
        "status": {"before": "submitting", "after": "processing"},
        "updated_at": {"before": "a", "after": "b"},
    }
    assert told["expires_at"] == NOW + 400 * 86400


def test_what_is_new_is_told_whole_and_what_is_gone_too() -> None:
    made, gone = row(None, {**JOB, "changed_by": BY}), row({**JOB, "changed_by": BY, "removing": True}, None)

    assert made["action"] == "created"
    assert made["changes"].keys() == JOB.keys() == gone["changes"].keys()
    assert made["changes"]["status"] == {"after": "submitting"}
    assert (gone["action"], gone["actor"]) == ("deleted", "alice")
    assert gone["changes"]["status"] == {"before": "submitting"}


@pytest.mark.parametrize("spelling", [TTL, {"Type": TTL["type"], "PrincipalId": TTL["principalId"]}])
def test_what_its_ttl_has_deleted_has_expired(spelling: Json) -> None:
    told = row({**JOB, "changed_by": BY}, None, userIdentity=spelling)

    assert (told["action"], told["actor"]) == ("expired", "system:expiry")
    assert "address" not in told


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({**JOB, "changed_by": BY}, {**JOB, "status": "failed", "changed_by": BY}),
        ({**JOB, "changed_by": BY}, {**JOB, "status": "failed"}),
        ({**JOB, "changed_by": BY}, None),
        (None, JOB),
    ],
    ids=["signature of the change before", "signature removed", "removed without being signed", "never signed"],
)
def test_a_write_that_goes_around_our_code_is_nobodys(old: Json | None, new: Json | None) -> None:
    assert row(old, new)["actor"] == "system:unknown"


def test_a_record_that_comes_again_is_the_same_entry() -> None:
    once = row(None, JOB, event_id="e7", number="12")
    again = row(None, JOB, event_id="e7", number="12")
    other = row(None, JOB, event_id="e8", number="12")

    assert once == again
    assert (once["id"], once["at"]) != (other["id"], other["at"])


def test_entries_of_one_second_stay_in_the_streams_order() -> None:
    numbers = ["9", "10", "99", "4421584500000000017450439091"]

    ats = [row(None, JOB, number=number, event_id=f"e{number}")["at"] for number in numbers]

    assert ats == sorted(ats)


@pytest.mark.parametrize("field", ["sweep_at", "open_shard", "reconcile_at", "pending_shard", "updated_at"])
def test_looking_after_an_item_is_no_change_of_it(field: str) -> None:
    assert audit.row(record("jobs", {**JOB, field: 1}, {**JOB, field: 2, "changed_by": BY})) is None


@pytest.mark.parametrize(
    ("table", "item", "expected"),
    [
        ("jobs", {"id": "batch_1", "account": "alice"}, ("alice", "batch/batch_1", "batch")),
        ("ledger", {"account": "alice", "sort": "account"}, ("alice", "credits/alice", "balance")),
        ("ledger", {"account": "alice", "sort": "hold#job_1"}, ("alice", "job/job_1", "hold")),
        ("ledger", {"account": "alice", "sort": "hold#batch_1"}, ("alice", "batch/batch_1", "hold")),
        (
            "ledger",
            {"account": "alice", "sort": "entry#000000000002", "job_id": "job_1"},
            ("alice", "job/job_1", "entry"),
        ),
        ("ledger", {"account": "alice", "sort": "entry#000000000001"}, ("alice", "credits/alice", "entry")),
        ("ledger", {"account": "alice", "sort": "once#grant_1"}, ("alice", "credits/alice", "grant")),
        ("assets", {"id": "as_1", "account": "alice"}, ("alice", "asset/as_1", "asset")),
        ("access", {"id": "key#abc", "account": "alice"}, ("alice", "api_key/key_abc", "api_key")),
        ("access", {"id": "jti#alice#t-1"}, ("alice", "access/alice", "revoked_token")),
        ("access", {"id": "account#alice"}, ("alice", "access/alice", "access")),
    ],
)
def test_every_item_belongs_to_an_account_and_a_resource(
    table: str, item: Json, expected: tuple[str, str, str]
) -> None:
    found = audit.subject_of(table, item)

    assert found is not None
    assert (found.account, found.resource, found.item) == expected


@pytest.mark.parametrize(
    ("table", "item"),
    [
        ("ledger", {"account": "spend#replicate#2026-10-01", "sort": "shard#01", "micro_usd": 5}),
        ("assets", {"id": "analysis#abc", "answer": "[]"}),
    ],
)
def test_counters_and_remembered_answers_are_no_resource(table: str, item: Json) -> None:
    assert audit.row(record(table, None, item)) is None


# What is kept of values

SECRETS = {
    "task_token": "AQCEAAAAKgAAAAMAAAAAAAAAAbcdef",
    "request_hash": "0" * 64,
    "hash": "1" * 64,
    "salt": "pepper",
    "callback_secrets": [{"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "since": 1}],
    "secret": "hunter2hunter2",
}


def test_no_secret_is_kept_whatever_it_is_in() -> None:
    text = json.dumps(row(None, {**JOB, **SECRETS, "inner": {"deep": [SECRETS]}}))

    for value in ("AQCEAAAA", "0" * 64, "1" * 64, "pepper", "MfKQ9r8", "hunter2"):
        assert value not in text


def test_a_secret_that_changes_is_seen_to_change() -> None:
    told = row({**JOB, "salt": "a"}, {**JOB, "salt": "b"})

    assert told["changes"] == {"salt": {"before": "***", "after": "***"}}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("url", "https://s3.example.com/k?X-Amz-Signature=abc", "https://s3.example.com/k?***"),
        ("url", "see http://u:p@example.com/a#frag", "see http://example.com/a"),
        ("prompt", "my key is sk-abcdefgh12345678", "my key is ***"),
        ("callback_url", "https://hooks.example.com/services/T0/B0/abc?x=1", "https://hooks.example.com/***"),
        ("tokens_valid_after", 1790848812, 1790848812),
        ("prompt", "a lighthouse", "a lighthouse"),
        ("jobs", "[1, 2]", "(6 characters)"),
        ("cost_usd", 0.003, 0.003),
        ("is_split", True, True),
        ("error", None, None),
    ],
)
def test_a_value_is_shown_without_what_opens_doors(name: str, value: Any, expected: Any) -> None:
    assert audit.shown(name, value) == expected


@given(
    st.recursive(st.text(max_size=2000), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=20), inner))
)
def test_no_value_is_longer_than_an_audit_needs(value: Any) -> None:
    kept = audit.shown("request", value)

    text = kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False)
    assert len(text) <= audit.LONGEST_VALUE + 30


# The function


def puts(cloud: Loopback) -> list[Json]:
    asked = [json.loads(body) for name, body in cloud.seen if name == "DynamoDB_20120810.PutItem"]
    assert all(put["TableName"] == "audit" for put in asked)
    return [dynamo.plain(put["Item"]) for put in asked]


def test_a_grant_is_written_down_with_its_administrator(cloud: Loopback) -> None:
    cloud.says("DynamoDB_20120810.PutItem", {})

    answer = function.handler(load("events/audit.json"), Context())

    balance, entry = puts(cloud)
    assert answer == {"batchItemFailures": []}
    assert (balance["actor"], balance["address"], balance["request_id"]) == ("admin", "203.0.113.7", "RzXq1h5GoAMEP9w=")
    assert balance["changes"]["available"] == {"before": 20, "after": 120}
    assert (entry["item"], entry["action"], entry["changes"]["amount"]) == ("entry", "created", {"after": 100})
    assert "changed_by" not in balance["changes"]


def test_a_record_that_cannot_be_written_down_comes_again_and_the_others_do_not(cloud: Loopback) -> None:
    def answer(body: bytes) -> tuple[int, dict[str, str], bytes]:
        if b'"entry"' in body:
            return 400, {}, json.dumps({"__type": "ValidationException", "message": "no"}).encode()
        return 200, {}, b"{}"

    cloud.answers["DynamoDB_20120810.PutItem"] = answer
    records = load("events/audit.json")

    told = function.handler(records, Context())

    number = records["Records"][1]["dynamodb"]["SequenceNumber"]
    assert told == {"batchItemFailures": [{"itemIdentifier": number}]}


# What is told


ROW = {
    "account": "alice",
    "at": f"2026-10-01T10:00:12.000Z#{'1':0>40}#0123abcd",
    "id": "audit_1",
    "resource": "job/job_1",
    "item": "job",
    "action": "changed",
    "actor": "alice/k1",
    "address": "203.0.113.7",
    "request_id": "req-1",
    "changes": {"status": {"before": "queued", "after": "failed"}, "cost_usd": {"after": 0.5}},
}


def test_an_account_sees_its_own_values_and_not_ours() -> None:
    told = api.AuditEntry.of(ROW, everything=False)

    assert told.at == "2026-10-01T10:00:12.000Z"
    assert told.address == "203.0.113.7"
    assert told.changes["status"].after == "failed"
    assert told.changes["cost_usd"].after == "(internal)"
    assert api.AuditEntry.of(ROW, everything=True).changes["cost_usd"].after == 0.5


@pytest.mark.parametrize("actor", ["admin", "webhook:replicate", "system:workflow"])
def test_an_account_does_not_learn_where_others_were(actor: str) -> None:
    row = {**ROW, "actor": actor}

    assert api.AuditEntry.of(row, everything=False).address is None
    assert api.AuditEntry.of(row, everything=True).address == "203.0.113.7"


def ask(*, scope: str = "studio", **query: str) -> Json:
    return api.handler(event("GET", "/v1/audit", token=token(sub="alice", scope=scope), query=query), Context())


@pytest.mark.parametrize("query", [{"account": "bob"}, {"account": "bob", "resource": "job/job_1"}])
def test_another_accounts_audit_is_forbidden(cloud: Loopback, query: dict[str, str]) -> None:
    assert ask(**query)["statusCode"] == 403


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"since": "yesterday"}, "invalid_request"),
        ({"since": "1790849400"}, "invalid_request"),
        ({"until": "0.5"}, "invalid_request"),
        ({"until": "null,null"}, "invalid_request"),
        ({"since": "2026-10-01T10:00:00"}, "invalid_request"),
        ({"until": "0001-01-01T00:00:00+14:00"}, "invalid_request"),
        ({"resource": "job_1"}, "invalid_request"),
        ({"resource": "job/../x"}, "invalid_request"),
        ({"limit": "101"}, "invalid_request"),
        ({"cursor": "bm90aGluZw"}, "bad_cursor"),
        ({"cursor": dynamo.write_cursor("2026-13-99T10:00:12.000Z#" + "1" * 40 + "#0123abcd")}, "bad_cursor"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(cloud: Loopback, query: dict[str, str], code: str) -> None:
    assert problem(ask(**query))["code"] == code


def test_all_accounts_are_told_of_a_month_at_once(cloud: Loopback) -> None:
    assert ask(scope="studio admin", since="2026-01-01T00:00:00Z", until="2026-03-01T00:00:00Z")["statusCode"] == 422


def test_a_time_that_ends_before_it_begins_has_nothing_in_it(cloud: Loopback) -> None:
    answer = ask(since="2026-10-02T00:00:00Z", until="2026-10-01T00:00:00Z")

    assert json.loads(answer["body"]) == {"items": [], "next_cursor": None}


def test_a_cursor_only_moves_the_end_of_what_is_asked_for(cloud: Loopback) -> None:
    cloud.says("DynamoDB_20120810.Query", {"Items": []})
    at = str(ROW["at"])

    found = audit_table.page(Search(0, NOW + 60, account="alice"), limit=5, cursor=dynamo.write_cursor(at))

    asked = json.loads(next(body for name, body in cloud.seen if name == "DynamoDB_20120810.Query"))
    assert found == ([], None)
    assert asked["ExpressionAttributeValues"][":partition"] == {"S": "alice"}
    assert asked["ExpressionAttributeValues"][":high"] == {"S": at}


def test_a_cursor_of_another_list_opens_nothing(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest):
        audit_table.page(Search(0, NOW), limit=5, cursor=dynamo.write_cursor("entry#000000000002"))
