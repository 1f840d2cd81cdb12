"""How a file gets into the bucket without passing through us: a presigned POST that takes exactly this many bytes of
this type, or, for a large one, parts with a presigned PUT each, which can be sent in any order and again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from shared.core import aws
from shared.core.dynamo import Refused
from shared.core.errors import Conflict
from shared.core.settings import settings
from shared.uploads import table
from shared.uploads.limits import MB
from shared.uploads.table import Upload

URL_TTL_S = 3600
PARTS_ABOVE = 50 * MB
PART_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Part:
    """A part of a large file: `bytes` of it, the last may be shorter; `url` is None for one that has come."""

    number: int
    bytes: int
    url: str | None = None


def post(upload: Upload) -> dict[str, Any]:
    """`{url, fields}` of a form that S3 takes for an hour, with a file of exactly the promised size and type."""
    answer: dict[str, Any] = aws.s3().generate_presigned_post(
        settings().media_bucket,
        upload.key,
        Fields={"Content-Type": upload.content_type},
        Conditions=[{"Content-Type": upload.content_type}, ["content-length-range", upload.bytes, upload.bytes]],
        ExpiresIn=URL_TTL_S,
    )
    return answer


def in_parts(upload: Upload) -> bool:
    """Whether a file is large enough for parts."""
    return upload.bytes > PARTS_ABOVE


def begin(upload: Upload) -> Upload:
    """Announce a large file to S3, once."""
    if upload.multipart_id is not None or upload.state != "waiting":
        return upload
    answer = aws.s3().create_multipart_upload(
        Bucket=settings().media_bucket, Key=upload.key, ContentType=upload.content_type
    )
    try:
        return table.begin_parts(upload, answer["UploadId"])
    except Refused as refused:
        known = Upload.of(refused.found[0] or vars(upload))
        # A write whose answer was lost is repeated by botocore, and meets what it has written itself.
        if known.multipart_id != answer["UploadId"]:
            _abort(upload.key, answer["UploadId"])
        return known


def sizes(size: int) -> Iterator[tuple[int, int]]:
    """Number (from 1) and bytes of every part of a file."""
    for number, at in enumerate(range(0, size, PART_BYTES), start=1):
        yield number, min(PART_BYTES, size - at)


def parts(upload: Upload) -> list[Part]:
    """All parts of a large file, those that are missing with a URL to PUT them to."""
    if upload.multipart_id is None:
        return []
    come = _received(upload)
    missing = [] if come is None else _missing(upload, come)
    return [
        Part(number, size, _url(upload, number, size) if number in missing else None)
        for number, size in sizes(upload.bytes)
    ]


def complete(upload: Upload) -> None:
    """Make one file of the parts, which S3 will then tell us of; a second time changes nothing. Raises Conflict when
    some are missing."""
    if upload.multipart_id is None:
        return
    come = _received(upload)
    if come is None:
        return
    missing = _missing(upload, come)
    if missing:
        raise Conflict(
            f"{len(missing)} parts have not come yet.", code="upload_incomplete", fields={"missing_parts": missing}
        )
    try:
        aws.s3().complete_multipart_upload(
            Bucket=settings().media_bucket,
            Key=upload.key,
            UploadId=upload.multipart_id,
            MultipartUpload={
                "Parts": [{"PartNumber": number, "ETag": come[number][0]} for number, _ in sizes(upload.bytes)]
            },
        )
    except ClientError as error:
        if not _gone(error):
            raise


def discard(upload: Upload) -> None:
    """Delete whatever of the file has come."""
    if upload.multipart_id is not None:
        _abort(upload.key, upload.multipart_id)
    delete(upload.key)


def delete(key: str) -> None:
    """Delete an object of the bucket, if it is there."""
    aws.s3().delete_object(Bucket=settings().media_bucket, Key=key)


def _missing(upload: Upload, come: dict[int, tuple[str, int]]) -> list[int]:
    """The parts that have not come, or not whole."""
    return [number for number, size in sizes(upload.bytes) if come.get(number, ("", 0))[1] != size]


def _received(upload: Upload) -> dict[int, tuple[str, int]] | None:
    """ETag and size of the parts that have come, by number; None once they are one file. (S3 forgets them as well when
    they are a day old, and we the upload.)"""
    found: dict[int, tuple[str, int]] = {}
    pages = aws.s3().get_paginator("list_parts")
    try:
        for page in pages.paginate(Bucket=settings().media_bucket, Key=upload.key, UploadId=upload.multipart_id or ""):
            found |= {part["PartNumber"]: (part["ETag"], part["Size"]) for part in page.get("Parts", [])}
    except ClientError as error:
        if not _gone(error):
            raise
        return None
    return found


def _url(upload: Upload, number: int, size: int) -> str:
    return aws.s3().generate_presigned_url(
        "upload_part",
        Params={
            "Bucket": settings().media_bucket,
            "Key": upload.key,
            "UploadId": upload.multipart_id or "",
            "PartNumber": number,
            "ContentLength": size,
        },
        ExpiresIn=URL_TTL_S,
    )


def _abort(key: str, multipart_id: str) -> None:
    try:
        aws.s3().abort_multipart_upload(Bucket=settings().media_bucket, Key=key, UploadId=multipart_id)
    except ClientError as error:
        if not _gone(error):
            raise


def _gone(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "NoSuchUpload"
