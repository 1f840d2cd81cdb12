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


def test_a_filter_that_drops_most_items_still_fills_the_page(table: Stubber) -> None:
    table.add_response("query", answer(entries(9), last=entries(6)[0]))
    table.add_response("query", answer([], last=entries(4)[0]))
    table.add_response("query", answer(entries(3, 2)))

    items, cursor = dynamo.page(
        "ledger",
        partition=("account", "alice"),
        sort=("sort", "entry#"),
        limit=2,
        cursor=None,
        where={"type": "grant"},
    )

    assert items == entries(9, 3)
    assert cursor is not None


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
        value = dynamo._read_cursor(cursor, "entry#")
    except BadRequest as refused:
        assert refused.code == "bad_cursor"  # noqa: PT017 Some examples are cursors.
    else:
        assert value is not None
        assert value.startswith("entry#")


# What follows the last # is a key, which is never empty.
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=150)


@given(WORDS.filter(lambda word: not word.endswith("#")).map("entry#".__add__))
def test_a_cursor_of_ours_says_what_it_was_made_of(sort_value: str) -> None:
    assert dynamo._read_cursor(dynamo._write_cursor(sort_value), "entry#") == sort_value
