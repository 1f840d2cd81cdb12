"""Stock through HTTP: searching the simulated Pexels, asking it once in a day, and importing what was found."""

import hashlib
import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import stock as stock_api
from local.cloud import Stack
from shared.stock import table
from tests.e2e.helpers import at_once, check_problem, eventually, pointers
from tests.e2e.uploading import QUOTA, has_stored
from tests.faults.scenes import CONTEXT, api_event
from tests.inside import inside
from tests.support import Json, Studio, rows

DAY_S = 24 * 3600


@pytest.fixture
def word() -> str:
    """Something that nobody has searched yet."""
    return f"lighthouse{uuid4().hex[:8]}"


@pytest.fixture
def unthrottled(stack: Stack) -> Iterator[None]:
    """A test may make Pexels turn us away; the next one begins with a new allowance."""
    yield
    stack.client("dynamodb").delete_item(TableName=stack.tables["stock"], Key={"id": {"S": table.QUOTA["id"]}})


def search(studio: Studio, query: str, **more: Any) -> Json:
    answer = studio.http.get("/stock", params={"query": query, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def imported(studio: Studio, item: Json, *, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"idempotency-key": key} if key else {}
    return studio.http.post(f"/stock/{item['id']}/import", json=body, headers=headers)


def asked(studio: Studio, query: str) -> list[Json]:
    """What Pexels was asked with these words."""
    seen = httpx.get(f"{studio.stack.simulator_url}/_sim/stock", trust_env=False).json()["searches"]
    return [one for one in seen if query in one["query"]]


def aged(stack: Stack, query: str, seconds: float) -> None:
    """Let the answer to a search of photos be older by so much."""
    stack.client("dynamodb").update_item(
        TableName=stack.tables["stock"],
        Key={"id": {"S": table.name("search", "photo", query, None, 1, 20)}},
        UpdateExpression="SET #at = #at - :seconds",
        ConditionExpression="attribute_exists(id)",
        ExpressionAttributeNames={"#at": "at"},
        ExpressionAttributeValues={":seconds": {"N": str(seconds)}},
    )


def storage(studio: Studio) -> tuple[int, int]:
    told = studio.http.get("/storage").json()
    return told["bytes"], told["files"]


@pytest.mark.parametrize("kind", ["photo", "video"])
def test_what_is_found_comes_in_pages_and_says_who_made_it(studio: Studio, word: str, kind: str) -> None:
    pages = [search(studio, word, kind=kind, page=page) for page in (1, 2, 3)]

    assert [page["next_page"] for page in pages] == [2, 3, None]
    assert [len(page["items"]) for page in pages] == [20, 20, 5]
    items = [item for page in pages for item in page["items"]]
    assert len({item["id"] for item in items}) == pages[0]["total"] == 45
    for item in items:
        assert item["kind"] == kind
        assert item["attribution"]["author"] in item["attribution"]["text"]
        assert item["attribution"]["page_url"].startswith("https://www.pexels.com/")
        assert (item["duration_s"] is not None) == (kind == "video")


def test_an_orientation_is_kept_to(studio: Studio, word: str) -> None:
    for orientation, upright in (("portrait", True), ("landscape", False)):
        for item in search(studio, word, orientation=orientation)["items"]:
            assert (item["height"] > item["width"]) == upright


def test_the_same_search_of_anybody_asks_pexels_once_in_a_day(studio: Studio, stack: Stack, word: str) -> None:
    other = Studio(stack, f"test-{uuid4().hex[:12]}")

    found = search(studio, word)
    again = search(other, f"  {word.upper()} ")

    assert found == again
    assert len(asked(studio, word)) == 1
    aged(stack, word, DAY_S + 1)
    assert search(studio, word) == found
    assert len(asked(studio, word)) == 2
    other.close()


def test_an_answer_expires_from_the_table_after_a_week(studio: Studio, stack: Stack, word: str) -> None:
    search(studio, word)

    (item,) = rows(stack, "stock", id=table.name("search", "photo", word, None, 1, 20))
    assert 6 * DAY_S < int(item["expires_at"]) - time.time() <= 7 * DAY_S
    told = stack.client("dynamodb").describe_time_to_live(TableName=stack.tables["stock"])
    assert told["TimeToLiveDescription"]["AttributeName"] == "expires_at"


@pytest.mark.parametrize("fault", ["500", "502html", "refuse", "hang"])
def test_while_pexels_is_down_a_search_says_so_and_works_again_afterwards(
    studio: Studio, word: str, fault: str
) -> None:
    query = f"{word} [sim create={fault} times=1]"

    refused = studio.http.get("/stock", params={"query": query})

    check_problem(refused, 503, "stock_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert len(search(studio, query)["items"]) == 20


def test_while_pexels_is_down_an_old_answer_is_given(studio: Studio, stack: Stack, word: str) -> None:
    found = search(studio, word)
    aged(stack, word, DAY_S + 1)

    with inside(stack, "StockFunction", PEXELS_BASE_URL="http://127.0.0.1:9"):
        answer = stock_api.handler(get_event(studio, f"query={word}"), CONTEXT)

    assert (answer["statusCode"], json.loads(answer["body"])) == (200, found)


@pytest.mark.usefixtures("unthrottled")
def test_a_429_leaves_pexels_alone_for_every_search_and_an_old_answer_is_still_given(
    studio: Studio, stack: Stack, word: str
) -> None:
    known = search(studio, word)
    aged(stack, word, DAY_S + 1)
    throttled = f"{uuid4().hex} [sim create=429]"

    check_problem(studio.http.get("/stock", params={"query": throttled}), 503, "stock_unavailable")

    other = uuid4().hex
    refused = studio.http.get("/stock", params={"query": other})
    check_problem(refused, 503, "stock_unavailable")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert asked(studio, other) == []
    assert search(studio, word) == known


@pytest.mark.usefixtures("unthrottled")
def test_the_last_request_of_the_allowance_is_answered_and_the_next_waits(studio: Studio, word: str) -> None:
    assert search(studio, f"{word} [sim cost=0]")["items"]

    refused = studio.http.get("/stock", params={"query": uuid4().hex})

    check_problem(refused, 503, "stock_unavailable")
    assert 3000 < int(refused.headers["retry-after"]) <= 3600


@pytest.mark.parametrize("secret", [None, "", "not json", '{"api_keys": []}'])
def test_without_a_key_of_pexels_there_is_no_stock(studio: Studio, stack: Stack, word: str, secret: str | None) -> None:
    name = f"nobody-{uuid4().hex[:8]}"
    secrets = stack.client("secretsmanager")
    if secret is not None:
        secrets.create_secret(Name=f"{name}/pexels", **({"SecretString": secret} if secret else {}))

    with inside(stack, "StockFunction", STACK_NAME=name):
        answer = stock_api.handler(get_event(studio, f"query={word}"), CONTEXT)

    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "unconfigured")
    assert asked(studio, word) == []


@pytest.mark.parametrize(
    ("params", "flaws"),
    [
        ({}, {"?query"}),
        ({"query": ""}, {"?query"}),
        ({"query": "x" * 201}, {"?query"}),
        ({"query": "x", "kind": "sound"}, {"?kind"}),
        ({"query": "x", "orientation": "round"}, {"?orientation"}),
        ({"query": "x", "page": 0, "per_page": 81}, {"?page", "?per_page"}),
    ],
)
def test_a_search_that_is_none_is_refused_with_what_is_wrong(studio: Studio, params: Json, flaws: set[str]) -> None:
    assert pointers(studio.http.get("/stock", params=params)) == flaws


@pytest.mark.parametrize(("kind", "content_type", "size"), [("photo", "image/jpeg", 1280), ("video", "video/mp4", 640)])
def test_an_import_is_an_asset_of_the_library_that_keeps_who_made_it(
    studio: Studio, word: str, kind: str, content_type: str, size: int
) -> None:
    item = search(studio, word, kind=kind)["items"][0]

    answer = imported(studio, item, longest_side=1280 if kind == "photo" else 700)

    assert answer.status_code == 201, answer.text
    asset = answer.json()
    assert (asset["content_type"], asset["width"]) == (content_type, size)
    assert asset["attribution"] == item["attribution"]
    content = studio.http.get(f"/assets/{asset['id']}/content", follow_redirects=True).content
    assert (len(content), hashlib.sha256(content).hexdigest()) == (asset["bytes"], asset["sha256"])
    assert httpx.get(asset["url"], trust_env=False).content == content
    known = studio.http.get(f"/assets/{asset['id']}").json()
    assert (known["source"], known["attribution"]) == ("stock", item["attribution"])
    (listed,) = studio.http.get("/assets", params={"source": "stock", "query": word}).json()["items"]
    assert listed["id"] == asset["id"]


def test_the_smallest_side_that_may_be_asked_for_gives_the_smallest_film(studio: Studio, word: str) -> None:
    item = search(studio, word, kind="video")["items"][0]

    small, large = (imported(studio, item, longest_side=side).json() for side in (240, 8192))

    assert (small["width"], large["width"]) == (320, 1280)
    assert small["id"] != large["id"]


def test_the_same_item_taken_by_two_requests_at_once_is_one_asset_and_counted_once(studio: Studio, word: str) -> None:
    item = search(studio, word)["items"][0]

    answers = at_once([partial(imported, studio, item) for _ in range(2)])

    assert {answer.status_code for answer in answers} <= {201, 503}
    (asset_id,) = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    again = imported(studio, item)
    assert (again.status_code, again.json()["id"]) == (201, asset_id)
    assert storage(studio) == (again.json()["bytes"], 1)


def test_what_was_deleted_can_be_imported_again_and_is_counted_again(studio: Studio, word: str) -> None:
    item = search(studio, word)["items"][0]
    asset = imported(studio, item).json()
    assert storage(studio) == (asset["bytes"], 1)
    assert studio.http.delete(f"/assets/{asset['id']}").status_code == 204
    assert storage(studio) == (0, 0)

    again = imported(studio, item)

    assert (again.status_code, again.json()["id"]) == (201, asset["id"])
    assert storage(studio) == (asset["bytes"], 1)
    assert studio.http.get(f"/assets/{asset['id']}").status_code == 200


def test_an_import_for_which_there_is_no_room_is_refused(studio: Studio, word: str) -> None:
    item = search(studio, word)["items"][0]
    has_stored(studio, QUOTA - 1000)

    problem = check_problem(imported(studio, item), 409, "storage_quota_exceeded")

    assert (problem["used"], problem["quota"]) == (QUOTA - 1000, QUOTA)
    assert storage(studio)[0] == QUOTA - 1000
    assert studio.http.get("/assets").json()["items"] == []


def test_a_repeated_import_is_replayed_and_another_one_with_its_key_is_refused(studio: Studio, word: str) -> None:
    first, second = search(studio, word)["items"][:2]
    key = uuid4().hex

    made = imported(studio, first, key=key)
    again = imported(studio, first, key=key)

    assert (made.status_code, again.status_code) == (201, 201)
    assert "idempotency-replayed" not in made.headers
    assert again.headers["idempotency-replayed"] == "true"
    told = [{name: value for name, value in one.json().items() if name != "url"} for one in (made, again)]
    assert told[0] == told[1]
    for refused in (imported(studio, second, key=key), imported(studio, first, key=key, longest_side=640)):
        check_problem(refused, 422, "idempotency_key_reused")
    assert storage(studio)[1] == 1


def test_the_key_of_one_account_says_nothing_of_anothers(studio: Studio, stack: Stack, word: str) -> None:
    first, second = search(studio, word)["items"][:2]
    other = Studio(stack, f"test-{uuid4().hex[:12]}")
    key = uuid4().hex

    mine, theirs = imported(studio, first, key=key), imported(other, second, key=key)

    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert other.http.get(f"/assets/{mine.json()['id']}").status_code == 404
    assert studio.http.get(f"/assets/{theirs.json()['id']}").status_code == 404
    other.close()


@pytest.mark.parametrize("stock_id", ["photo-1", "video-1", "photo-x", "film-1", "photo-", "photo-" + "9" * 16])
def test_what_there_is_not_cannot_be_imported(studio: Studio, stock_id: str) -> None:
    check_problem(imported(studio, {"id": stock_id}), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "pointer"), [({"longest_side": 100}, "/longest_side"), ({"size": "large"}, "/size"), ([], "")]
)
def test_an_import_that_is_none_is_refused_with_what_is_wrong(studio: Studio, body: Any, pointer: str) -> None:
    answer = studio.http.post("/stock/photo-1/import", json=body)

    assert pointers(answer) == {pointer}


@pytest.mark.parametrize("fault", ["404", "truncated", "wrong-type", "too-big", "redirect-private"])
def test_a_file_that_cannot_be_had_leaves_no_asset(studio: Studio, word: str, fault: str) -> None:
    item = search(studio, f"{word} [sim output={fault}]")["items"][0]

    check_problem(imported(studio, item), 503, "stock_unavailable")

    assert studio.http.get("/assets").json()["items"] == []
    assert storage(studio) == (0, 0)


def test_an_import_is_in_the_audit_with_who_did_it(studio: Studio, word: str) -> None:
    item = search(studio, word)["items"][0]
    answer = imported(studio, item)

    def told() -> list[Json]:
        found = studio.http.get("/audit", params={"resource": f"asset/{answer.json()['id']}"}).json()["items"]
        return [entry for entry in found if "key" in entry["changes"]]

    (entry,) = eventually(told, timeout=30, what="entry of the import")
    assert (entry["actor"], entry["request_id"]) == (studio.account, answer.headers["x-request-id"])


def get_event(studio: Studio, query: str) -> Json:
    """The event of a search, as the API hands it to the function."""
    event = api_event(studio, "/v1/stock", None, {})
    event["routeKey"], event["rawQueryString"] = "GET /v1/stock", query
    event["requestContext"]["http"]["method"] = "GET"
    name, _, value = query.partition("=")
    return {**event, "queryStringParameters": {name: value}}
