"""POST /v1/uploads, GET and DELETE /v1/uploads/{upload_id}, its /parts and its /complete: files of the caller's own."""

from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.clock import iso, now
from shared.core.errors import Conflict, NotFound
from shared.core.text import Text
from shared.core.web import IdempotencyKey
from shared.jobs.view import JobError, LibraryAsset
from shared.media import assets
from shared.uploads import accept, table, transfer
from shared.uploads.table import Upload
from shared.uploads.transfer import Part

app = web.Api()


class UploadRequest(BaseModel):
    """What will be uploaded: exactly so many bytes of this type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    content_type: Annotated[str, Field(max_length=100, description="What the file is, as a media type.")]
    bytes: Annotated[int, Field(ge=1)]
    name: Annotated[Text | None, Field(min_length=1, max_length=200)] = None


class PostView(BaseModel):
    """A form (multipart/form-data) that takes the file for an hour: `fields` first, `file` last."""

    url: str
    fields: dict[str, str]


class PartView(BaseModel):
    """A part to PUT to `url` within the hour, in any order, with exactly so many bytes; without a URL it has come."""

    number: int
    bytes: int
    url: str | None

    @classmethod
    def of(cls, part: Part) -> "PartView":
        return cls(number=part.number, bytes=part.bytes, url=part.url)


class PartsView(BaseModel):
    items: list[PartView]


class UploadView(BaseModel):
    """An upload and what became of it: `ready` with its asset, or `rejected` with the reason in `error`."""

    model_config = ConfigDict(title="Upload")

    id: str
    state: Literal["waiting", "inspecting", "ready", "rejected"]
    content_type: str
    bytes: int
    name: str | None
    created_at: str
    expires_at: Annotated[str, Field(description="Until when the file must have come, or its outcome is kept.")]
    post: Annotated[PostView | None, Field(description="For files of up to 50 MB, where the upload is made.")] = None
    parts: Annotated[list[PartView] | None, Field(description="For larger ones.")] = None
    asset: LibraryAsset | None = None
    error: JobError | None = None

    @classmethod
    def of(cls, upload: Upload, **more: Any) -> "UploadView":
        asset = assets.find(upload.asset_id, account=upload.account) if upload.asset_id else None
        return cls(
            id=upload.id,
            state=upload.state,
            content_type=upload.content_type,
            bytes=upload.bytes,
            name=upload.name,
            created_at=upload.created_at,
            expires_at=iso(upload.due_at),
            asset=LibraryAsset.of(vars(asset)) if asset else None,
            error=JobError(code=upload.code, detail=upload.detail or "") if upload.code else None,
            **more,
        )


@app.post("/v1/uploads", status_code=201)
def create_upload(request: UploadRequest, idempotency_key: IdempotencyKey = None) -> Response[UploadView]:
    upload, replayed = accept.accept(
        web.account(), request.content_type, request.bytes, request.name, idempotency_key=idempotency_key, now=now()
    )
    headers = {"idempotency-replayed": "true"} if replayed else {}
    body = UploadView.of(upload, **_ways(upload))
    return Response(201, content_type="application/json", body=body, headers=headers)


@app.get("/v1/uploads/<upload_id>")
def get_upload(upload_id: str) -> UploadView:
    return UploadView.of(_own(upload_id))


@app.get("/v1/uploads/<upload_id>/parts")
def list_upload_parts(upload_id: str) -> PartsView:
    return PartsView(items=[PartView.of(part) for part in transfer.parts(_waiting(upload_id))])


@app.post("/v1/uploads/<upload_id>/complete", status_code=202)
def complete_upload(upload_id: str, idempotency_key: IdempotencyKey = None) -> Response[UploadView]:
    upload = _own(upload_id)
    if upload.state == "waiting":
        transfer.complete(upload)
    return Response(202, content_type="application/json", body=UploadView.of(upload))


@app.delete("/v1/uploads/<upload_id>", status_code=204)
def abort_upload(upload_id: str) -> Response[str]:
    upload = _waiting(upload_id)
    if not table.remove(upload):
        raise _decided()
    transfer.discard(upload)
    return Response(204, body="")


def _ways(upload: Upload) -> dict[str, Any]:
    """How the file gets in, while it is waited for."""
    if upload.state != "waiting":
        return {}
    if upload.multipart_id is None:
        return {"post": PostView(**transfer.post(upload))}
    return {"parts": [PartView.of(part) for part in transfer.parts(upload)]}


def _own(upload_id: str) -> Upload:
    upload = table.find(upload_id, account=web.account())
    if upload is None:
        raise NotFound("There is no such upload.")
    return upload


def _waiting(upload_id: str) -> Upload:
    upload = _own(upload_id)
    if upload.state != "waiting":
        raise _decided()
    return upload


def _decided() -> Conflict:
    return Conflict("The file has come; nothing more can be sent or given up.", code="upload_received")


handler = web.handler(app)
