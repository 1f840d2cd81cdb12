"""Assets: the files we keep. The bytes are in the media bucket, what is known of them in the assets table.

What is an account's is on its shelf (the index `by_shelf`), newest first; what it has deleted lies on another one for a
week (`shared/media/library`). How much an account has stored is counted in the transaction that records an asset.

An asset's row is announced (`pending_at`, in the index `pending`) before its file is written, so that a file whose
asset never came about can be found without looking through the bucket: `purge` does, a day later.
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, cast

from boto3.s3.transfer import TransferConfig

from shared.core import aws, dynamo
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.errors import Conflict, Unavailable
from shared.core.settings import settings
from shared.media.fetch import Unreadable
from shared.media.types import EXTENSIONS, HEAD_BYTES, sniff

Family = Literal["image", "video", "audio"]
Source = Literal["upload", "generation", "export", "stock"]

URL_TTL_S = 3600
SHARDS = 4
RECORD_ATTEMPTS = 3
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
    """Whose an asset is and where it comes from; `role` tells several of one job apart, `prompt` is what it was made
    of."""

    account: str
    job_id: str
    kind: str
    role: str = ""
    source: Source = "generation"
    prompt: str | None = None
    attribution: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Asset:
    """A stored file. Sizes are bytes and pixels (as it is to be seen), durations seconds; `sha256` is of the whole
    file, in hex, where it has passed through our hands. `probe` is what the inspection of an upload has found,
    `previews` the keys of its `thumbnail`, `waveform` and `peaks`."""

    id: str
    account: str
    job_id: str | None
    kind: str
    content_type: str
    key: str
    bytes: int
    sha256: str | None
    created_at: str
    role: str = ""
    source: Source = "generation"
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    name: str | None = None
    prompt: str | None = None
    attribution: Mapping[str, str] | None = None
    tags: tuple[str, ...] = ()
    probe: Item | None = None
    previews: Mapping[str, str] = field(default_factory=dict)
    deleted_at: str | None = None

    @staticmethod
    def of(item: Item) -> "Asset":
        fields = {name: item[name] for name in Asset.__dataclass_fields__ if name in item}
        return Asset(**{"job_id": None, "sha256": None, **fields, "tags": tuple(item.get("tags", ()))})

    def item(self) -> Item:
        """The row of an asset that lies on its account's shelf."""
        fields = {name: value for name, value in vars(self).items() if value not in (None, (), {})}
        return {**fields, "shelf": self.account, "created": f"{self.created_at}#{self.id}"}


def store(
    chunks: Iterator[bytes],
    asset_id: str,
    origin: Origin,
    *,
    length: int | None,
    family: Family,
    largest: int,
    now: float,
    room: int | None = None,
) -> Asset:
    """Stream a file into the bucket and make its asset; `length` is how many bytes were announced, where that is known.

    Raises BadOutput when it has more than `largest` bytes, is not of the media `family`, does not decode, or ended too
    early, and Conflict when the account would then have stored more than `room` bytes; nothing of it is kept then.
    Storing the same id again writes the same key: a repeat overwrites, it never doubles.
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
        announced = announce(asset_id, origin, now)
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
    asset = Asset(
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
    )
    try:
        return record(asset, announced, room=room)
    except Refused as refused:
        aws.s3().delete_object(Bucket=settings().media_bucket, Key=key)
        raise no_room(origin.account, stream.bytes) from refused


def store_text(text: str, content_type: str, asset_id: str, origin: Origin, *, now: float) -> Asset:
    """Keep a text that we have made ourselves (captions, a JSON document) as an asset."""
    data = text.encode()
    key = f"assets/{asset_id}{EXTENSIONS[content_type]}"
    announced = announce(asset_id, origin, now)
    stored_type = content_type if content_type == "application/json" else f"{content_type}; charset=utf-8"
    aws.s3().put_object(Bucket=settings().media_bucket, Key=key, Body=data, ContentType=stored_type)
    return record(
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
    """The asset, if the account has it and has not deleted it."""
    asset = find_even_deleted(asset_id, account=account)
    return asset if asset is not None and asset.deleted_at is None else None


def find_even_deleted(asset_id: str, *, account: str) -> Asset | None:
    """The asset, if the account has it or could still restore it."""
    item = dynamo.get(settings().assets_table, {"id": asset_id})
    return Asset.of(item) if item and item.get("account") == account and "key" in item else None


def url(key: str, *, disposition: str | None = None) -> str:
    """A presigned GET URL, good for an hour at the most (and never longer than the function's own session), with a
    Content-Disposition of the answer. S3 answers ranges of it."""
    wanted = {"Bucket": settings().media_bucket, "Key": key}
    if disposition is not None:
        wanted["ResponseContentDisposition"] = disposition
    return aws.s3().generate_presigned_url("get_object", Params=wanted, ExpiresIn=URL_TTL_S)


def counted(account: str, *, size: int, files: int, room: int | None = None) -> Write:
    """A transaction's write that adds to what an account has stored; refused where that would then be more than
    `room` bytes."""
    values: Item = {":size": size, ":files": files}
    update: Item = {
        "TableName": settings().assets_table,
        "Key": dynamo.attributes({"id": f"storage#{account}"}),
        "UpdateExpression": "ADD #bytes :size, #files :files",
        "ExpressionAttributeNames": {"#bytes": "bytes", "#files": "files"},
    }
    if room is not None:
        values[":before"] = room - size
        update["ConditionExpression"] = "#bytes <= :before" + (
            " OR attribute_not_exists(#bytes)" if room >= size else ""
        )
    return {"Update": {**update, "ExpressionAttributeValues": dynamo.attributes(values)}}


def stored(account: str) -> tuple[int, int]:
    """How many bytes in how many files an account has stored, without what it has deleted."""
    item = dynamo.get(settings().assets_table, {"id": f"storage#{account}"}) or {}
    return max(0, item.get("bytes", 0)), max(0, item.get("files", 0))


def no_room(account: str, size: int) -> Conflict:
    """The refusal of a file for which the account has no room."""
    used, _ = stored(account)
    quota = settings().storage_quota
    return Conflict(
        f"{used} of {quota} bytes are used; there is no room for {size} more.",
        code="storage_quota_exceeded",
        fields={"used": used, "quota": quota},
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


@dataclass(frozen=True)
class Announced:
    """What of an asset's row must stay on it, and how many bytes of it are counted."""

    mark: Item
    bytes: int | None


def announce(asset_id: str, origin: Origin, now: float) -> Announced:
    """Put a row in the place of the asset that is to come. What marks it as pending must stay on the asset if this has
    been tried before: there may be a file of the first try that is not the asset's."""
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
    return Announced({} if first else mark, row.get("bytes"))


def record(
    asset: Asset, announced: Announced, *, more: Item | None = None, room: int | None = None, also: Sequence[Write] = ()
) -> Asset:
    """Write the asset down, count its bytes (those of an earlier try are counted already), and do what `also` says:
    all or nothing. `more` is what its row has besides. Raises Refused, with the refusal of the asset itself first, that
    of `room` second, and then those of `also`."""
    before = announced.bytes
    for _ in range(RECORD_ATTEMPTS):
        write = _put({**asset.item(), **announced.mark, **(more or {})}, before)
        size = asset.bytes - (before or 0)
        try:
            files = 0 if before is not None else 1
            dynamo.transact([write, counted(asset.account, size=size, files=files, room=room), *also])
        except Refused as refused:
            if any(refused.refusals[1:]):
                raise
            before = (refused.found[0] or {}).get("bytes")
        else:
            return asset
    raise Unavailable("The asset is being stored by somebody else.", code="busy")


def _put(item: Item, before: int | None) -> Write:
    """A transaction's write of an asset whose row says that so many bytes of it were counted."""
    write: Item = {
        "TableName": settings().assets_table,
        "Item": dynamo.attributes(item),
        "ConditionExpression": "attribute_not_exists(#bytes)" if before is None else "#bytes = :before",
        "ExpressionAttributeNames": {"#bytes": "bytes"},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if before is not None:
        write["ExpressionAttributeValues"] = dynamo.attributes({":before": before})
    return {"Put": write}


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
