"""Streaming into the bucket: files of many parts, flat memory, and nothing left behind by what does not fit."""

import hashlib
import io
import math
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from uuid import uuid4

import pytest
from botocore.exceptions import BotoCoreError
from PIL import Image

from local.cloud import Stack
from shared.core.clock import now
from shared.media import assets, ranged
from shared.media.assets import Asset, BadOutput, Origin
from shared.media.fetch import Unreadable
from tests.inside import Effect, Fault, How, Killed, aws_calls

pytestmark = pytest.mark.usefixtures("product")

MB = 1024 * 1024
CHUNK = 64 * 1024
# The 12 MB of `picture`: stored in two parts, then measured by reading them back, a block at a time.
MULTIPART = (
    "UpdateItem",
    "CreateMultipartUpload",
    *["UploadPart"] * 2,
    "CompleteMultipartUpload",
    "HeadObject",
    *["GetObject"] * 12,
    "TransactWriteItems",
)
FAULTY = [number for number, name in enumerate(MULTIPART) if name != "GetObject" or number == 5]


def noise(width: int, height: int) -> bytes:
    """A PNG that does not compress: three bytes a pixel."""
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.fixture(scope="module")
def picture() -> bytes:
    """Two parts: 8 MiB and the rest."""
    return noise(2000, 2000)


@pytest.fixture
def asset_id() -> str:
    return f"as_{uuid4().hex}"


def chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]


def broken(content: bytes) -> Iterator[bytes]:
    yield from chunks(content)
    raise Unreadable("the answer broke off")


def store(asset_id: str, source: Iterator[bytes], *, length: int | None = None, largest: int = 100 * MB) -> Asset:
    return assets.store(
        source,
        asset_id,
        Origin("assets-test", "job_1", "image"),
        length=length,
        family="image",
        largest=largest,
        now=now(),
    )


def stored(stack: Stack, key: str) -> bytes:
    return bytes(stack.client("s3").get_object(Bucket=stack.buckets["media"], Key=key)["Body"].read())


def check_nothing_is_left(stack: Stack, asset_id: str) -> None:
    client, bucket = stack.client("s3"), stack.buckets["media"]
    assert assets.find(asset_id, account="assets-test") is None
    assert client.list_objects_v2(Bucket=bucket, Prefix=f"assets/{asset_id}")["KeyCount"] == 0
    check_no_upload_is_open(stack, asset_id)


def check_no_upload_is_open(stack: Stack, asset_id: str) -> None:
    uploads = stack.client("s3").list_multipart_uploads(Bucket=stack.buckets["media"]).get("Uploads", [])
    assert [upload for upload in uploads if asset_id in upload["Key"]] == []


def test_80_megabytes_are_stored_in_parts_with_flat_memory(stack: Stack, asset_id: str) -> None:
    content = noise(5200, 5200)
    assert len(content) > 80_000_000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    with aws_calls() as calls:
        asset = store(asset_id, chunks(content), length=len(content))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()

    upload, download = ["CreateMultipartUpload", *["UploadPart"] * 10, "CompleteMultipartUpload"], calls.names[13:-1]
    assert calls.names == ["UpdateItem", *upload, *download, "TransactWriteItems"]
    assert download == ["HeadObject", *["GetObject"] * math.ceil(len(content) / ranged.BLOCK)]
    assert (asset.bytes, asset.width, asset.height) == (len(content), 5200, 5200)
    assert asset.sha256 == hashlib.sha256(content).hexdigest()
    assert stored(stack, asset.key) == content
    check_no_upload_is_open(stack, asset_id)
    assert peak < 40 * MB, f"{peak / MB:.0f} MB"


def test_a_small_file_is_one_upload_and_known_by_its_bytes(stack: Stack, asset_id: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "WEBP")

    with aws_calls() as calls:
        asset = store(asset_id, chunks(file.getvalue()))

    assert calls.names == ["UpdateItem", "PutObject", "HeadObject", "GetObject", "TransactWriteItems"]
    assert (asset.content_type, asset.key) == ("image/webp", f"assets/{asset_id}.webp")
    head = stack.client("s3").head_object(Bucket=stack.buckets["media"], Key=asset.key)
    assert (head["ContentType"], head["ContentLength"]) == ("image/webp", asset.bytes)
    assert assets.find(asset_id, account="assets-test") == asset
    assert assets.find(asset_id, account="somebody-else") is None


def test_a_file_over_the_cap_is_given_up_midway(stack: Stack, asset_id: str, picture: bytes) -> None:
    with aws_calls() as calls, pytest.raises(BadOutput, match="more than 9437184 bytes") as refused:
        store(asset_id, chunks(picture), largest=9 * MB)

    assert not refused.value.worth_retrying
    assert calls.names == ["UpdateItem", "CreateMultipartUpload", "UploadPart", "AbortMultipartUpload"]
    check_nothing_is_left(stack, asset_id)


def test_a_file_that_says_it_is_too_long_is_not_even_begun(stack: Stack, asset_id: str, picture: bytes) -> None:
    with aws_calls() as calls, pytest.raises(BadOutput, match="are allowed"):
        store(asset_id, chunks(picture), length=len(picture), largest=MB)

    assert calls.names == []


def test_a_download_that_breaks_off_leaves_nothing(stack: Stack, asset_id: str, picture: bytes) -> None:
    with pytest.raises(BadOutput, match="broke off") as refused:
        store(asset_id, broken(picture))

    assert refused.value.worth_retrying
    check_nothing_is_left(stack, asset_id)


@pytest.mark.parametrize(
    ("content", "length"),
    [(b"<!doctype html><title>Sign in</title>", None), (b"", None), (b"\x89PNG\r\n\x1a\nand then nothing", None)],
)
def test_what_is_no_image_makes_no_asset(stack: Stack, asset_id: str, content: bytes, length: int | None) -> None:
    with pytest.raises(BadOutput):
        store(asset_id, chunks(content), length=length)

    check_nothing_is_left(stack, asset_id)


def test_half_of_a_file_makes_no_asset(stack: Stack, asset_id: str, picture: bytes) -> None:
    half = picture[: len(picture) // 2]

    with aws_calls() as calls, pytest.raises(BadOutput, match="does not decode"):
        store(asset_id, chunks(half))
    assert calls.names[-1] == "DeleteObject"
    check_nothing_is_left(stack, asset_id)

    with aws_calls() as calls, pytest.raises(BadOutput, match=f"has {len(half)} of {len(picture)} bytes"):
        store(asset_id, chunks(half), length=len(picture))
    assert calls.names == ["UpdateItem", "PutObject", "DeleteObject"]
    check_nothing_is_left(stack, asset_id)


@pytest.mark.parametrize("how", ["once", "for_good", "death"])
@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("call", FAULTY, ids=lambda call: f"{call}-{MULTIPART[call]}")
def test_a_call_that_fails_is_made_good_by_storing_again(
    stack: Stack, asset_id: str, picture: bytes, call: int, effect: Effect, how: How
) -> None:
    failed = nullcontext() if how == "once" else pytest.raises((BotoCoreError, Killed))
    with aws_calls(Fault(call, effect, how)) as calls, failed:
        store(asset_id, chunks(picture))
    assert calls.names[call] == MULTIPART[call]
    assert calls.tries == {"once": 2, "for_good": 3, "death": 1}[how]
    # A dead process cleans nothing up, and an upload whose id was never heard cannot be: the bucket's lifecycle does.
    if how != "death" and (MULTIPART[call], effect) != ("CreateMultipartUpload", "after"):
        check_no_upload_is_open(stack, asset_id)

    asset = store(asset_id, chunks(picture), length=len(picture))

    assert asset.sha256 == hashlib.sha256(picture).hexdigest()
    assert stored(stack, asset.key) == picture
    assert assets.find(asset_id, account="assets-test") == asset
