"""The assets table as it is: uploads, the library and what is due, on the indexes of the template."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from shared.core import dynamo
from shared.core.acting import as_actor
from shared.core.dynamo import Item, Refused
from shared.core.errors import NotFound
from shared.core.settings import settings
from shared.media import assets, library
from shared.media.assets import Asset, Origin
from shared.media.library import DAY_S, Wanted
from shared.uploads import accept, expire, receive, table
from tests import corpus
from tests.unit import tables
from tests.unit.helpers import Loopback

NOW = 1_790_848_800.5


@pytest.fixture(autouse=True)
def library_table(cloud: Loopback, environment: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """An empty table, and what is in the bucket."""
    tables.emulated(cloud)
    bucket = cloud.keeps_objects("media")
    with tables.having(environment, "AssetsTable", "ASSETS_TABLE"), as_actor("alice"):
        yield bucket


@pytest.fixture
def bucket(library_table: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The bucket, which copies within itself."""

    def copy(source: dict[str, str], _: str, key: str, **__: Any) -> None:
        library_table[key] = library_table[source["Key"]]

    monkeypatch.setattr(receive.aws.s3(), "copy", copy)
    return library_table


def item_of(item_id: str) -> Item | None:
    return dynamo.get(settings().assets_table, {"id": item_id})


def generated(number: int = 1, text: str = "hello", account: str = "alice", prompt: str = "a lighthouse") -> Asset:
    origin = Origin(account, f"job_{number}", "transcription", "srt", prompt=prompt)
    return assets.store_text(text, "application/x-subrip", f"as_{number}", origin, now=NOW + number)


def comes(bucket: dict[str, bytes], sample: str = "alpha PNG", *, account: str = "alice", **more: Any) -> table.Upload:
    """A file of the corpus is promised, sent and received."""
    data = corpus.make(sample)
    media_type = corpus.SAMPLES[sample].media_type
    made, _ = accept.accept(account, media_type, len(data), more.get("name"), idempotency_key=None, now=NOW)
    bucket[made.key] = data
    receive.receive(made.key, lambda: 300, NOW)
    found = table.find(made.id, account=account)
    assert found is not None
    return found


def listed(account: str = "alice", **wanted: Any) -> list[str]:
    found, _ = library.page(account, Wanted(**wanted), limit=100, cursor=None)
    return [one.id for one in found]


def test_uploads_and_generations_are_in_one_list_newest_first(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket, name="Logo")
    generated(1)
    generated(2)

    assert listed() == ["as_2", "as_1", upload.asset_id]
    assert listed(source="upload") == [upload.asset_id]
    assert listed(kind="transcription") == ["as_2", "as_1"]
    assert listed(query="logo") == [upload.asset_id]
    assert listed(query="lighthouse") == ["as_2", "as_1"]
    assert listed("bob") == []


def test_pages_follow_each_other_by_their_cursors() -> None:
    for number in range(1, 8):
        generated(number)

    first, cursor = library.page("alice", Wanted(), limit=3, cursor=None)
    second, cursor = library.page("alice", Wanted(), limit=3, cursor=cursor)
    third, end = library.page("alice", Wanted(), limit=3, cursor=cursor)

    assert [[one.id for one in page] for page in (first, second, third)] == [
        ["as_7", "as_6", "as_5"],
        ["as_4", "as_3", "as_2"],
        ["as_1"],
    ]
    assert end is None


def test_what_is_stored_is_counted_once_however_often_it_is_stored() -> None:
    generated(1, "12345")
    generated(1, "12345")
    generated(1, "1234567")
    generated(2, "1")

    assert assets.stored("alice") == (8, 2)
    assert assets.stored("bob") == (0, 0)


def test_an_upload_becomes_a_ready_asset_that_can_be_found(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket, "rotation 90", name="Harbour")

    assert upload.state == "ready"
    asset = assets.find(upload.asset_id or "", account="alice")
    assert asset is not None
    assert (asset.name, asset.width, asset.height, asset.duration_s) == ("Harbour", 96, 128, 2)
    assert asset.probe is not None
    assert asset.probe["picture"]["frame_rate"] == "30/1"
    assert set(bucket) == {asset.key, asset.previews["thumbnail"]}
    assert assets.stored("alice") == (asset.bytes, 1)
    assert assets.find(asset.id, account="bob") is None


def test_a_rejected_upload_keeps_its_reason_and_takes_no_room(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket, "truncated")

    assert (upload.state, upload.code) == ("rejected", "truncated")
    assert bucket == {}
    assert assets.stored("alice") == (0, 0)
    assert listed() == []


def test_the_same_file_told_of_twice_is_one_asset(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket)
    before = dict(bucket)

    receive.receive(upload.key, lambda: 300, NOW + 5)

    assert bucket == before
    assert assets.stored("alice")[1] == 1


def test_a_form_that_is_sent_again_changes_nothing_and_leaves_nothing(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket)
    before = dict(bucket)
    bucket[upload.key] = b"something else"

    receive.receive(upload.key, lambda: 300, NOW + 5)

    assert bucket == before
    assert table.find(upload.id, account="alice") == upload


def test_uploads_end_where_the_quota_does_and_generations_do_not(
    bucket: dict[str, bytes], environment: pytest.MonkeyPatch
) -> None:
    size = len(corpus.make("alpha PNG"))
    environment.setenv("STORAGE_QUOTA_BYTES", str(2 * size))
    settings.cache_clear()
    data = corpus.make("alpha PNG")
    promised = [
        accept.accept("alice", "image/png", size, None, idempotency_key=str(number), now=NOW)[0] for number in range(3)
    ]
    for upload in promised:
        bucket[upload.key] = data
        receive.receive(upload.key, lambda: 300, NOW)

    states = [table.find(upload.id, account="alice") for upload in promised]
    assert [(one.state, one.code) for one in states if one] == [
        ("ready", None),
        ("ready", None),
        ("rejected", "quota_exceeded"),
    ]
    assert assets.stored("alice") == (2 * size, 2)
    generated(9, "x" * 100)
    assert assets.stored("alice") == (2 * size + 100, 3)


def test_the_first_upload_of_an_account_must_fit(bucket: dict[str, bytes], environment: pytest.MonkeyPatch) -> None:
    asset = generated(1, "x" * 50, account="bob")
    row = table.made_ready(comes(bucket), "as_x", NOW)

    with pytest.raises(Refused) as refused:
        dynamo.transact([assets.counted("carol", size=100, files=1, room=99), row])

    assert refused.value.refusals[0]
    dynamo.transact([assets.counted("carol", size=100, files=1, room=100)])
    assert assets.stored("carol") == (100, 1)
    assert assets.stored("bob") == (asset.bytes, 1)


def test_a_deleted_asset_is_found_by_nobody_until_it_is_restored() -> None:
    asset = generated(1, "12345")

    library.delete(asset, NOW)

    assert assets.find("as_1", account="alice") is None
    assert (listed(), listed(deleted=True)) == ([], ["as_1"])
    assert assets.stored("alice") == (0, 0)
    with pytest.raises(NotFound):
        library.delete(asset, NOW)
    with pytest.raises(NotFound):
        library.rename(asset, name="x", tags=None)
    deleted = assets.find_even_deleted("as_1", account="alice")
    assert deleted is not None
    assert library.restore(deleted, NOW + 6 * DAY_S).deleted_at is None
    assert (listed(), listed(deleted=True)) == (["as_1"], [])
    assert assets.stored("alice") == (5, 1)
    with pytest.raises(NotFound):
        library.restore(deleted, NOW)


def test_what_is_late_to_be_restored_is_gone(bucket: dict[str, bytes]) -> None:
    asset = generated(1)
    library.delete(asset, NOW)
    deleted = assets.find_even_deleted("as_1", account="alice")
    assert deleted is not None

    with pytest.raises(NotFound):
        library.restore(deleted, NOW + 7 * DAY_S + 1)
    report = expire.expire(lambda: 60, lambda _: [], NOW + 7 * DAY_S + 1)

    assert report.removed == 1
    assert item_of("as_1") is None
    assert bucket == {}
    assert assets.stored("alice") == (0, 0)


def test_names_and_tags_are_kept_and_everything_else_stays() -> None:
    asset = generated(1)

    library.rename(asset, name="New", tags=("a",))
    changed = library.rename(asset, name=None, tags=())

    assert (changed.name, changed.tags, changed.prompt, changed.key) == ("New", (), asset.prompt, asset.key)
    assert listed(query="new") == ["as_1"]


def test_an_upload_that_nobody_uses_is_deleted_after_a_week_and_removed_after_another(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket)

    early = expire.expire(lambda: 60, lambda _: [], NOW + 6 * DAY_S)
    first = expire.expire(lambda: 60, lambda _: [], NOW + 7 * DAY_S + 1)
    again = expire.expire(lambda: 60, lambda _: [], NOW + 7 * DAY_S + 2)

    assert (early.unused, first.unused, again.removed) == (0, 1, 0)
    assert listed(deleted=True) == [upload.asset_id]
    assert expire.expire(lambda: 60, lambda _: [], NOW + 15 * DAY_S).removed == 1
    assert bucket == {}


@pytest.mark.parametrize("how", ["a project", "a job", "a name"])
def test_an_upload_that_is_used_stays(bucket: dict[str, bytes], how: str) -> None:
    upload = comes(bucket)
    asset = assets.find(upload.asset_id or "", account="alice")
    assert asset is not None
    if how == "a job":
        library.keep(asset.id, account="alice")
    elif how == "a name":
        library.rename(asset, name="Logo", tags=None)

    for days in (8, 30):
        expire.expire(lambda: 60, lambda _: ["pr_1"] if how == "a project" else [], NOW + days * DAY_S)

    assert listed() == [asset.id]


def test_keeping_what_is_somebody_elses_or_nobodys_does_nothing(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket)

    library.keep(upload.asset_id or "", account="mallory")
    library.keep("as_none", account="alice")

    item = item_of(upload.asset_id or "")
    assert item is not None
    assert "due_at" in item
    assert item_of("as_none") is None


def test_an_upload_that_never_came_is_forgotten_after_a_day() -> None:
    made, _ = accept.accept("alice", "image/png", 100, None, idempotency_key=None, now=NOW)

    assert expire.expire(lambda: 60, lambda _: [], NOW + DAY_S - 1).unfinished == 0
    assert expire.expire(lambda: 60, lambda _: [], NOW + DAY_S + 1).unfinished == 1
    assert table.find(made.id, account="alice") is None


def test_an_inspection_that_never_ended_is_told_to_have_failed(bucket: dict[str, bytes]) -> None:
    made, _ = accept.accept("alice", "image/png", 100, None, idempotency_key=None, now=NOW)
    bucket[made.key] = b"x" * 100
    table.begin_inspection(made.id, NOW + 5)

    expire.expire(lambda: 60, lambda _: [], NOW + 2 * 3600)

    found = table.find(made.id, account="alice")
    assert found is not None
    assert (found.state, found.code) == ("rejected", "inspection_failed")
    assert bucket == {}


def test_whoever_changes_something_is_written_on_it(bucket: dict[str, bytes]) -> None:
    upload = comes(bucket)

    for item_id in (upload.id, upload.asset_id or ""):
        item = item_of(item_id)
        assert item is not None
        assert item["changed_by"]["actor"] == "alice"


def test_the_repeat_of_a_request_is_the_same_upload() -> None:
    first, fresh = accept.accept("alice", "image/png", 100, "a", idempotency_key="k", now=NOW)
    second, repeated = accept.accept("alice", "image/png", 100, "a", idempotency_key="k", now=NOW + 5)
    others, _ = accept.accept("bob", "image/png", 100, "a", idempotency_key="k", now=NOW)

    assert first == second
    assert (fresh, repeated) == (False, True)
    assert others.id != first.id
    assert table.find(first.id, account="bob") is None


def test_a_text_of_ours_keeps_its_hash() -> None:
    asset = generated(1, "hello")

    found = assets.find("as_1", account="alice")
    assert found == asset
    assert asset.sha256 == hashlib.sha256(b"hello").hexdigest()
