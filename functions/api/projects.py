"""POST /v1/projects, GET /v1/projects, GET, PUT and DELETE /v1/projects/{project_id} and POST
/v1/projects/{project_id}/duplicate: the projects of the editor."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.clock import now
from shared.core.errors import PreconditionFailed
from shared.core.text import Text
from shared.core.web import Cursor, IdempotencyKey, Limit
from shared.editor import timeline
from shared.projects import edit, table, view
from shared.projects.view import IfMatch, ProjectRequest, ProjectSummary, ProjectView

app = web.Api(largest_body=view.LARGEST_BODY)


class DuplicateRequest(BaseModel):
    """The title of the copy; without one it says that it is a copy."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[Text, Field(min_length=1, max_length=200)] | None = None


class ProjectPage(BaseModel):
    items: list[ProjectSummary]
    next_cursor: str | None


@app.post("/v1/projects", status_code=201)
def create_project(request: ProjectRequest, idempotency_key: IdempotencyKey = None) -> Response[ProjectView]:
    known = view.request("create", idempotency_key, timeline.written(request))
    project, replayed = edit.create(request, known)
    return view.answer(project, status=201, replayed=replayed)


@app.get("/v1/projects")
def list_projects(limit: Limit = 20, cursor: Cursor = None) -> ProjectPage:
    found, following = table.page(web.account(), limit=limit, cursor=cursor)
    return ProjectPage(items=[ProjectSummary.of(one) for one in found], next_cursor=following)


@app.get("/v1/projects/<project_id>")
def get_project(project_id: str) -> Response[ProjectView]:
    return view.answer(table.find(web.account(), project_id))


@app.put("/v1/projects/<project_id>")
def save_project(project_id: str, request: ProjectRequest, if_match: IfMatch = None) -> Response[ProjectView]:
    known = view.request("save", None)
    return view.answer(edit.put(project_id, request, known, versions=view.wanted(if_match)))


@app.delete("/v1/projects/<project_id>", status_code=204)
def delete_project(project_id: str, if_match: IfMatch = None) -> Response[str]:
    versions = view.wanted(if_match)
    current = table.known(web.account(), project_id).version
    if versions is not None and current not in versions:
        raise PreconditionFailed(version=current)
    table.delete(web.account(), project_id, current, now())
    return Response(204, body="")


@app.post("/v1/projects/<project_id>/duplicate", status_code=201)
def duplicate_project(
    project_id: str, request: DuplicateRequest, idempotency_key: IdempotencyKey = None
) -> Response[ProjectView]:
    known = view.request("duplicate", idempotency_key, [project_id, request.title])
    project, replayed = edit.duplicate(project_id, request.title, known)
    return view.answer(project, status=201, replayed=replayed)


handler = web.handler(app)
