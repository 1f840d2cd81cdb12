"""Accepting an upload: what is promised must be something that we take, and there must be room for it."""

import hashlib
import json

from shared.core import ids, web
from shared.core.clock import iso
from shared.core.errors import Invalid
from shared.core.settings import settings
from shared.media import assets
from shared.uploads import limits, table, transfer
from shared.uploads.limits import Rejected
from shared.uploads.table import Upload


def accept(
    account: str, content_type: str, size: int, name: str | None, *, idempotency_key: str | None, now: float
) -> tuple[Upload, bool]:
    """The upload, and whether an earlier request with the same key has made it. Raises Invalid and Conflict."""
    media_type = limits.named(content_type)
    if media_type is None:
        raise _flaw("/content_type", f"must be one of {', '.join(limits.TYPES)}")
    try:
        limits.check_size(media_type, size)
    except Rejected as rejected:
        raise _flaw("/bytes", rejected.detail) from rejected
    upload = Upload(
        id=ids.derived("up", account, "upload", idempotency_key) if idempotency_key else ids.new("up"),
        account=account,
        content_type=media_type,
        bytes=size,
        state="waiting",
        created_at=iso(now),
        due_at=int(now) + table.UNFINISHED_S,
        request_hash=_fingerprint(media_type, size, name),
        name=name,
    )
    known = table.find(upload.id, account=account) if idempotency_key else None
    if known is None:
        _check_room(account, size)
        known = table.create(upload)
    if known.request_hash != upload.request_hash:
        raise web.key_reused()
    replayed = known.created_at != upload.created_at
    return transfer.begin(known) if transfer.in_parts(known) else known, replayed


def _check_room(account: str, size: int) -> None:
    """Raises Conflict where the file has no room. What is under way is counted when it has come."""
    used, _ = assets.stored(account)
    if used + size > settings().storage_quota:
        raise assets.no_room(account, size)


def _fingerprint(*request: object) -> str:
    return hashlib.sha256(json.dumps(request, ensure_ascii=False).encode()).hexdigest()


def _flaw(pointer: str, detail: str) -> Invalid:
    return Invalid("The request is not valid.", errors=[{"pointer": pointer, "detail": detail}])
