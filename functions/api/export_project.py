"""GET /v1/projects/{project_id}/export.otio and GET /v1/projects/{project_id}/captions: for other programs."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from shared.core import web
from shared.projects import exchange, table

app = web.Api()

OTIO = "application/vnd.pixar.opentimelineio+json"
CAPTIONS = {"srt": "application/x-subrip", "vtt": "text/vtt"}


@app.get("/v1/projects/<project_id>/export.otio")
def export_otio(project_id: str) -> Response[str]:
    project = table.find(web.account(), project_id)
    return _file(exchange.otio(project), OTIO, f"{project.summary.id}.otio")


@app.get("/v1/projects/<project_id>/captions")
def export_captions(
    project_id: str, wanted: Annotated[Literal["srt", "vtt"], Query(alias="format")] = "srt"
) -> Response[str]:
    project = table.find(web.account(), project_id)
    told = exchange.captions_of(project, wanted)
    return _file(told, f"{CAPTIONS[wanted]}; charset=utf-8", f"{project.summary.id}.{wanted}")


def _file(text: str, content_type: str, name: str) -> Response[str]:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(200, content_type=content_type, body=text, headers=headers)


handler = web.handler(app)
