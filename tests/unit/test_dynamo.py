"""Plain values, transactions that retry only what is worth it, and cursors that open nothing else."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from shared.core import aws, dynamo
from shared.core.acting import UNKNOWN, acting, as_actor
from shared.core.dynamo import Refused
from shared.core.errors import BadRequest, Unavailable

PUT = dynamo.put("jobs", {"id": "job_1"})


@pytest.fixture
def slept(environment: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been slept."""
    pauses: list[float] = []
    environment.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def table(slept: list[float]) -> Iterator[Stubber]:
    with Stubber(aws.dynamodb()) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def canceled(table: Stubber, *codes: str, **items: Any) -> None:
    reasons = [
        {"Code": code, **({"Item": dynamo.attributes(items[f"at{i}"])} if f"at{i}" in items else {})}
        for i, code in enumerate(codes)
    ]
    table.add_client_error(
        "transact_write_items", "TransactionCanceledException", modeled_fields={"CancellationReasons": reasons}
    )


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False).map(lambda value: round(value, 3) + 0.0)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "written"), [(1.0, "1"), (600.0, "600"), (-0.0, "0"), (0.5, "0.5"), (1e-05, "0.00001")]
)
def test_numbers_are_written_as_dynamodb_writes_them(value: float, written: str) -> None:
    assert dynamo.serialize({"in": [value]}) == {"M": {"in": {"L": [{"N": written}]}}}


@given(st.dictionaries(st.text(min_size=1, max_size=10), PLAIN, max_size=5))
def test_an_item_comes_back_as_it_was_put(item: dict[str, Any]) -> None:
    assert dynamo.plain(dynamo.attributes(item)) == item


def test_whole_numbers_come_back_as_int_and_others_as_float() -> None:
    found = dynamo.plain(dynamo.attributes({"whole": 3, "time": 1790848800.25, "inside": [{"n": 1}]}))

    assert [type(found["whole"]), type(found["time"]), type(found["inside"][0]["n"])] == [int, float, int]


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
def test_a_conflict_is_tried_again(table: Stubber, slept: list[float], code: str) -> None:
    canceled(table, code, "None")
    canceled(table, "None", code)
    table.add_response("transact_write_items", {})

    dynamo.transact([PUT, PUT])

    assert len(slept) == 2


def test_a_transaction_that_is_still_in_progress_is_tried_again(table: Stubber) -> None:
    table.add_client_error("transact_write_items", "TransactionInProgressException")
    table.add_response("transact_write_items", {})

    dynamo.transact([PUT])


def test_a_refused_condition_is_an_answer_with_the_item_at_its_index(table: Stubber, slept: list[float]) -> None:
    canceled(table, "None", "ConditionalCheckFailed", "ConditionalCheckFailed", at1={"id": "job_1", "hold": 3})

    with pytest.raises(Refused) as refused:
        dynamo.transact([PUT, PUT, PUT])

    assert refused.value.refusals == [False, True, True]
    assert refused.value.found == [None, {"id": "job_1", "hold": 3}, None]
    assert slept == []


def test_a_refusal_beside_a_conflict_is_an_answer(table: Stubber) -> None:
    canceled(table, "TransactionConflict", "ConditionalCheckFailed")

    with pytest.raises(Refused):
        dynamo.transact([PUT, PUT])


@pytest.mark.parametrize("code", ["ValidationError", "ItemCollectionSizeLimitExceeded", "DuplicateItem"])
def test_what_another_try_would_not_change_is_raised(table: Stubber, slept: list[float], code: str) -> None:
    canceled(table, code, "TransactionConflict")

    with pytest.raises(ClientError):
        dynamo.transact([PUT, PUT])

    assert slept == []


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"])
def test_an_error_that_is_no_cancellation_is_raised(table: Stubber, code: str) -> None:
    table.add_client_error("transact_write_items", code)

    with pytest.raises(ClientError):
        dynamo.transact([PUT])


def test_endless_conflicts_end_in_busy_after_bounded_pauses(table: Stubber, slept: list[float]) -> None:
    for _ in range(dynamo.TRANSACTION_ATTEMPTS):
        canceled(table, "TransactionConflict")

    with pytest.raises(Unavailable) as busy:
        dynamo.transact([PUT])

    assert (busy.value.status, busy.value.code) == (503, "busy")
    assert all(0 <= pause <= 0.5 for pause in slept)


def test_a_refused_update_says_what_it_met(table: Stubber) -> None:
    table.add_client_error(
        "update_item",
        "ConditionalCheckFailedException",
        modeled_fields={"Item": dynamo.attributes({"id": "job_1", "status": "failed"})},
    )

    with pytest.raises(Refused) as refused:
        dynamo.update(dynamo.change("jobs", {"id": "job_1"}, "SET a = :a", when="a = :b", values={"a": 1, "b": 2}))

    assert refused.value.found == [{"id": "job_1", "status": "failed"}]


def test_a_refused_update_of_nothing_has_met_nothing(table: Stubber) -> None:
    table.add_client_error("update_item", "ConditionalCheckFailedException")

    with pytest.raises(Refused) as refused:
        dynamo.update(dynamo.change("jobs", {"id": "job_1"}, "SET a = :a", when="a = :b", values={"a": 1, "b": 2}))

    assert refused.value.found == [None]


# Pages


def entries(*numbers: int) -> list[dict[str, Any]]:
    return [{"account": "alice", "sort": f"entry#{number:012d}"} for number in numbers]


def page(cursor: str | None = None, limit: int = 2) -> tuple[list[dict[str, Any]], str | None]:
    return dynamo.page("ledger", partition=("account", "alice"), sort=("sort", "entry#"), limit=limit, cursor=cursor)


def answer(items: list[dict[str, Any]], *, last: dict[str, Any] | None = None) -> dict[str, Any]:
    more = {"LastEvaluatedKey": dynamo.attributes(last)} if last else {}
    return {"Items": [dynamo.attributes(item) for item in items], **more}


def test_a_cursor_leads_to_what_follows_the_page(table: Stubber) -> None:
    common = {
        "TableName": "ledger",
        "KeyConditionExpression": ANY,
        "ExpressionAttributeNames": ANY,
        "ExpressionAttributeValues": ANY,
        "ScanIndexForward": False,
        "Limit": 3,
    }
    table.add_response("query", answer(entries(9, 8, 7), last=entries(7)[0]), common)
    after = dynamo.attributes(entries(8)[0])
    table.add_response("query", answer(entries(7)), {**common, "ExclusiveStartKey": after})

    first, cursor = page()
    second, end = page(cursor)

    assert (first, second) == (entries(9, 8), entries(7))
    assert cursor is not None
    assert end is None


def test_a_last_page_that_is_exactly_full_has_no_cursor(table: Stubber) -> None:
    table.add_response("query", answer(entries(2, 1)))

    assert page() == (entries(2, 1), None)


def test_a_page_with_a_filter_is_one_query_and_may_be_short_and_yet_have_a_next_one(table: Stubber) -> None:
    table.add_response("query", answer(entries(9), last=entries(6)[0]))
    table.add_response("query", answer([], last=entries(4)[0]))
    table.add_response("query", answer(entries(3, 2, 1), last=entries(1)[0]))
    table.add_response("query", answer(entries(1)))

    found, cursor = [], None
    for _ in range(4):
        items, cursor = dynamo.page(
            "ledger",
            partition=("account", "alice"),
            sort=("sort", "entry#"),
            limit=2,
            cursor=cursor,
            where={"type": "grant"},
        )
        found.append(items)

    assert (found, cursor) == ([entries(9), [], entries(3, 2), entries(1)], None)


def test_a_cursor_of_an_index_names_the_key_of_the_table_as_well(table: Stubber) -> None:
    created = "2026-10-01T10:00:00.000Z#job_7"
    cursor = base64.urlsafe_b64encode(created.encode()).decode().rstrip("=")
    start = dynamo.attributes({"account": "alice", "created": created, "id": "job_7"})
    table.add_response(
        "query",
        answer([]),
        {
            "TableName": "jobs",
            "IndexName": "by_account",
            "KeyConditionExpression": ANY,
            "ExpressionAttributeNames": ANY,
            "ExpressionAttributeValues": ANY,
            "ScanIndexForward": False,
            "ExclusiveStartKey": start,
            "Limit": 6,
        },
    )

    dynamo.page(
        "jobs",
        index="by_account",
        partition=("account", "alice"),
        sort=("created", ""),
        also_key="id",
        limit=5,
        cursor=cursor,
    )


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!!",
        "äöü",
        "AAAA AAAA",
        base64.urlsafe_b64encode(b"hold#job_1").decode(),
        base64.urlsafe_b64encode(b"account").decode(),
        base64.urlsafe_b64encode(b"entry#\x00").decode(),
        base64.urlsafe_b64encode("entry#ü".encode()).decode(),
        base64.urlsafe_b64encode(b"entry#" + b"9" * 300).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_a_foreign_or_garbled_cursor_is_refused_before_anything_is_asked(cursor: str) -> None:
    with pytest.raises(BadRequest) as refused:
        page(cursor)

    assert refused.value.code == "bad_cursor"


@given(st.text(max_size=60))
def test_no_cursor_makes_anything_but_a_page_or_bad_cursor(cursor: str) -> None:
    try:
        value = dynamo.read_cursor(cursor, "entry#")
    except BadRequest as refused:
        assert refused.code == "bad_cursor"  # noqa: PT017 Some examples are cursors.
    else:
        assert value is not None
        assert value.startswith("entry#")


# What follows the last # is a key, which is never empty.
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=150)


@given(WORDS.filter(lambda word: not word.endswith("#")).map("entry#".__add__))
def test_a_cursor_of_ours_says_what_it_was_made_of(sort_value: str) -> None:
    assert dynamo.read_cursor(dynamo.write_cursor(sort_value), "entry#") == sort_value


# Who did it


def signed(write: Any) -> dict[str, Any]:
    """The one write as it goes out."""
    (what,) = dynamo._signed(write).values()
    assert isinstance(what, dict)
    return what


AUDITED = ("jobs", "ledger", "assets", "access")


@pytest.mark.parametrize("table", AUDITED)
def test_what_is_put_into_an_audited_table_says_who_put_it_there(environment: pytest.MonkeyPatch, table: str) -> None:
    with as_actor("alice", address="203.0.113.7", request_id="req-1"):
        item = dynamo.plain(signed(dynamo.put(table, {"id": "x"}))["Item"])

    by = item["changed_by"]
    assert item["id"] == "x"
    assert (by["actor"], by["address"], by["request_id"]) == ("alice", "203.0.113.7", "req-1")
    assert by["at"].endswith("Z")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("SET a = :a", "SET changed_by = :changed_by, a = :a"),
        ("SET a = :a REMOVE b", "SET changed_by = :changed_by, a = :a REMOVE b"),
        ("ADD n :a SET b = :a", "ADD n :a SET changed_by = :changed_by, b = :a"),
        ("REMOVE open_shard, sweep_at", "REMOVE open_shard, sweep_at SET changed_by = :changed_by"),
    ],
)
def test_what_is_changed_says_who_changed_it(environment: pytest.MonkeyPatch, expression: str, expected: str) -> None:
    values = {"a": 1} if ":a" in expression else {}
    with as_actor("system:sweeper"):
        what = signed(dynamo.change("jobs", {"id": "x"}, expression, when="attribute_exists(id)", values=values))

    assert what["UpdateExpression"] == expected
    told = dynamo.plain(what["ExpressionAttributeValues"])
    assert told[":changed_by"].keys() == {"actor", "at"}
    assert told[":changed_by"]["actor"] == "system:sweeper"
    assert {name: told[name] for name in told if name != ":changed_by"} == {f":{name}": 1 for name in values}


def test_where_nobody_has_said_who_it_is_nobody_is_named(environment: pytest.MonkeyPatch) -> None:
    assert dynamo.plain(signed(dynamo.put("jobs", {"id": "x"}))["Item"])["changed_by"]["actor"] == "system:unknown"


def test_a_table_that_is_not_audited_is_written_as_it_is(environment: pytest.MonkeyPatch) -> None:
    assert signed(dynamo.put("limits", {"id": "x"}))["Item"] == {"id": {"S": "x"}}


def test_every_member_of_a_transaction_is_signed(table: Stubber) -> None:
    sent: list[Any] = []
    client = aws.dynamodb()
    event = "provide-client-params.dynamodb.TransactWriteItems"
    client.meta.events.register(event, lambda params, **_: sent.append(params["TransactItems"]), unique_id="test")
    table.add_response("transact_write_items", {})

    with as_actor("alice"):
        dynamo.transact(
            [PUT, dynamo.change("ledger", {"account": "a", "sort": "b"}, "SET c = :c", when="x", values={})]
        )

    client.meta.events.unregister(event, unique_id="test")
    put, change = sent[0]
    assert "changed_by" in put["Put"]["Item"]
    assert "changed_by" in change["Update"]["UpdateExpression"]


def test_who_acts_is_known_only_within_the_block() -> None:
    with as_actor("alice"):
        with as_actor("system:workflow"):
            assert acting().name == "system:workflow"
        assert acting().name == "alice"

    assert acting() == UNKNOWN


def test_what_is_removed_is_signed_first_and_stays_when_somebody_has_changed_it_meanwhile(table: Stubber) -> None:
    by = {"changed_by": {"M": {"actor": {"S": "alice"}}}}
    table.add_response("update_item", {"Attributes": {"id": {"S": "x"}, **by}})
    table.add_client_error(
        "delete_item", "ConditionalCheckFailedException", modeled_fields={"Item": {"id": {"S": "x"}}}
    )

    with pytest.raises(Refused) as refused:
        dynamo.remove("assets", {"id": "x"}, when="attribute_exists(id)", values={})

    assert refused.value.found == [{"id": "x"}]


def test_any_number_of_items_is_put_and_what_the_table_did_not_take_is_put_again(
    table: Stubber, slept: list[float]
) -> None:
    requests = [{"PutRequest": {"Item": {"id": {"S": str(number)}}}} for number in range(30)]
    left = {"UnprocessedItems": {"lists": requests[3:5]}}
    table.add_response("batch_write_item", left, {"RequestItems": {"lists": requests[:25]}})
    table.add_response("batch_write_item", {"UnprocessedItems": {}}, {"RequestItems": {"lists": requests[3:5]}})
    table.add_response("batch_write_item", {}, {"RequestItems": {"lists": requests[25:]}})

    dynamo.put_all("lists", [{"id": str(number)} for number in range(30)])

    assert len(slept) == 1


def test_who_puts_items_is_told_when_the_table_does_not_take_all_of_them(table: Stubber, slept: list[float]) -> None:
    for _ in range(dynamo.WRITES):
        left = {"UnprocessedItems": {"lists": [{"DeleteRequest": {"Key": {"id": {"S": "1"}}}}]}}
        table.add_response("batch_write_item", left)

    with pytest.raises(Unavailable):
        dynamo.delete_all("lists", [{"id": "1"}, {"id": "2"}])

    assert max(slept) <= 0.5
