"""Uploads: what is accepted, how it gets in, what happens to what has come, and what is forgotten."""

import base64
import dataclasses
import io
import itertools
import json
import struct
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from shared.core import aws, dynamo, ids
from shared.core.dynamo import plain
from shared.core.errors import Conflict, Invalid
from shared.media import library
from shared.media.ranged import Unreachable
from shared.media.types import EXTENSIONS
from shared.uploads import accept, apart, expire, film, limits, matrix, receive, table, transfer
from shared.uploads.film import FORMATS, frame_rate
from shared.uploads.limits import LARGEST_BYTES, MB, TYPES, Rejected
from shared.uploads.table import Upload
from shared.uploads.waveform import Waveform
from tests import corpus
from tests.unit.helpers import Answer, Json, Loopback

NOW = 1_790_848_800.5
TARGET = "DynamoDB_20120810."


def upload(**changes: Any) -> Upload:
    values: Json = {
        "id": "up_1",
        "account": "alice",
        "content_type": "video/mp4",
        "bytes": 120 * MB,
        "state": "waiting",
        "created_at": "2026-10-01T10:00:00.500Z",
        "due_at": int(NOW) + table.UNFINISHED_S,
        "request_hash": "0" * 64,
    }
    return Upload(**{**values, **changes})


def row(known: Upload, **more: Any) -> Json:
    """The upload as DynamoDB answers it."""
    fields = {name: value for name, value in vars(known).items() if value is not None}
    attributes: Json = dynamo.attributes({**fields, **more})
    return attributes


def sent(cloud: Loopback, operation: str) -> list[Json]:
    """The requests of this operation that went to tables, but for those of the door."""
    bodies = [json.loads(body) for name, body in cloud.seen if name == TARGET + operation]
    return [body for body in bodies if body.get("TableName") not in ("limits", "access")]


# What is taken


@pytest.mark.parametrize("media_type", TYPES)
def test_every_type_that_is_taken_has_limits_an_ending_and_one_name(media_type: str) -> None:
    assert limits.named(media_type) == media_type
    assert LARGEST_BYTES[limits.family(media_type)] > 0
    assert media_type in EXTENSIONS
    assert media_type not in limits.ALIASES


@pytest.mark.parametrize("media_type", [one for one in TYPES if one.startswith(("audio/", "video/"))])
def test_every_film_and_sound_has_a_format_that_mediainfo_names(media_type: str) -> None:
    assert FORMATS[media_type]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("audio/x-m4a", "audio/mp4"),
        ("Audio/MP3", "audio/mpeg"),
        ("audio/webm;codecs=opus", "audio/webm"),
        (" image/jpg ", "image/jpeg"),
        ("text/x-ass", "text/x-ssa"),
        ("image/svg+xml", None),
        ("text/html", None),
        ("application/octet-stream", None),
        ("", None),
    ],
)
def test_a_type_is_known_by_all_its_names(told: str, expected: str | None) -> None:
    assert limits.named(told) == expected


@pytest.mark.parametrize(
    ("media_type", "largest"),
    [("image/png", 10 * MB), ("audio/wav", 25 * MB), ("video/quicktime", 500 * MB), ("text/vtt", 1 * MB)],
)
def test_the_largest_file_is_taken_and_one_byte_more_is_not(media_type: str, largest: int) -> None:
    limits.check_size(media_type, largest)

    for size in (largest + 1, 0):
        with pytest.raises(Rejected):
            limits.check_size(media_type, size)


# How it gets in


def test_the_form_takes_exactly_the_promised_file(cloud: Loopback) -> None:
    form = transfer.post(upload(content_type="image/png", bytes=1234))

    policy = json.loads(base64.b64decode(form["fields"]["policy"]))
    assert ["content-length-range", 1234, 1234] in policy["conditions"]
    assert {"Content-Type": "image/png"} in policy["conditions"]
    assert {"key": "uploads/up_1"} in policy["conditions"]
    assert {"bucket": "media"} in policy["conditions"]
    assert form["fields"]["Content-Type"] == "image/png"
    assert cloud.seen == []


@given(st.integers(1, 500 * MB))
def test_parts_are_the_whole_file_and_as_large_as_s3_wants_them(size: int) -> None:
    parts = list(transfer.sizes(size))

    assert sum(part for _, part in parts) == size
    assert [number for number, _ in parts] == list(range(1, len(parts) + 1))
    assert all(part >= 5 * 1024 * 1024 for _, part in parts[:-1])
    assert len(parts) <= 10_000


@pytest.mark.parametrize(("size", "expected"), [(50 * MB, False), (50 * MB + 1, True)])
def test_files_above_50_mb_come_in_parts(size: int, expected: bool) -> None:
    assert transfer.in_parts(upload(bytes=size)) is expected


PART = transfer.PART_BYTES


def has_come(cloud: Loopback, *parts: tuple[int, int]) -> None:
    """S3 has these parts (number and bytes)."""
    listed = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"e{number}"</ETag><Size>{size}</Size></Part>'
        for number, size in parts
    )
    xml = f"<ListPartsResult><IsTruncated>false</IsTruncated>{listed}</ListPartsResult>"
    cloud.says("/media/uploads/up_1", xml.encode(), content_type="application/xml")


def test_only_missing_parts_have_a_url_which_is_signed_for_their_size(cloud: Loopback) -> None:
    has_come(cloud, (1, PART), (3, PART - 1))

    parts = transfer.parts(upload(bytes=3 * PART + 5, multipart_id="m"))

    assert [(part.number, part.bytes, part.url is None) for part in parts] == [
        (1, PART, True),
        (2, PART, False),
        (3, PART, False),
        (4, 5, False),
    ]
    asked = parse_qs(urlsplit(parts[3].url or "").query)
    assert (asked["partNumber"], asked["uploadId"]) == (["4"], ["m"])
    assert "content-length" in asked["X-Amz-SignedHeaders"][0].split(";")


def test_a_file_with_missing_parts_cannot_be_completed(cloud: Loopback) -> None:
    has_come(cloud, (1, PART), (3, 4))

    with pytest.raises(Conflict) as conflict:
        transfer.complete(upload(bytes=2 * PART + 5, multipart_id="m"))

    assert (conflict.value.code, conflict.value.fields) == ("upload_incomplete", {"missing_parts": [2, 3]})


def test_a_whole_file_is_completed_of_its_parts_in_order(cloud: Loopback) -> None:
    has_come(cloud, (2, 5), (1, PART))

    transfer.complete(upload(bytes=PART + 5, multipart_id="m"))

    body = cloud.seen[-1][1].decode()
    assert body.index("e1") < body.index("e2")
    assert body.count("<Part>") == 2


# What is accepted


def test_what_is_promised_must_be_taken_and_small_enough(cloud: Loopback) -> None:
    for content_type, size, pointer in (("text/html", 5, "/content_type"), ("image/png", 10 * MB + 1, "/bytes")):
        with pytest.raises(Invalid) as refused:
            accept.accept("alice", content_type, size, None, idempotency_key=None, now=NOW)
        assert [flaw["pointer"] for flaw in refused.value.errors] == [pointer]
    assert cloud.asked == []


def stores(cloud: Loopback, size: int) -> None:
    """The account has stored so many bytes."""
    cloud.says(TARGET + "GetItem", {"Item": dynamo.attributes({"id": "storage#alice", "bytes": size, "files": 1})})


def test_an_upload_without_room_is_refused_with_the_numbers(cloud: Loopback) -> None:
    stores(cloud, 999_999_000)

    with pytest.raises(Conflict) as refused:
        accept.accept("alice", "image/png", 1001, None, idempotency_key=None, now=NOW)

    assert refused.value.code == "storage_quota_exceeded"
    assert refused.value.fields == {"used": 999_999_000, "quota": 1_000_000_000}


def test_an_upload_is_written_down_as_due_after_a_day(cloud: Loopback) -> None:
    stores(cloud, 0)
    cloud.says(TARGET + "TransactWriteItems", {})

    made, replayed = accept.accept("alice", "image/jpg", 1000, "Logo", idempotency_key=None, now=NOW)

    (write,) = sent(cloud, "TransactWriteItems")
    item = plain(write["TransactItems"][0]["Put"]["Item"])
    assert (item["id"], item["account"], item["state"], item["content_type"]) == (
        made.id,
        "alice",
        "waiting",
        "image/jpeg",
    )
    assert item["due_at"] == int(NOW) + 86400
    assert item["due_shard"].startswith("due#")
    assert item["changed_by"]
    assert not replayed


def test_the_repeat_of_a_request_meets_its_own_upload_and_another_is_refused(cloud: Loopback) -> None:
    ids = set()
    stores(cloud, 0)
    cloud.says(TARGET + "TransactWriteItems", {})
    for name in ("a", "a", "b"):
        cloud.answers[TARGET + "GetItem"] = lambda _: (200, {}, b"{}")
        made, _ = accept.accept("alice", "image/png", 1000, name, idempotency_key="k", now=NOW)
        ids.add(made.id)
    assert len(ids) == 1

    cloud.says(TARGET + "GetItem", {"Item": row(made)})
    again, replayed = accept.accept("alice", "image/png", 1000, "b", idempotency_key="k", now=NOW + 9)
    assert (again, replayed) == (made, True)
    with pytest.raises(Invalid) as refused:
        accept.accept("alice", "image/png", 1000, "c", idempotency_key="k", now=NOW)
    assert refused.value.code == "idempotency_key_reused"


def test_somebody_elses_upload_is_nobodys(cloud: Loopback) -> None:
    cloud.says(TARGET + "GetItem", {"Item": row(upload())})

    assert table.find("up_1", account="mallory") is None
    assert table.find("up_1", account="alice") == upload()
    assert table.find("as_1", account="alice") is None


# What has come


@pytest.fixture
def bucket(cloud: Loopback) -> dict[str, bytes]:
    return cloud.keeps_objects("media")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, bucket: dict[str, bytes]) -> list[Json]:
    """How objects were copied within the bucket: the loopback server knows nothing of that."""
    made: list[Json] = []

    def copy(source: Json, _: str, key: str, **options: Any) -> None:
        made.append(options["ExtraArgs"])
        bucket[key] = bucket[source["Key"]]

    monkeypatch.setattr(aws.s3(), "copy", copy)
    return made


def comes(cloud: Loopback, bucket: dict[str, bytes], sample: str, **changes: Any) -> bytes:
    """A file of the corpus has come, and the table answers as that of a waiting upload."""
    data = corpus.make(sample)
    bucket["uploads/up_1"] = data
    known = upload(content_type=corpus.SAMPLES[sample].media_type, bytes=len(data), state="inspecting", **changes)
    announced: Json = {"announced_at": {"N": str(NOW)}}

    def update(body: bytes) -> Answer:
        is_upload = json.loads(body)["Key"]["id"]["S"].startswith("up_")
        return 200, {}, json.dumps({"Attributes": row(known) if is_upload else announced}).encode()

    cloud.answers[TARGET + "UpdateItem"] = update
    cloud.says(TARGET + "TransactWriteItems", {})
    return data


def test_a_film_becomes_an_asset_with_its_probe_and_a_thumbnail(
    cloud: Loopback, bucket: dict[str, bytes], copied: list[Json]
) -> None:
    data = comes(cloud, bucket, "rotation 90", name="Harbour")

    receive.receive("uploads/up_1", lambda: 300, NOW)

    (write,) = sent(cloud, "TransactWriteItems")
    asset, stored, decided = write["TransactItems"]
    item = plain(asset["Put"]["Item"])
    assert (item["account"], item["source"], item["kind"], item["name"]) == ("alice", "upload", "video", "Harbour")
    assert (item["width"], item["height"], item["duration_s"]) == (96, 128, 2)
    assert item["probe"]["picture"]["rotation"] == 90
    assert item["shelf"] == "alice"
    assert item["created"] == f"{item['created_at']}#{item['id']}"
    assert item["due_at"] == int(NOW) + library.UNUSED_S
    assert "pending_at" not in item
    assert bucket == {item["key"]: data, item["previews"]["thumbnail"]: bucket[item["previews"]["thumbnail"]]}
    assert copied[0]["CopySourceIfMatch"] == '"x"'
    assert plain(stored["Update"]["ExpressionAttributeValues"])[":size"] == len(data)
    assert plain(decided["Update"]["ExpressionAttributeValues"])[":asset"] == item["id"]


def test_a_sound_has_a_waveform(cloud: Loopback, bucket: dict[str, bytes], copied: list[Json]) -> None:
    comes(cloud, bucket, "FLAC")

    receive.receive("uploads/up_1", lambda: 300, NOW)

    endings = {name.partition(".")[2] for name in bucket}
    assert endings == {"flac", "peaks.json", "waveform.png"}


@pytest.mark.parametrize(("name", "code"), [("truncated", "truncated"), ("a playlist", "unknown_type")])
def test_what_is_rejected_is_deleted_and_the_reason_written_down(
    cloud: Loopback, bucket: dict[str, bytes], copied: list[Json], name: str, code: str
) -> None:
    comes(cloud, bucket, name)

    receive.receive("uploads/up_1", lambda: 300, NOW)

    assert bucket == {}
    assert sent(cloud, "TransactWriteItems") == []
    values = plain(sent(cloud, "UpdateItem")[-1]["ExpressionAttributeValues"])
    assert (values[":rejected"], values[":code"]) == ("rejected", code)


def test_a_file_of_another_size_than_promised_is_rejected(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    data = comes(cloud, bucket, "no audio")
    bucket["uploads/up_1"] = data + b"x"

    receive.receive("uploads/up_1", lambda: 300, NOW)

    assert plain(sent(cloud, "UpdateItem")[-1]["ExpressionAttributeValues"])[":code"] == "wrong_size"
    assert bucket == {}


def refuses(cloud: Loopback, operation: str, *codes: str, item: Json | None = None) -> None:
    """The table refuses: a transaction with a reason for each of its writes, or a single write."""
    body: Json = {"message": "refused"}
    if operation == "TransactWriteItems":
        body["__type"] = "TransactionCanceledException"
        body["CancellationReasons"] = [{"Code": code} for code in codes]
    else:
        body["__type"] = "ConditionalCheckFailedException"
        if item:
            body["Item"] = item
    cloud.says(TARGET + operation, body, status=400)


def test_a_file_for_which_there_is_no_room_any_more_is_rejected_and_nothing_of_it_stays(
    cloud: Loopback, bucket: dict[str, bytes], copied: list[Json]
) -> None:
    comes(cloud, bucket, "no audio")
    refuses(cloud, "TransactWriteItems", "None", "ConditionalCheckFailed", "None")

    receive.receive("uploads/up_1", lambda: 300, NOW)

    assert plain(sent(cloud, "UpdateItem")[-1]["ExpressionAttributeValues"])[":code"] == "quota_exceeded"
    assert bucket == {}


def test_of_two_inspections_of_one_file_the_second_leaves_nothing_behind(
    cloud: Loopback, bucket: dict[str, bytes], copied: list[Json]
) -> None:
    comes(cloud, bucket, "no audio")
    refuses(cloud, "TransactWriteItems", "None", "None", "ConditionalCheckFailed")

    receive.receive("uploads/up_1", lambda: 300, NOW)

    assert bucket == {}
    assert len(sent(cloud, "UpdateItem")) == 2  # It began, and announced an asset; nothing was rejected.


@pytest.mark.parametrize("reading", [1, 2, 4])
@pytest.mark.parametrize("sample", ["moov at the end", "FLAC", "alpha PNG", "MP3 without a header"])
def test_that_s3_does_not_answer_is_no_flaw_of_the_file(
    cloud: Loopback,
    bucket: dict[str, bytes],
    copied: list[Json],
    monkeypatch: pytest.MonkeyPatch,
    sample: str,
    reading: int,
) -> None:
    data = comes(cloud, bucket, sample)
    answers, count = aws.s3().get_object, itertools.count(1)

    def get_object(**options: Any) -> Any:
        if next(count) >= reading:
            raise ReadTimeoutError(endpoint_url="https://s3.example.com")
        return answers(**options)

    monkeypatch.setattr(apart, "BLOCK", 512)
    monkeypatch.setattr(aws.s3(), "get_object", get_object)
    with pytest.raises(Unreachable):
        receive.receive("uploads/up_1", lambda: 300, NOW)

    assert bucket == {"uploads/up_1": data}
    assert len(sent(cloud, "UpdateItem")) == 1  # It began; nothing was decided.


def test_of_two_inspections_of_one_file_the_second_leaves_the_asset_of_the_first(
    cloud: Loopback, bucket: dict[str, bytes], copied: list[Json]
) -> None:
    data = comes(cloud, bucket, "alpha PNG")
    made = ids.derived("as", "up_1", '"x"')
    refuses(cloud, "TransactWriteItems", "ConditionalCheckFailed", "None", "ConditionalCheckFailed")
    answer = cloud.answers[TARGET + "TransactWriteItems"](b"")
    document = json.loads(answer[2])
    document["CancellationReasons"][2]["Item"] = row(upload(state="ready", asset_id=made))
    cloud.says(TARGET + "TransactWriteItems", document, status=400)

    receive.receive("uploads/up_1", lambda: 300, NOW)

    assert bucket.keys() == {f"assets/{made}.png", f"assets/{made}.thumbnail.webp"}
    assert bucket[f"assets/{made}.png"] == data


def test_a_file_that_nobody_waits_for_is_deleted(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    bucket["uploads/up_1"] = b"x"
    refuses(cloud, "UpdateItem")

    receive.receive("uploads/up_1", lambda: 300, NOW)

    assert bucket == {}


def test_another_file_under_the_same_key_becomes_another_asset_or_none() -> None:
    made = {ids.derived("as", "up_1", etag) for etag in ('"a"', '"b"')}

    assert len(made) == 2


# What is forgotten


def due(cloud: Loopback, item: Json) -> None:
    """One item is due, and the table answers it."""
    answers = iter([{"Items": [{"id": item["id"]}], "Count": 1}])
    cloud.answers[TARGET + "Query"] = lambda _: (
        200,
        {},
        json.dumps(next(answers, {"Items": [], "Count": 0})).encode(),
    )
    cloud.says(TARGET + "GetItem", {"Item": item})
    cloud.says(TARGET + "UpdateItem", {"Attributes": {**item, "changed_by": {"M": {}}}})
    cloud.says(TARGET + "DeleteItem", {})
    cloud.says(TARGET + "TransactWriteItems", {})


def asset_row(**more: Any) -> Json:
    fields = {
        "id": "as_1",
        "account": "alice",
        "kind": "video",
        "content_type": "video/mp4",
        "key": "assets/as_1.mp4",
        "bytes": 5,
        "created_at": "2026-10-01T10:00:00.500Z",
        "previews": {"thumbnail": "assets/as_1.thumbnail.webp"},
        "due_at": int(NOW) - 1,
    }
    attributes: Json = dynamo.attributes({**fields, **more})
    return attributes


def nobody(_: str) -> list[str]:
    return []


def test_an_upload_that_never_came_is_forgotten(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    due(cloud, row(upload(due_at=int(NOW) - 1)))
    bucket["uploads/up_1"] = b"half"

    report = expire.expire(lambda: 60, nobody, NOW)

    assert (report.unfinished, report.failed) == (1, 0)
    assert len(sent(cloud, "DeleteItem")) == 1
    assert bucket == {}


def test_an_inspection_that_never_ended_is_a_rejection(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    due(cloud, row(upload(state="inspecting", due_at=int(NOW) - 1)))

    expire.expire(lambda: 60, nobody, NOW)

    assert sent(cloud, "DeleteItem") == []
    values = plain(sent(cloud, "UpdateItem")[-1]["ExpressionAttributeValues"])
    assert values[":code"] == "inspection_failed"


def test_an_upload_that_nobody_uses_is_deleted_and_can_be_restored(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    due(cloud, asset_row())
    bucket["assets/as_1.mp4"] = b"bytes"

    report = expire.expire(lambda: 60, nobody, NOW)

    assert (report.unused, report.removed) == (1, 0)
    (write,) = sent(cloud, "TransactWriteItems")
    values = plain(write["TransactItems"][0]["Update"]["ExpressionAttributeValues"])
    assert (values[":shelf"], values[":due_at"]) == ("deleted#alice", int(NOW) + library.RESTORABLE_S)
    assert plain(write["TransactItems"][1]["Update"]["ExpressionAttributeValues"])[":size"] == -5
    assert bucket == {"assets/as_1.mp4": b"bytes"}


def test_an_upload_that_a_project_uses_stays_and_is_not_looked_at_again(
    cloud: Loopback, bucket: dict[str, bytes]
) -> None:
    due(cloud, asset_row())

    report = expire.expire(lambda: 60, lambda asset_id: ["pr_1"], NOW)

    assert (report.in_use, report.unused) == (1, 0)
    assert sent(cloud, "TransactWriteItems") == []
    assert "REMOVE due_shard, due_at" in sent(cloud, "UpdateItem")[0]["UpdateExpression"]


def test_a_deleted_asset_is_removed_with_all_its_files(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    due(cloud, asset_row(deleted_at="2026-09-24T10:00:00.000Z"))
    bucket |= {"assets/as_1.mp4": b"x", "assets/as_1.thumbnail.webp": b"y", "assets/as_2.mp4": b"another's"}

    report = expire.expire(lambda: 60, nobody, NOW)

    assert report.removed == 1
    assert bucket == {"assets/as_2.mp4": b"another's"}
    assert len(sent(cloud, "DeleteItem")) == 1


def test_an_asset_that_was_restored_meanwhile_keeps_its_files(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    due(cloud, asset_row(deleted_at="2026-09-24T10:00:00.000Z"))
    refuses(cloud, "UpdateItem")
    bucket["assets/as_1.mp4"] = b"x"

    report = expire.expire(lambda: 60, nobody, NOW)

    assert (report.removed, report.failed) == (0, 0)
    assert bucket == {"assets/as_1.mp4": b"x"}


def test_what_is_due_no_more_is_left_alone(cloud: Loopback, bucket: dict[str, bytes]) -> None:
    due(cloud, asset_row(due_at=int(NOW) + 100))

    assert dataclasses.asdict(expire.expire(lambda: 60, nobody, NOW)) == dataclasses.asdict(expire.Report())


def test_without_time_everything_waits(cloud: Loopback) -> None:
    due(cloud, asset_row())

    report = expire.expire(lambda: 5, nobody, NOW)

    assert (report.left, report.unused) == (1, 0)
    assert sent(cloud, "GetItem") == []


# Arithmetic


def spelled(a: int, b: int, c: int, d: int) -> bytes:
    one = 1 << 16
    return struct.pack("=9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((1, 0, 0, 1), (0, False)),
        ((0, 1, -1, 0), (90, False)),
        ((-1, 0, 0, -1), (180, False)),
        ((0, -1, 1, 0), (270, False)),
        ((-1, 0, 0, 1), (0, True)),
        ((1, 0, 0, -1), (180, True)),
    ],
)
def test_a_display_matrix_is_a_turn_after_a_mirror(
    corners: tuple[int, int, int, int], expected: tuple[int, bool]
) -> None:
    assert matrix.turned(spelled(*corners)) == expected


def test_a_drawn_waveform_has_silence_in_the_middle_and_all_of_the_loudest_sound() -> None:
    from PIL import Image

    with Image.open(io.BytesIO(Waveform(16, (0, 0, -128, 127)).png())) as image:
        columns = [[image.getpixel((x, y))[3] > 0 for y in range(image.height)] for x in range(2)]

    assert sum(columns[0]) == 1
    assert columns[0].index(True) in (99, 100)
    assert all(columns[1])


def test_a_rate_without_frames_is_none() -> None:
    with pytest.raises(Rejected):
        frame_rate(base=None, average=None, frames=None, uneven=False, duration=1)


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    class Codec:
        width, height = 16_000, 16_000

    with pytest.raises(Rejected) as rejected:
        film._Film._check_size(film._Film.__new__(film._Film), Codec())

    assert rejected.value.code == "too_many_pixels"
