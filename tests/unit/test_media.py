"""What a file is, whether it decodes, and what `assets.store` does with a stream of it."""

import hashlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.core import aws
from shared.core.dynamo import plain
from shared.media import assets, images
from shared.media.assets import Asset, BadOutput, _Measured
from shared.media.fetch import Download, Unreadable
from shared.media.images import NotAnImage
from shared.media.types import EXTENSIONS, HEAD_BYTES, sniff
from tests.unit.helpers import Loopback

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
        b"RIFF\x00\x00\x00\x00WAVEfmt ",
        b"RIFF",
        b"\x00\x00\x00\x18ftypmp42",
        b" \x89PNG\r\n\x1a\n",
        b"GIF88a",
    ],
)
def test_what_we_do_not_take_has_no_type(head: bytes) -> None:
    assert sniff(head) is None


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


def measured(data: bytes, *, largest: int = 10**6, chunk: int = 7) -> tuple[_Measured, BinaryIO]:
    copy = io.BytesIO()
    return _Measured(in_chunks(data, chunk), largest, copy), copy


@given(st.binary(max_size=300), st.integers(1, 50), st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_reads_of_any_size_give_the_bytes_in_order_and_count_and_hash_them(
    data: bytes, chunk: int, sizes: list[int]
) -> None:
    stream, copy = measured(data, chunk=chunk)
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
    assert copy.seek(0) == 0
    assert copy.read() == data
    assert stream.read(5) == b""


def test_a_read_without_a_size_gives_everything() -> None:
    stream, _ = measured(b"x" * 100)

    assert stream.read() == b"x" * 100


@given(st.integers(0, 200), st.integers(0, 200))
def test_more_bytes_than_allowed_end_the_stream(length: int, largest: int) -> None:
    stream, copy = measured(b"x" * length, largest=largest)

    if length <= largest:
        assert len(stream.read()) == length
        return
    with pytest.raises(BadOutput) as refused:
        stream.read()
    assert not refused.value.worth_retrying
    assert copy.tell() <= largest


# Storing


def store(download: Download, **changes: Any) -> Asset:
    values: dict[str, Any] = {
        "asset_id": "as_1",
        "account": "alice",
        "job_id": "job_1",
        "kind": "image",
        "family": "image",
        "largest": 10**6,
        "now": 1_790_848_800.0,
    }
    return assets.store(download, **{**values, **changes})


@pytest.fixture
def bucket(cloud: Loopback) -> Loopback:
    """S3 on loopback that takes any PUT to the key of the asset."""
    for extension in EXTENSIONS.values():
        cloud.answers[f"/media/assets/as_1{extension}"] = lambda _: (200, {"etag": '"x"'}, b"")
    return cloud


@pytest.fixture
def table(environment: pytest.MonkeyPatch) -> Iterator[Stubber]:
    with Stubber(aws.dynamodb()) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_stored_asset_is_measured_hashed_and_known_by_its_id(
    bucket: Loopback, table: Stubber, media_type: str
) -> None:
    data = picture(media_type)
    table.add_response("put_item", {}, {"TableName": "assets", "Item": ANY})

    asset = store(Download(in_chunks(data), len(data)))

    assert asset.content_type == media_type
    assert asset.key == f"assets/as_1{EXTENSIONS[media_type]}"
    assert (asset.bytes, asset.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (asset.width, asset.height) == (48, 32)
    assert asset.created_at == "2026-10-01T10:00:00.000Z"
    ((path, sent),) = bucket.seen
    assert path == f"/media/{asset.key}"
    assert data in sent, "the bytes that were sent are those of the file (in an aws-chunked body)"


def test_what_is_written_of_an_asset_makes_it_again(bucket: Loopback, environment: pytest.MonkeyPatch) -> None:
    written: list[dict[str, Any]] = []
    client = aws.dynamodb()
    client.meta.events.register("provide-client-params.dynamodb.PutItem", lambda params, **_: written.append(params))
    data = picture()
    with Stubber(client) as stubber:
        stubber.add_response("put_item", {})
        asset = store(Download(in_chunks(data), None))

    assert Asset.of(plain(written[0]["Item"])) == asset


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
    bucket: Loopback, table: Stubber, data: bytes, length: int | None, worth_retrying: bool
) -> None:
    with pytest.raises(BadOutput) as refused:
        store(Download(in_chunks(data, 4096), length))

    assert refused.value.worth_retrying is worth_retrying


def test_a_download_that_breaks_off_becomes_no_asset(bucket: Loopback, table: Stubber) -> None:
    def breaking() -> Iterator[bytes]:
        yield picture()[:200]
        raise Unreadable("the answer broke off (ReadError)")

    with pytest.raises(BadOutput, match="broke off") as refused:
        store(Download(breaking(), None))

    assert refused.value.worth_retrying


def test_somebody_elses_asset_is_no_asset(table: Stubber) -> None:
    item = {"id": {"S": "as_1"}, "account": {"S": "alice"}}
    table.add_response("get_item", {"Item": item})

    assert assets.find("as_1", account="bob") is None


def test_a_link_to_an_asset_is_presigned_for_an_hour(environment: pytest.MonkeyPatch) -> None:
    link = assets.url("assets/as_1.png")

    assert "/media/assets/as_1.png?" in link
    assert "X-Amz-Expires=3600" in link
