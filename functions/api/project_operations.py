"""POST /v1/projects/{project_id}/operations: change a project's timeline, whichever version is current."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.web import IdempotencyKey
from shared.editor.operations import MOST_OPERATIONS, Operation
from shared.projects import edit, view
from shared.projects.view import IfMatch, ProjectView

app = web.Api(largest_body=view.LARGEST_BODY)


class OperationsRequest(BaseModel):
    """What to do to the timeline, one after the other; all of it is done, or nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    operations: Annotated[list[Operation], Field(min_length=1, max_length=MOST_OPERATIONS)]


@app.post("/v1/projects/<project_id>/operations")
def operate_on_project(
    project_id: str, request: OperationsRequest, if_match: IfMatch = None, idempotency_key: IdempotencyKey = None
) -> Response[ProjectView]:
    known = view.request("operate", idempotency_key, [project_id, request.model_dump(mode="json", by_alias=True)])
    versions = None if if_match is None else view.wanted(if_match)
    project, replayed = edit.operate(project_id, request.operations, known, versions=versions)
    return view.answer(project, replayed=replayed)


handler = web.handler(app)
