"""Uploads: rows of the assets table, `up_…`, from the promise of a file to the asset or the reason why it is none.

    waiting ── the file has come ──▶ inspecting ──▶ ready | rejected

What has not come within a day, or was begun to be inspected and never finished, is in the index `due` for `expire`.
"""

from dataclasses import dataclass
from typing import Literal

from shared.core import dynamo
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.settings import settings
from shared.media import library

State = Literal["waiting", "inspecting", "ready", "rejected"]

UNFINISHED_S = 24 * 3600
INSPECTED_WITHIN_S = 3600
KEEP_S = 7 * 24 * 3600
"""For how long the outcome of an upload can be asked for."""

NAMES = {"#state": "state"}
# Twice delivered events and repeated invocations find it inspecting, and may go on.
UNDECIDED = "#state IN (:waiting, :inspecting)"


@dataclass(frozen=True)
class Upload:
    """A file that was promised. `code` and `detail` are why it was rejected; `multipart_id` is S3's, where it comes in
    parts."""

    id: str
    account: str
    content_type: str
    bytes: int
    state: State
    created_at: str
    due_at: int
    request_hash: str
    name: str | None = None
    multipart_id: str | None = None
    asset_id: str | None = None
    code: str | None = None
    detail: str | None = None

    @property
    def key(self) -> str:
        """Where its bytes go; nothing is there once it is decided."""
        return key(self.id)

    @property
    def expires_at(self) -> str:
        """When it is forgotten if the file does not come."""
        return iso(self.due_at)

    @staticmethod
    def of(item: Item) -> "Upload":
        fields = {name: item[name] for name in Upload.__dataclass_fields__ if name in item}
        return Upload(**{"due_at": item.get("expires_at", 0), **fields})


def key(upload_id: str) -> str:
    """The key of the bucket that a file is uploaded to."""
    return f"uploads/{upload_id}"


def create(upload: Upload) -> Upload:
    """Write it down, or answer the one that an earlier request with the same id has made."""
    fields = {name: value for name, value in vars(upload).items() if value is not None}
    try:
        dynamo.transact([dynamo.put(settings().assets_table, {**fields, **library.due(upload.id, upload.due_at)})])
    except Refused as refused:
        return Upload.of(refused.found[0] or fields)
    return upload


def find(upload_id: str, *, account: str) -> Upload | None:
    """The upload, if it is the account's."""
    item = dynamo.get(settings().assets_table, {"id": upload_id}) if upload_id.startswith("up_") else None
    return Upload.of(item) if item and item["account"] == account else None


def begin_parts(upload: Upload, multipart_id: str) -> Upload:
    """Remember what S3 calls it. Raises Refused, with the upload, when somebody was faster."""
    write = _change(
        upload.id,
        "SET multipart_id = :multipart",
        "#state = :waiting AND attribute_not_exists(multipart_id)",
        {"waiting": "waiting", "multipart": multipart_id},
    )
    return Upload.of(dynamo.update(write))


def begin_inspection(upload_id: str, now: float) -> Upload | None:
    """The upload whose file has come; None where nobody waits for it (any more)."""
    write = _change(
        upload_id,
        "SET #state = :inspecting, due_at = :due",
        UNDECIDED,
        {"waiting": "waiting", "inspecting": "inspecting", "due": int(now) + INSPECTED_WITHIN_S},
    )
    try:
        return Upload.of(dynamo.update(write))
    except Refused:
        return None


def made_ready(upload: Upload, asset_id: str, now: float) -> Write:
    """A transaction's write: it has become an asset."""
    return _change(
        upload.id,
        "SET #state = :ready, asset_id = :asset, expires_at = :gone REMOVE due_shard, due_at, multipart_id",
        "#state = :inspecting",
        {"inspecting": "inspecting", "ready": "ready", "asset": asset_id, "gone": int(now) + KEEP_S},
    )


def reject(upload_id: str, code: str, detail: str, now: float) -> Upload | None:
    """It becomes no asset, for this reason, unless it was decided before. The upload as it is then, if it is known."""
    write = _change(
        upload_id,
        "SET #state = :rejected, code = :code, detail = :detail, expires_at = :gone"
        " REMOVE due_shard, due_at, multipart_id",
        UNDECIDED,
        {
            "waiting": "waiting",
            "inspecting": "inspecting",
            "rejected": "rejected",
            "code": code,
            "detail": detail,
            "gone": int(now) + KEEP_S,
        },
    )
    try:
        return Upload.of(dynamo.update(write))
    except Refused as refused:
        (met,) = refused.found
        return Upload.of(met) if met else None


def remove(upload: Upload) -> bool:
    """Forget it, if it still waits for its file; whether it is forgotten."""
    try:
        dynamo.remove(
            settings().assets_table,
            {"id": upload.id},
            when="account = :account AND #state = :waiting",
            values={"account": upload.account, "waiting": "waiting"},
            names=NAMES,
        )
    except Refused as refused:
        return refused.found == [None]
    return True


def _change(upload_id: str, expression: str, when: str, values: Item) -> Write:
    return dynamo.change(settings().assets_table, {"id": upload_id}, expression, when=when, values=values, names=NAMES)
