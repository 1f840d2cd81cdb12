"""GET /v1/projects/{project_id}/versions, one of them, and POST its /restore: the last 50 versions of a project."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import BaseModel

from shared.core import web
from shared.core.web import Cursor, IdempotencyKey, Limit
from shared.projects import edit, table, view
from shared.projects.view import IfMatch, ProjectView

app = web.Api()

Number = Annotated[int, Path(ge=1, le=10**12)]


class VersionView(BaseModel):
    """An entry of a project's history; `bytes` is the size of its document, `restored` the version that it repeats."""

    version: int
    title: str
    bytes: int
    saved_at: str
    saved_by: str
    restored: int | None


class VersionPage(BaseModel):
    items: list[VersionView]
    next_cursor: str | None


@app.get("/v1/projects/<project_id>/versions")
def list_project_versions(project_id: str, limit: Limit = 20, cursor: Cursor = None) -> VersionPage:
    found, following = table.versions(web.account(), project_id, limit=limit, cursor=cursor)
    return VersionPage(items=[VersionView(**vars(version)) for version in found], next_cursor=following)


@app.get("/v1/projects/<project_id>/versions/<version>")
def get_project_version(project_id: str, version: Number) -> Response[ProjectView]:
    return view.answer(table.version_of(web.account(), project_id, version))


@app.post("/v1/projects/<project_id>/versions/<version>/restore")
def restore_project_version(
    project_id: str, version: Number, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> Response[ProjectView]:
    known = view.request("restore", idempotency_key, [project_id, version])
    versions = None if if_match is None else view.wanted(if_match)
    project, replayed = edit.restore(project_id, version, known, versions=versions)
    return view.answer(project, replayed=replayed)


handler = web.handler(app)
