"""POST /v1/projects/import: make a project of an OpenTimelineIO file or of Shotstack's JSON."""

from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.text import Text
from shared.core.web import IdempotencyKey
from shared.editor.timeline import AssetId
from shared.projects import edit, exchange, view
from shared.projects.view import ProjectView

app = web.Api(largest_body=view.LARGEST_BODY)


class ProjectImportRequest(BaseModel):
    """`content` is the file. `media` says which asset a medium is, by its URL, its file name or its name; every other
    gets a variable."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["otio", "shotstack"]
    content: dict[str, Any]
    media: Annotated[dict[str, AssetId], Field(max_length=1000)] = {}
    title: Annotated[Text, Field(min_length=1, max_length=200)] | None = None


class NotCarried(BaseModel):
    """What of the file the project does not have, where it came first, and how often it came."""

    where: str
    what: str
    times: int


class ImportedProjectView(BaseModel):
    """`missing` are the media that are not known, by the variable that stands for each."""

    project: ProjectView
    not_carried: list[NotCarried]
    missing: dict[str, str]


@app.post("/v1/projects/import", status_code=201)
def import_project(
    request: ProjectImportRequest, idempotency_key: IdempotencyKey = None
) -> Response[ImportedProjectView]:
    found = exchange.read(request.format, request.content, request.media, web.account())
    document = found.document.model_copy(update={"title": request.title}) if request.title else found.document
    known = view.request("import", idempotency_key, request.model_dump(mode="json"))
    project, replayed = edit.create(document, known)
    body = ImportedProjectView(
        project=ProjectView.of_project(project),
        not_carried=[NotCarried(where=one.where, what=one.what, times=one.times) for one in found.lost],
        missing=found.missing,
    )
    headers = {"idempotency-replayed": "true"} if replayed else {}
    return Response(201, content_type="application/json", body=body, headers=headers)


handler = web.handler(app)
