"""Assets: the files we keep. The bytes are in the media bucket, what is known of them in the assets table.

An asset's row is announced (`pending_at`, in the index `pending`) before its file is written, so that a file whose
asset never came about can be found without looking through the bucket: `purge` does, a day later.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from boto3.s3.transfer import TransferConfig

from shared.core import aws, dynamo
from shared.core.clock import iso
from shared.core.dynamo import Item
from shared.core.settings import settings
from shared.media.fetch import Unreadable
from shared.media.types import EXTENSIONS, HEAD_BYTES, sniff

Family = Literal["image", "video", "audio"]

URL_TTL_S = 3600
SHARDS = 4
PART_BYTES = 8 * 1024 * 1024
# One part in memory at a time: the transfer runs in the calling thread.
TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)


class BadOutput(Exception):
    """The file is not what it should be; `worth_retrying` unless a second download could not change that."""

    def __init__(self, detail: str, *, worth_retrying: bool = True) -> None:
        super().__init__(detail)
        self.detail = detail
        self.worth_retrying = worth_retrying


@dataclass(frozen=True)
class Origin:
    """Whose an asset is and where it comes from; `role` tells several of one job apart."""

    account: str
    job_id: str
    kind: str
    role: str = ""


@dataclass(frozen=True)
class Asset:
    """A stored file. Sizes are bytes and pixels, durations seconds; `sha256` is of the whole file, in hex."""

    id: str
    account: str
    job_id: str
    kind: str
    content_type: str
    key: str
    bytes: int
    sha256: str
    created_at: str
    role: str = ""
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None

    @staticmethod
    def of(item: Item) -> "Asset":
        return Asset(**{name: item[name] for name in Asset.__dataclass_fields__ if name in item})


def store(
    chunks: Iterator[bytes],
    asset_id: str,
    origin: Origin,
    *,
    length: int | None,
    family: Family,
    largest: int,
    now: float,
) -> Asset:
    """Stream a file into the bucket and make its asset; `length` is how many bytes were announced, where that is known.

    Raises BadOutput when it has more than `largest` bytes, is not of the media `family`, does not decode, or ended too
    early; nothing of it is kept then. Storing the same id again writes the same key: a repeat overwrites, it never
    doubles.
    """
    if length is not None and length > largest:
        raise BadOutput(f"the file has {length} bytes, {largest} are allowed", worth_retrying=False)
    stream = _Measured(chunks, largest)
    try:
        content_type = sniff(stream.head())
        if content_type is None or not content_type.startswith(f"{family}/"):
            raise BadOutput(f"the file is no {family}")
        key = f"assets/{asset_id}{EXTENSIONS[content_type]}"
        # boto3 wants a whole file object; of one that it cannot seek in, it only ever calls read().
        source = cast(BinaryIO, stream)
        options = {"ContentType": content_type}
        announced = _announce(asset_id, origin, now)
        aws.s3().upload_fileobj(source, settings().media_bucket, key, ExtraArgs=options, Config=TRANSFER)
    except Unreadable as error:
        raise BadOutput(str(error)) from error
    try:
        if length is not None and length != stream.bytes:
            raise BadOutput(f"the file has {stream.bytes} of {length} bytes")
        width, height, duration = _measure(key, content_type)
    except BadOutput:
        aws.s3().delete_object(Bucket=settings().media_bucket, Key=key)
        raise
    return _record(
        Asset(
            id=asset_id,
            **vars(origin),
            content_type=content_type,
            key=key,
            bytes=stream.bytes,
            sha256=stream.sha256.hexdigest(),
            created_at=iso(now),
            width=width,
            height=height,
            duration_s=duration,
        ),
        announced,
    )


def store_text(text: str, content_type: str, asset_id: str, origin: Origin, *, now: float) -> Asset:
    """Keep a text that we have made ourselves (captions, a JSON document) as an asset."""
    data = text.encode()
    key = f"assets/{asset_id}{EXTENSIONS[content_type]}"
    announced = _announce(asset_id, origin, now)
    stored_type = content_type if content_type == "application/json" else f"{content_type}; charset=utf-8"
    aws.s3().put_object(Bucket=settings().media_bucket, Key=key, Body=data, ContentType=stored_type)
    return _record(
        Asset(
            id=asset_id,
            **vars(origin),
            content_type=content_type,
            key=key,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=iso(now),
        ),
        announced,
    )


def find(asset_id: str, *, account: str) -> Asset | None:
    """The asset, if the account has it."""
    item = dynamo.get(settings().assets_table, {"id": asset_id})
    return Asset.of(item) if item and item["account"] == account and "key" in item else None


def url(key: str) -> str:
    """A presigned GET URL, good for an hour at the most (and never longer than the function's own session)."""
    return aws.s3().generate_presigned_url(
        "get_object", Params={"Bucket": settings().media_bucket, "Key": key}, ExpiresIn=URL_TTL_S
    )


def _measure(key: str, content_type: str) -> tuple[int | None, int | None, float | None]:
    """Width, height and duration of a stored file, read back by ranges. Raises BadOutput for one that is broken."""
    from shared.media import ranged

    with ranged.opened(key) as file:
        if content_type.startswith("image/"):
            from shared.media import images

            try:
                width, height = images.measure(file, content_type)
            except images.NotAnImage as error:
                raise BadOutput(f"the file does not decode: {error}") from error
            return width, height, None
        from shared.media import probe

        try:
            found = probe.measure(file, content_type)
        except probe.NotMedia as error:
            raise BadOutput(f"the file does not decode: {error}") from error
        return found.width, found.height, found.duration_s


def _announce(asset_id: str, origin: Origin, now: float) -> Item:
    """Put a row in the place of the asset that is to come, and return what of it must stay on the asset: what marks it
    as pending, if this has been tried before and there may be a file of the first try that is not the asset's."""
    mark: Item = {"pending_shard": f"pending#{zlib.crc32(asset_id.encode()) % SHARDS}", "pending_at": int(now)}
    row = dynamo.update(
        dynamo.change(
            settings().assets_table,
            {"id": asset_id},
            "SET account = :account, job_id = :job_id, announced_at = if_not_exists(announced_at, :now)"
            ", pending_shard = :pending_shard, pending_at = :pending_at",
            when="attribute_not_exists(id) OR account = :account",
            values={"account": origin.account, "job_id": origin.job_id, "now": now, **mark},
        )
    )
    first = "key" not in row and row["announced_at"] == now
    return {} if first else mark


def _record(asset: Asset, mark: Item) -> Asset:
    fields = {name: value for name, value in vars(asset).items() if value is not None}
    dynamo.save(settings().assets_table, {**fields, **mark})
    return asset


class _Measured:
    """The chunks of a file as something to read from: counted, hashed and capped as they pass."""

    def __init__(self, chunks: Iterator[bytes], largest: int) -> None:
        self._chunks = chunks
        self._largest = largest
        self._buffer = bytearray()
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def head(self) -> bytes:
        """The first bytes, which `read` will give again."""
        self._fill(HEAD_BYTES)
        return bytes(self._buffer[:HEAD_BYTES])

    def read(self, size: int = -1) -> bytes:
        self._fill(size)
        end = len(self._buffer) if size < 0 else size
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        return data

    def _fill(self, size: int) -> None:
        while size < 0 or len(self._buffer) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            self.bytes += len(chunk)
            if self.bytes > self._largest:
                raise BadOutput(f"the file has more than {self._largest} bytes", worth_retrying=False)
            self.sha256.update(chunk)
            self._buffer += chunk
