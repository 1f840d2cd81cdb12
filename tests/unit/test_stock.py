"""Stock from search to asset: our code, the simulated Pexels, and a DynamoDB that is the emulator's own, called in this
process."""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from local.simulator.app import Settings, create_app
from local.simulator.server import serving
from shared.core import dynamo
from shared.core.errors import Conflict, NotFound, Unavailable
from shared.core.settings import settings
from shared.media import assets, library
from shared.stock import stock, table
from shared.stock.pexels import Found
from tests.unit.helpers import ENVIRONMENT, Loopback
from tests.unit.tables import emulated, having


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with serving(create_app(Settings())) as origin:
        yield origin


@pytest.fixture
def word(cloud: Loopback, simulator: str, environment: pytest.MonkeyPatch) -> Iterator[str]:
    """A word that nobody has searched yet; AWS and Pexels are there."""
    environment.setenv("PEXELS_BASE_URL", f"{simulator}/pexels")
    environment.setenv("ALLOWED_PRIVATE_ORIGINS", simulator)
    cloud.keeps_secrets({"atelier/pexels": json.dumps({"api_keys": ["pexels_test"]})})
    cloud.keeps_objects(ENVIRONMENT["MEDIA_BUCKET"])
    emulated(cloud)
    with having(environment, "StockTable", "STOCK_TABLE"), having(environment, "AssetsTable", "ASSETS_TABLE"):
        yield f"lighthouse{uuid4().hex[:8]}"


def search(query: str, **more: Any) -> Found:
    asked: dict[str, Any] = {"orientation": None, "page": 1, "per_page": 20, **more}
    return stock.search(asked.pop("kind", "photo"), query, **asked)


def asked(simulator: str, word: str) -> int:
    """How often Pexels was asked for something with this word."""
    return sum(word in one["query"] for one in httpx.get(f"{simulator}/_sim/stock").json()["searches"])


def aged(key: str, seconds: float) -> None:
    """Let an answer be as old as that."""
    answer, at = table.get(key) or ({}, 0.0)
    table.keep(key, answer, at - seconds)


@pytest.mark.parametrize("kind", ["photo", "video"])
def test_what_is_found_has_pages_and_says_who_made_it(word: str, kind: Any) -> None:
    first, last = search(word, kind=kind), search(word, kind=kind, page=3)

    assert (len(first.items), first.total, first.more) == (20, 45, True)
    assert (len(last.items), last.more) == (5, False)
    assert first.items[0].attribution["text"].endswith("by Joey Farina on Pexels")


@pytest.mark.parametrize(("orientation", "wide"), [("landscape", True), ("portrait", False)])
def test_an_orientation_is_kept_to(word: str, orientation: Any, wide: bool) -> None:
    assert all((item.width > item.height) == wide for item in search(word, orientation=orientation).items)


def test_the_same_search_asks_pexels_once_in_a_day(word: str, simulator: str) -> None:
    first = search(f"{word}  Sea")

    assert search(f" {word} sea ") == first
    assert asked(simulator, word) == 1
    aged(table.name("search", "photo", f"{word} sea", None, 1, 20), table.KEEP_S + 1)
    search(f"{word} sea")
    assert asked(simulator, word) == 2


def test_an_old_answer_is_better_than_none_while_pexels_does_not_answer(word: str, simulator: str) -> None:
    query = f"{word} [sim create=500]"
    key = table.name("search", "photo", query, None, 1, 20)
    known = search(word)
    table.keep(key, known.document(), time.time() - table.KEEP_S - 1)

    assert search(query) == known
    assert asked(simulator, word) == 2


@pytest.mark.parametrize("fault", ["500", "502html", "refuse"])
def test_without_an_answer_stock_is_not_available(word: str, fault: str) -> None:
    with pytest.raises(Unavailable) as refused:
        search(f"{word} [sim create={fault}]")

    assert refused.value.code == "stock_unavailable"


def test_a_429_leaves_pexels_alone_for_every_search(word: str, simulator: str) -> None:
    with pytest.raises(Unavailable):
        search(f"{word} [sim create=429]")
    with pytest.raises(Unavailable) as refused:
        search(f"{word} else")

    assert asked(simulator, word) == 1
    assert 50 <= int(refused.value.headers["retry-after"]) <= 60


def test_the_last_request_of_the_allowance_is_answered_and_the_next_waits_for_new_ones(
    word: str, simulator: str
) -> None:
    assert len(search(f"{word} [sim cost=0]").items) == 20
    with pytest.raises(Unavailable) as refused:
        search(f"{word} else")

    assert asked(simulator, word) == 1
    assert 3500 <= int(refused.value.headers["retry-after"]) <= 3600


@pytest.mark.parametrize(
    ("kind", "content_type", "size"),
    [("photo", "image/jpeg", (1280, 720)), ("video", "video/mp4", (640, 360))],
)
def test_an_import_is_an_asset_that_keeps_who_made_it(
    word: str, cloud: Loopback, kind: Any, content_type: str, size: tuple[int, int]
) -> None:
    item = search(word, kind=kind).items[0]

    imported = stock.take("alice", item.id, longest_side=1280 if kind == "photo" else 700)

    asset = imported.asset
    assert (asset.content_type, (asset.width, asset.height), asset.source) == (content_type, size, "stock")
    stored = cloud.buckets[settings().media_bucket][asset.key]
    assert (asset.bytes, asset.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    found = assets.find(asset.id, account="alice")
    assert found is not None
    assert found.attribution == item.attribution
    assert found.job_id == item.id


def test_the_same_item_imported_twice_is_one_asset_for_each_account(word: str) -> None:
    item = search(word).items[0]

    first, again = (stock.take("alice", item.id, longest_side=1920) for _ in range(2))
    other = stock.take("bob", item.id, longest_side=1920)

    assert (first.asset.id, first.known, again.asset.id, again.known) == (first.asset.id, False, first.asset.id, True)
    assert other.asset.id != first.asset.id
    assert assets.find(first.asset.id, account="bob") is None


@pytest.mark.parametrize("fault", ["404", "truncated", "wrong-type", "redirect-private"])
def test_a_file_that_cannot_be_had_leaves_no_asset(word: str, cloud: Loopback, fault: str) -> None:
    item = search(f"{word} [sim output={fault}]").items[0]

    with pytest.raises(Unavailable) as refused:
        stock.take("alice", item.id, longest_side=1920)

    assert refused.value.code == "stock_unavailable"
    assert cloud.buckets[settings().media_bucket] == {}


def test_an_import_counts_as_stored_and_does_so_again_when_it_was_deleted_in_between(word: str) -> None:
    item = search(word).items[0]
    asset = stock.take("alice", item.id, longest_side=1920).asset
    assert assets.stored("alice") == (asset.bytes, 1)
    library.delete(asset, time.time())
    assert assets.stored("alice") == (0, 0)

    again = stock.take("alice", item.id, longest_side=1920)

    assert (again.asset, again.known) == (asset, False)
    assert assets.stored("alice") == (asset.bytes, 1)


def test_an_import_for_which_there_is_no_room_is_refused_and_leaves_nothing(
    word: str, cloud: Loopback, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("STORAGE_QUOTA_BYTES", "1000")
    settings.cache_clear()
    item = search(word).items[0]

    with pytest.raises(Conflict) as refused:
        stock.take("alice", item.id, longest_side=1920)

    assert refused.value.code == "storage_quota_exceeded"
    assert cloud.buckets[settings().media_bucket] == {}
    assert assets.stored("alice") == (0, 0)


def test_a_file_of_unknown_length_for_which_there_is_no_room_is_removed(
    word: str, cloud: Loopback, environment: pytest.MonkeyPatch
) -> None:
    item = search(word).items[0]
    environment.setattr(stock, "_check_room", lambda account, size: None)
    environment.setenv("STORAGE_QUOTA_BYTES", "1000")
    settings.cache_clear()

    with pytest.raises(Conflict):
        stock.take("alice", item.id, longest_side=1920)

    assert cloud.buckets[settings().media_bucket] == {}


def test_what_is_being_deleted_for_good_can_be_imported_only_later(word: str) -> None:
    item = search(word).items[0]
    asset = stock.take("alice", item.id, longest_side=1920).asset
    library.delete(asset, time.time() - library.RESTORABLE_S - 1)

    with pytest.raises(Unavailable) as refused:
        stock.take("alice", item.id, longest_side=1920)

    assert (refused.value.code, refused.value.headers["retry-after"]) == ("busy", "600")


@pytest.mark.parametrize("stock_id", ["photo-1", "photo-x", "film-1", "video-", "photo-1/../2", "photo-" + "9" * 16])
def test_what_there_is_not_cannot_be_imported(word: str, stock_id: str) -> None:
    with pytest.raises(NotFound):
        stock.take("alice", stock_id, longest_side=1920)


def test_nothing_of_pexels_is_remembered_longer_than_a_week(word: str) -> None:
    search(word)

    item = dynamo.get(settings().stock_table, {"id": table.name("search", "photo", word, None, 1, 20)})
    assert item is not None
    assert item["expires_at"] <= time.time() + 7 * 86400
    assert len(json.dumps(item)) < 100_000
