"""What happens to a file that has come: inspected where it is, then kept as an asset, or deleted with the reason told.

What was inspected is what is kept, also when the form is sent a second time meanwhile: reading and copying both insist
on the object that was there at the beginning, and its asset has an id of its own.
"""

import resource
from collections.abc import Callable

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from shared.core import aws, ids
from shared.core.clock import iso
from shared.core.dynamo import Refused
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.media import assets, library
from shared.media.assets import Asset, Origin
from shared.media.ranged import RangedObject, Unreachable
from shared.media.types import EXTENSIONS
from shared.uploads import apart, limits, table, transfer
from shared.uploads.inspection import Inspection
from shared.uploads.limits import Rejected
from shared.uploads.table import Upload

MB = 1024 * 1024
COPY = TransferConfig(multipart_threshold=64 * MB, multipart_chunksize=64 * MB, use_threads=False)
GONE = {"404", "NoSuchKey", "PreconditionFailed", "412"}
"""What S3 says when an object is not there any more, or another one is in its place."""
NO_ROOM = Rejected("quota_exceeded", "the account has no room for it")
FOR_KEEPING_S = 30
"""Of the time that there is, what copying and writing down may need."""

PREVIEWS = {
    "thumbnail": (".thumbnail.webp", "image/webp"),
    "peaks": (".peaks.json", "application/json"),
    "waveform": (".waveform.png", "image/png"),
}


def receive(key: str, time_left: Callable[[], float], now: float) -> None:
    """Decide on the file under this key of the bucket. A repeat finds it decided and does nothing twice."""
    try:
        _decide(key, time_left, now)
    except (ClientError, Unreachable) as error:
        cause = error.__cause__ if isinstance(error, Unreachable) else error
        if not isinstance(cause, ClientError) or cause.response["Error"]["Code"] not in GONE:
            raise
        # Whoever has deleted it has decided on it, and whatever is in its place has an event of its own.
        logger.info("the file is gone already", key=key)


def _decide(key: str, time_left: Callable[[], float], now: float) -> None:
    source = RangedObject(key)
    upload = table.begin_inspection(key.removeprefix("uploads/"), now)
    if upload is None:
        logger.warning("a file that nobody waits for", key=key)
        transfer.delete(key)
        return
    try:
        if source.size != upload.bytes:
            raise Rejected("wrong_size", f"the file has {source.size} bytes; {upload.bytes} were promised")
        found = apart.inspect(source, upload.content_type, lambda: time_left() - FOR_KEEPING_S)
        decoders = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        read = source.read_bytes
        logger.info("inspected", upload=upload.id, bytes=source.size, read_bytes=read, decoders_kib=decoders)
        _keep(upload, source, found, now)
    except Rejected as rejected:
        _reject(upload, rejected, now)
    transfer.delete(key)


def _reject(upload: Upload, rejected: Rejected, now: float) -> str | None:
    """Write down why it becomes no asset; the asset that it became all the same, if another inspection was faster."""
    logger.info("rejected", upload=upload.id, code=rejected.code, detail=rejected.detail)
    decided = table.reject(upload.id, rejected.code, rejected.detail, now)
    count("UploadsRejected")
    return decided.asset_id if decided else None


def _keep(upload: Upload, source: RangedObject, found: Inspection, now: float) -> None:
    """Make an asset of it, or reject it when the account has no room for it."""
    asset_id = ids.derived("as", upload.id, source.etag)
    kind = limits.family(upload.content_type)
    announced = assets.announce(asset_id, Origin(upload.account, upload.id, kind, source="upload"), now)
    asset_key = f"assets/{asset_id}{EXTENSIONS[upload.content_type]}"
    aws.s3().copy(
        {"Bucket": settings().media_bucket, "Key": upload.key},
        settings().media_bucket,
        asset_key,
        ExtraArgs={
            "ContentType": upload.content_type,
            "MetadataDirective": "REPLACE",
            "CopySourceIfMatch": source.etag,
        },
        Config=COPY,
    )
    previews = _previews(asset_id, found)
    width, height = found.probe.size
    asset = Asset(
        id=asset_id,
        account=upload.account,
        job_id=None,
        sha256=None,
        kind=kind,
        content_type=upload.content_type,
        key=asset_key,
        bytes=source.size,
        created_at=iso(now),
        source="upload",
        name=upload.name,
        width=width,
        height=height,
        duration_s=found.probe.duration_s,
        probe=found.probe.document(),
        previews=previews,
    )
    try:
        assets.record(
            asset,
            announced,
            more=library.due(asset_id, now + library.UNUSED_S),
            room=settings().storage_quota,
            also=[table.made_ready(upload, asset_id, now)],
        )
    except Refused as refused:
        decided = refused.refusals[2]
        if decided:
            logger.info("it was decided meanwhile", upload=upload.id)
        made = (refused.found[2] or {}).get("asset_id") if decided else _reject(upload, NO_ROOM, now)
        # Another inspection of the very same file may have made this asset: then these are its files.
        if made != asset_id:
            for name in (asset_key, *previews.values()):
                transfer.delete(name)


def _previews(asset_id: str, found: Inspection) -> dict[str, str]:
    """Store what there is to show of a file; the keys."""
    keys = {}
    for name, (ending, content_type) in PREVIEWS.items():
        data: bytes | None = getattr(found, name)
        if data is not None:
            keys[name] = f"assets/{asset_id}{ending}"
            aws.s3().put_object(Bucket=settings().media_bucket, Key=keys[name], Body=data, ContentType=content_type)
    return keys
