"""The library: one list of everything, found again, named, deleted and restored, and downloaded under its name."""

import io
import json
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core import dynamo
from shared.core.dynamo import plain
from shared.core.errors import NotFound
from shared.media import assets, library
from shared.media.assets import Asset
from shared.media.library import Wanted
from shared.uploads import inspection
from tests import corpus
from tests.corpus import SAMPLES
from tests.unit.helpers import Json, Loopback

NOW = 1_790_848_800.5
TARGET = "DynamoDB_20120810."


def asset(number: int = 1, **changes: Any) -> Asset:
    values: Json = {
        "id": f"as_{number:03d}",
        "account": "alice",
        "job_id": None,
        "kind": "image",
        "content_type": "image/png",
        "key": f"assets/as_{number:03d}.png",
        "bytes": 100,
        "sha256": None,
        "created_at": f"2026-10-01T10:00:{number % 60:02d}.000Z",
    }
    return Asset(**{**values, **changes})


def bodies(cloud: Loopback, operation: str) -> list[Json]:
    return [json.loads(body) for name, body in cloud.seen if name == TARGET + operation]


# Lists


class Shelf:
    """A shelf of so many assets, read as DynamoDB reads it; `examined` counts how many were."""

    def __init__(self, cloud: Loopback, kept: list[Asset]) -> None:
        self.items = sorted((one.item() for one in kept), key=lambda item: str(item["created"]), reverse=True)
        self.examined = 0
        cloud.answers[TARGET + "Query"] = self.query

    def query(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked = json.loads(body)
        after = asked.get("ExclusiveStartKey", {}).get("created", {}).get("S")
        rest = [item for item in self.items if after is None or item["created"] < after]
        found = rest[: asked["Limit"]]
        self.examined += len(found)
        answer: Json = {"Items": [dynamo.attributes(item) for item in found], "Count": len(found)}
        if len(rest) > len(found):
            last = found[-1]
            answer["LastEvaluatedKey"] = dynamo.attributes({name: last[name] for name in ("shelf", "created", "id")})
        return 200, {}, json.dumps(answer).encode()


def all_pages(wanted: Wanted, limit: int) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        found, cursor = library.page("alice", wanted, limit=limit, cursor=cursor)
        pages.append([one.id for one in found])
        if cursor is None:
            return pages
        assert len(pages) < 1000


def many(count: int) -> list[Asset]:
    return [
        asset(
            number,
            created_at=f"2026-10-01T10:{number // 60:02d}:{number % 60:02d}.000Z",
            kind="video" if number % 10 == 0 else "image",
            source="upload" if number % 7 == 0 else "generation",
            name=f"Take {number}" if number % 2 else None,
            prompt="A Lighthouse at dusk" if number % 2 == 0 else None,
            tags=("best",) if number % 50 == 0 else (),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("limit", [1, 20, 100])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(kind="video"),
        Wanted(source="upload"),
        Wanted(tag="best"),
        Wanted(query="lighthouse DUSK"),
        Wanted(query="take 17"),
        Wanted(kind="video", source="upload", query="dusk"),
        Wanted(query="nothing of the kind"),
    ],
)
def test_pages_are_all_that_is_wanted_once_and_newest_first(cloud: Loopback, wanted: Wanted, limit: int) -> None:
    kept = many(430)
    Shelf(cloud, kept)

    pages = all_pages(wanted, limit)

    expected = [one.id for one in reversed(kept) if wanted.shows(one)]
    assert [one for page in pages for one in page] == expected
    assert all(len(page) <= limit for page in pages)


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(query="nothing of the kind")])
def test_a_page_of_a_long_library_looks_at_no_more_than_that_of_a_short_one(cloud: Loopback, wanted: Wanted) -> None:
    examined = []
    for count in (300, 3000):
        shelf = Shelf(cloud, many(count))
        library.page("alice", wanted, limit=20, cursor=None)
        examined.append(shelf.examined)

    assert examined[0] == examined[1] <= library.MOST_READ + 2


def test_deleted_assets_are_on_a_shelf_of_their_own(cloud: Loopback) -> None:
    Shelf(cloud, [])

    for deleted in (False, True):
        library.page("alice", Wanted(deleted=deleted), limit=5, cursor=None)

    asked = [plain(body["ExpressionAttributeValues"]) for body in bodies(cloud, "Query")]
    assert [values[":partition"] for values in asked] == ["alice", "deleted#alice"]


def test_an_asset_is_read_as_it_was_written() -> None:
    made = asset(name="Logo", tags=("a", "b"), probe={"still": {"width": 5}}, previews={"thumbnail": "assets/x"})

    assert Asset.of(plain(dynamo.attributes(made.item()))) == made


# Changes


def refuses(cloud: Loopback, operation: str) -> None:
    kind = "TransactionCanceledException" if "Transact" in operation else "ConditionalCheckFailedException"
    body = {
        "__type": kind,
        "message": "no",
        "CancellationReasons": [{"Code": "ConditionalCheckFailed"}, {"Code": "None"}],
    }
    cloud.says(TARGET + operation, body, status=400)


def test_whoever_names_an_upload_wants_to_keep_it(cloud: Loopback) -> None:
    cloud.says(TARGET + "UpdateItem", {"Attributes": dynamo.attributes(asset(name="New", tags=("x",)).item())})

    changed = library.rename(asset(), name="New", tags=("x",))

    assert (changed.name, changed.tags) == ("New", ("x",))
    (body,) = bodies(cloud, "UpdateItem")
    assert "REMOVE due_shard, due_at" in body["UpdateExpression"]
    assert plain(body["ExpressionAttributeValues"])[":account"] == "alice"


@pytest.mark.parametrize(("name", "tags"), [("New", None), (None, ()), (None, None)])
def test_only_what_is_told_is_changed(cloud: Loopback, name: str | None, tags: tuple[str, ...] | None) -> None:
    cloud.says(TARGET + "UpdateItem", {"Attributes": dynamo.attributes(asset().item())})

    library.rename(asset(), name=name, tags=tags)

    (body,) = bodies(cloud, "UpdateItem")
    assert ("#name = :name" in body["UpdateExpression"]) == (name is not None)
    assert ("tags = :tags" in body["UpdateExpression"]) == (tags is not None)
    unused = [
        key
        for key in body["ExpressionAttributeValues"]
        if f"{key}" not in json.dumps([body["UpdateExpression"], body["ConditionExpression"]])
    ]
    assert unused == []
    assert all(
        key in body["UpdateExpression"] + body["ConditionExpression"] for key in body["ExpressionAttributeNames"]
    )


def test_what_is_deleted_counts_no_more_and_what_is_restored_does_again(cloud: Loopback) -> None:
    cloud.says(TARGET + "TransactWriteItems", {})
    cloud.says(TARGET + "GetItem", {"Item": dynamo.attributes(asset().item())})

    library.delete(asset(), NOW)
    library.restore(asset(deleted_at="2026-10-01T10:00:00.000Z"), NOW)

    changes = [
        plain(body["TransactItems"][1]["Update"]["ExpressionAttributeValues"])
        for body in bodies(cloud, "TransactWriteItems")
    ]
    assert [(one[":size"], one[":files"]) for one in changes] == [(-100, -1), (100, 1)]


def test_restoring_what_is_there_does_nothing(cloud: Loopback) -> None:
    assert library.restore(asset(), NOW) == asset()
    assert cloud.seen == []


@pytest.mark.parametrize("change", ["delete", "restore", "rename"])
def test_what_is_gone_meanwhile_is_not_found(cloud: Loopback, change: str) -> None:
    refuses(cloud, "TransactWriteItems")
    refuses(cloud, "UpdateItem")

    with pytest.raises(NotFound):
        match change:
            case "delete":
                library.delete(asset(), NOW)
            case "restore":
                library.restore(asset(deleted_at="2026-10-01T10:00:00.000Z"), NOW)
            case _:
                library.rename(asset(), name="x", tags=None)


@pytest.mark.parametrize(
    ("account", "deleted", "found", "even_deleted"),
    [("alice", None, True, True), ("alice", "2026", False, True), ("mallory", None, False, False)],
)
def test_an_asset_is_its_owners_and_a_deleted_one_only_to_be_restored(
    cloud: Loopback, account: str, deleted: str | None, found: bool, even_deleted: bool
) -> None:
    cloud.says(TARGET + "GetItem", {"Item": dynamo.attributes(asset(deleted_at=deleted).item())})

    assert (assets.find("as_001", account=account) is not None) is found
    assert (assets.find_even_deleted("as_001", account=account) is not None) is even_deleted


def test_an_upload_and_the_count_of_bytes_are_no_assets(cloud: Loopback) -> None:
    for item in ({"id": "up_1", "account": "alice"}, {"id": "storage#alice", "bytes": 5}):
        cloud.says(TARGET + "GetItem", {"Item": dynamo.attributes(item)})
        assert assets.find("as_001", account="alice") is None


@pytest.mark.parametrize(("room", "fits"), [(100, True), (99, False)])
def test_the_first_file_has_to_fit_as_well(cloud: Loopback, room: int, fits: bool) -> None:
    write = assets.counted("alice", size=100, files=1, room=room)["Update"]

    assert ("attribute_not_exists" in write["ConditionExpression"]) is fits
    assert plain(write["ExpressionAttributeValues"])[":before"] == room - 100


# Downloads


def told(header: str) -> tuple[str, str | None]:
    """The disposition and the file name that a mail reader makes of it (RFC 2231 is RFC 8187's own base)."""
    message = Message()
    message["Content-Disposition"] = header
    return message.get_content_disposition() or "", message.get_filename()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Harbour", "Harbour.png"),
        ("Harbour.PNG", "Harbour.png"),
        ("日本 – “naïve”", "日本 – “naïve”.png"),
        ("../../etc/passwd", "_.._etc_passwd.png"),
        ('a"b\r\nSet-Cookie: x', "a_b__Set-Cookie_ x.png"),
        ("evil\u202egnp.exe", "evil_gnp.exe.png"),
        ("100%", "100%.png"),
        ("...", "image.png"),
        (None, "image.png"),
        ("x" * 300, "x" * 120 + ".png"),
    ],
)
def test_a_download_has_a_proper_name(name: str | None, expected: str) -> None:
    header = library.disposition(asset(name=name), inline=False)

    assert "\r" not in header
    assert "\n" not in header
    assert header.isascii()
    assert f"filename*=UTF-8''{library.quote(expected, safe='')}" in header


@given(st.text(max_size=300))
def test_any_name_makes_a_header_that_can_be_read_and_a_file_that_can_be_written(name: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in name):
        return
    one = asset(name=name)
    header = library.disposition(one, inline=True)

    assert header.isascii()
    assert header.isprintable()
    how, _ = told(header)
    assert how == "inline"
    written = library.file_name(one)
    assert written.endswith(".png")
    assert not set(written) & set('/\\:*?"<>|\x00\r\n')
    assert 5 <= len(written) <= 124


def test_a_download_url_says_what_the_answer_is_to_be_called(cloud: Loopback) -> None:
    header = library.disposition(asset(name="Größe"), inline=False)

    asked = parse_qs(urlsplit(assets.url("assets/as_001.png", disposition=header)).query)

    assert asked["response-content-disposition"] == [header]
    assert asked["X-Amz-Expires"] == ["3600"]


@pytest.mark.parametrize(("name", "heard"), [("no audio", False), ("5.1", True), ("FLAC", True)])
def test_an_inspection_tells_whether_there_is_anything_to_hear(name: str, heard: bool) -> None:
    sample = SAMPLES[name]
    found = inspection.inspect(io.BytesIO(corpus.make(name)), sample.media_type, lambda: 60)

    assert library.may_sound(found.probe.document()) is bool(found.probe.sounds) is heard


def test_what_was_not_inspected_may_be_heard() -> None:
    assert library.may_sound(None)
