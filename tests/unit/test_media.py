"""What a file is, whether it decodes, and what `assets.store` does with a stream of it."""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.core import aws
from shared.core.dynamo import plain
from shared.media import assets, images, probe, ranged
from shared.media.assets import Asset, BadOutput, Origin, _Measured
from shared.media.fetch import Unreadable
from shared.media.images import NotAnImage
from shared.media.types import EXTENSIONS, HEAD_BYTES, sniff
from tests.unit.films import FILMS, SOUNDS, film, sound
from tests.unit.helpers import Loopback

NOW = 1_790_848_800.5
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}


def picture(media_type: str = "image/png", size: tuple[int, int] = (48, 32)) -> bytes:
    """A real image with enough in it that cutting it off shows."""
    image = Image.effect_noise(size, 80).convert("RGB")
    file = io.BytesIO()
    image.save(file, FORMATS[media_type])
    return file.getvalue()


def in_chunks(data: bytes, size: int = 7) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# What it is


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_file_is_told_by_its_first_bytes(media_type: str) -> None:
    assert sniff(picture(media_type)[:HEAD_BYTES]) == media_type
    assert media_type in EXTENSIONS


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x89PNG",
        b"<html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"BM" + bytes(50),
        b"RIFF\x00\x00\x00\x00AVI LIST",
        b"RIFF",
        b"\x00\x00\x00\x18moovmp42",
        b"#EXTM3U\n#EXT-X-VERSION:3",
        b"ffconcat version 1.0",
        b"\xff\xe4\x90\x64",
        b"\xff\xd0",
        b"\xff",
        b"I",
        b" \x89PNG\r\n\x1a\n",
        b"GIF88a",
    ],
)
def test_what_we_do_not_take_has_no_type(head: bytes) -> None:
    assert sniff(head) is None


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x18ftypqt  ", "video/quicktime"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
        (b"\x00\x00\x00\x18ftypM4B ", "audio/mp4"),
        (b"\x1a\x45\xdf\xa3", "video/webm"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf3\x90\x64", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\xff\xf9\x50\x80", "audio/aac"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
    ],
)
def test_every_signature_has_one_meaning(head: bytes, media_type: str) -> None:
    assert sniff(head + bytes(HEAD_BYTES - len(head))) == media_type


@pytest.mark.parametrize("media_type", [*SOUNDS, *FILMS])
def test_a_real_film_or_sound_is_told_by_its_first_bytes(media_type: str) -> None:
    data = film(media_type) if media_type in FILMS else sound(media_type)

    assert sniff(data[:HEAD_BYTES]) == media_type
    assert media_type in EXTENSIONS
    assert media_type in probe.DEMUXERS


def test_extensions_tell_types_apart() -> None:
    assert len(set(EXTENSIONS.values())) == len(EXTENSIONS)


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_have_a_type_with_an_extension_or_none(head: bytes) -> None:
    media_type = sniff(head)

    assert media_type is None or media_type in EXTENSIONS


# Whether it decodes


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_real_image_is_measured(media_type: str) -> None:
    assert images.measure(io.BytesIO(picture(media_type, (60, 45))), media_type) == (60, 45)


@pytest.mark.parametrize("media_type", FORMATS)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_a_truncated_image_does_not_decode(media_type: str, part: float) -> None:
    data = picture(media_type)

    with pytest.raises(NotAnImage):
        images.measure(io.BytesIO(data[: int(len(data) * part)]), media_type)


@pytest.mark.parametrize("claimed", FORMATS)
@pytest.mark.parametrize("real", FORMATS)
def test_an_image_is_only_what_it_was_sniffed_as(claimed: str, real: str) -> None:
    if claimed == real:
        assert images.measure(io.BytesIO(picture(real)), claimed) == (48, 32)
        return

    with pytest.raises(NotAnImage):
        images.measure(io.BytesIO(picture(real)), claimed)


def test_a_damaged_image_does_not_decode() -> None:
    data = bytearray(picture())
    data[len(data) // 2] ^= 0xFF

    with pytest.raises(NotAnImage):
        images.measure(io.BytesIO(bytes(data)), "image/png")


@pytest.mark.parametrize("size", [(8001, 8000), (65_000, 1000)])
def test_too_many_pixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    file.seek(0)

    with pytest.raises(NotAnImage, match="too many"):
        images.measure(file, "image/png")


def test_a_bomb_that_pillow_itself_refuses_is_no_surprise() -> None:
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, "GIF")
    data = bytearray(header.getvalue())
    data[6:10] = b"\xff\xff\xff\xff"

    with pytest.raises(NotAnImage):
        images.measure(io.BytesIO(bytes(data)), "image/gif")


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMATS)))
def test_no_bytes_make_anything_but_a_size_or_a_refusal(tail: bytes, media_type: str) -> None:
    heads = {
        "image/png": b"\x89PNG\r\n\x1a\n",
        "image/jpeg": b"\xff\xd8\xff",
        "image/gif": b"GIF89a",
        "image/webp": b"RIFF\x00\x01\x00\x00WEBP",
    }
    try:
        images.measure(io.BytesIO(heads[media_type] + tail), media_type)
    except NotAnImage:
        return


# The stream


def measured(data: bytes, *, largest: int = 10**6, chunk: int = 7) -> _Measured:
    return _Measured(in_chunks(data, chunk), largest)


@given(st.binary(max_size=300), st.integers(1, 50), st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_reads_of_any_size_give_the_bytes_in_order_and_count_and_hash_them(
    data: bytes, chunk: int, sizes: list[int]
) -> None:
    stream = measured(data, chunk=chunk)
    head = stream.head()
    read = bytearray()

    for number in range(len(data) + 2):
        size = sizes[number % len(sizes)]
        got = stream.read(size)
        # A file object gives less than was asked for only at its end.
        assert len(got) == min(size, len(data) - len(read))
        read += got

    assert head == data[:HEAD_BYTES]
    assert bytes(read) == data
    assert stream.bytes == len(data)
    assert stream.sha256.hexdigest() == hashlib.sha256(data).hexdigest()
    assert stream.read(5) == b""


def test_a_read_without_a_size_gives_everything() -> None:
    stream = measured(b"x" * 100)

    assert stream.read() == b"x" * 100


@given(st.integers(0, 200), st.integers(0, 200))
def test_more_bytes_than_allowed_end_the_stream(length: int, largest: int) -> None:
    stream = measured(b"x" * length, largest=largest)

    if length <= largest:
        assert len(stream.read()) == length
        return
    with pytest.raises(BadOutput) as refused:
        stream.read()
    assert not refused.value.worth_retrying


# Storing


def store(chunks: Iterator[bytes], length: int | None = None, **changes: Any) -> Asset:
    values: dict[str, Any] = {
        "asset_id": "as_1",
        "origin": Origin("alice", "job_1", "image"),
        "family": "image",
        "largest": 10**6,
        "now": NOW,
    }
    return assets.store(chunks, length=length, **{**values, **changes})


@pytest.fixture
def bucket(cloud: Loopback) -> dict[str, bytes]:
    """What is in the bucket."""
    return cloud.keeps_objects("media")


@pytest.fixture
def table(cloud: Loopback) -> Loopback:
    """The assets table, which has not heard of the asset yet."""
    cloud.says("DynamoDB_20120810.UpdateItem", {"Attributes": {"announced_at": {"N": str(NOW)}}})
    cloud.says("DynamoDB_20120810.TransactWriteItems", {})
    return cloud


def recorded(table: Loopback) -> list[dict[str, Any]]:
    """The assets that were recorded."""
    written = [json.loads(body)["TransactItems"] for name, body in table.seen if name.endswith(".TransactWriteItems")]
    assert all(write["TableName"] == "assets" for writes in written for one in writes for write in one.values())
    return [plain(writes[0]["Put"]["Item"]) for writes in written]


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_stored_asset_is_measured_hashed_and_known_by_its_id(
    bucket: dict[str, bytes], table: Loopback, media_type: str
) -> None:
    data = picture(media_type)

    asset = store(in_chunks(data), len(data))

    assert asset.content_type == media_type
    assert asset.key == f"assets/as_1{EXTENSIONS[media_type]}"
    assert (asset.bytes, asset.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (asset.width, asset.height, asset.duration_s) == (48, 32, None)
    assert asset.created_at == "2026-10-01T10:00:00.500Z"
    assert (asset.account, asset.job_id, asset.kind, asset.role) == ("alice", "job_1", "image", "")
    assert bucket == {asset.key: data}
    assert [item["id"] for item in recorded(table)] == ["as_1"]


@pytest.mark.parametrize("media_type", [*SOUNDS, *FILMS])
def test_a_stored_film_or_sound_knows_its_length(bucket: dict[str, bytes], table: Loopback, media_type: str) -> None:
    family = media_type.partition("/")[0]
    data = film(media_type) if family == "video" else sound(media_type)

    asset = store(in_chunks(data, 65_536), family=family, origin=Origin("alice", "job_1", "stems", "vocals"))

    assert asset.duration_s == pytest.approx(3, abs=0.1)
    assert (asset.width, asset.height) == ((64, 48) if family == "video" else (None, None))
    assert (asset.content_type, asset.role) == (media_type, "vocals")
    assert bucket[asset.key] == data


@pytest.mark.parametrize(("family", "data"), [("video", picture()), ("audio", film()), ("image", sound())])
def test_a_file_of_another_family_becomes_no_asset(
    bucket: dict[str, bytes], table: Loopback, family: str, data: bytes
) -> None:
    with pytest.raises(BadOutput, match=f"is no {family}"):
        store(in_chunks(data, 65_536), family=family)

    assert bucket == {}


def test_a_film_that_was_cut_off_becomes_no_asset(bucket: dict[str, bytes], table: Loopback) -> None:
    data = film(fast=True)

    with pytest.raises(BadOutput, match="does not decode"):
        store(in_chunks(data[: len(data) // 2], 65_536), family="video")

    assert bucket == {}


@pytest.mark.parametrize(
    ("content_type", "stored_type"),
    [("text/vtt", "text/vtt; charset=utf-8"), ("application/json", "application/json")],
)
def test_a_text_of_ours_is_kept_as_utf_8(
    bucket: dict[str, bytes], table: Loopback, content_type: str, stored_type: str
) -> None:
    sent: list[str] = []
    event = "provide-client-params.s3.PutObject"
    aws.s3().meta.events.register(event, lambda params, **_: sent.append(params["ContentType"]), unique_id="test")

    asset = assets.store_text("Übermorgen", content_type, "as_1", Origin("alice", "job_1", "transcription"), now=1.0)

    aws.s3().meta.events.unregister(event, unique_id="test")
    assert bucket == {f"assets/as_1{EXTENSIONS[content_type]}": "Übermorgen".encode()}
    assert (asset.bytes, asset.sha256) == (11, hashlib.sha256("Übermorgen".encode()).hexdigest())
    assert sent == [stored_type]
    assert [item["id"] for item in recorded(table)] == ["as_1"]


def test_what_is_written_of_an_asset_makes_it_again(bucket: dict[str, bytes], table: Loopback) -> None:
    asset = store(in_chunks(picture()), None)

    (item,) = recorded(table)
    assert Asset.of(item) == asset
    assert not {"pending_at", "pending_shard"} & item.keys()


@pytest.mark.parametrize("met", [{"announced_at": {"N": "1"}}, {"announced_at": {"N": str(NOW)}, "key": {"S": "x"}}])
def test_an_asset_that_was_tried_before_is_looked_at_again_by_whoever_tidies_up(
    bucket: dict[str, bytes], table: Loopback, met: dict[str, Any]
) -> None:
    table.says("DynamoDB_20120810.UpdateItem", {"Attributes": met})

    store(in_chunks(picture()), None)

    (item,) = recorded(table)
    assert item["pending_at"] == int(NOW)
    assert item["pending_shard"].startswith("pending#")


def test_an_asset_that_was_only_announced_is_none(table: Loopback) -> None:
    row = {"id": {"S": "as_1"}, "account": {"S": "alice"}, "pending_at": {"N": "1"}}
    table.says("DynamoDB_20120810.GetItem", {"Item": row})

    assert assets.find("as_1", account="alice") is None


@pytest.mark.parametrize(
    ("data", "length", "worth_retrying"),
    [
        (b"<html>not found</html>", None, True),
        (b"", 0, True),
        (b"%PDF-1.7 " + bytes(500), None, True),
        (picture(), len(picture()) + 1, True),
        (picture()[:-40], None, True),
        (picture(), 10**6 + 1, False),
        (picture() + bytes(10**6), None, False),
    ],
    ids=["html", "empty", "pdf", "shorter than announced", "cut off", "announced too big", "too big"],
)
def test_a_file_that_is_not_what_it_should_be_becomes_no_asset(
    bucket: dict[str, bytes], table: Loopback, data: bytes, length: int | None, worth_retrying: bool
) -> None:
    with pytest.raises(BadOutput) as refused:
        store(in_chunks(data, 4096), length)

    assert refused.value.worth_retrying is worth_retrying
    assert bucket == {}
    assert recorded(table) == []


def test_a_download_that_breaks_off_becomes_no_asset(bucket: dict[str, bytes], table: Loopback) -> None:
    def breaking() -> Iterator[bytes]:
        yield picture()[:200]
        raise Unreadable("the answer broke off (ReadError)")

    with pytest.raises(BadOutput, match="broke off") as refused:
        store(breaking())

    assert refused.value.worth_retrying
    assert bucket == {}
    assert recorded(table) == []


def test_somebody_elses_asset_is_no_asset(table: Loopback) -> None:
    item = {"id": {"S": "as_1"}, "account": {"S": "alice"}, "key": {"S": "assets/as_1.png"}}
    table.says("DynamoDB_20120810.GetItem", {"Item": item})

    assert assets.find("as_1", account="bob") is None


def test_a_link_to_an_asset_is_presigned_for_an_hour(environment: pytest.MonkeyPatch) -> None:
    link = assets.url("assets/as_1.png")

    assert "/media/assets/as_1.png?" in link
    assert "X-Amz-Expires=3600" in link


# Read back by ranges


def test_an_object_is_read_by_ranges_like_a_file(cloud: Loopback) -> None:
    data = bytes(range(256)) * 10
    cloud.keeps_objects("media")["assets/x"] = data

    with ranged.opened("assets/x") as file:
        assert file.read(4) == data[:4]
        assert file.seek(-6, io.SEEK_END) == len(data) - 6
        assert file.read() == data[-6:]
        assert file.read(1) == b""
        file.seek(1000)
        file.seek(10, io.SEEK_CUR)
        assert (file.tell(), file.read(3)) == (1010, data[1010:1013])
        file.seek(len(data) + 5)
        assert file.read(3) == b""


def test_small_reads_of_an_object_make_few_requests(cloud: Loopback) -> None:
    cloud.keeps_objects("media")["assets/x"] = bytes(3 * ranged.BLOCK // 2)

    with ranged.opened("assets/x") as file:
        while file.read(50_000):
            pass

    # Its size, two blocks.
    assert len(cloud.seen) == 3
