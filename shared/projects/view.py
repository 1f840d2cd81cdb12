"""Projects as the API tells them."""

import re
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.clock import now
from shared.core.errors import PreconditionRequired
from shared.editor.timeline import Document
from shared.projects import edit
from shared.projects.table import LARGEST_DOCUMENT, Project, Request, Summary

LARGEST_BODY = LARGEST_DOCUMENT
ENTITY_TAG = re.compile(r'"(\d{1,12})"')

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="The `ETag` of the version that this is made for; `*` is any version.",
    ),
]


class ProjectRequest(Document):
    """A project's document: its title, its timeline, the variables that it declares, what it is rendered to."""


class ProjectSummary(BaseModel):
    """A project in a list. `duration_s` is null while a variable without a default keeps it open."""

    id: str
    title: str
    version: int
    clips: int
    duration_s: float | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, summary: Summary) -> "ProjectSummary":
        return cls(**{name: getattr(summary, name) for name in ProjectSummary.model_fields})


class ProjectView(ProjectSummary):
    """A version of a project. Fields of the document that say what is the default anyway are left out.
    `missing_assets` are named by it and were deleted; their clips cannot be rendered."""

    model_config = ConfigDict(title="Project")

    timeline: Annotated[dict[str, Any], Field(description="As it was saved; every clip has an id.")]
    variables: dict[str, dict[str, Any]]
    output: dict[str, Any]
    missing_assets: list[str]

    @classmethod
    def of_project(cls, project: Project) -> "ProjectView":
        summary = {name: getattr(project.summary, name) for name in ProjectSummary.model_fields}
        parts = {name: project.document.get(name, {}) for name in ("timeline", "variables", "output")}
        return cls(**summary, **parts, missing_assets=edit.missing(project))


def answer(project: Project, *, status: int = 200, replayed: bool = False) -> Response[ProjectView]:
    """A project with its version as `ETag`."""
    headers = {"etag": f'"{project.version}"', **({"idempotency-replayed": "true"} if replayed else {})}
    body = ProjectView.of_project(project)
    return Response(status, content_type="application/json", body=body, headers=headers)


def request(operation: str, key: str | None, body: Any = None) -> Request:
    """The request that is being answered, for whoever is to know it again."""
    caller = web.caller()
    return Request(caller.account, caller.actor, operation, key, body, now())


def wanted(if_match: str | None) -> set[int] | None:
    """The versions that an If-Match (RFC 9110, 13.1.1) names; None is any. A tag that is none of ours, or a weak one,
    names nothing. Raises PreconditionRequired where there is none."""
    if if_match is None:
        raise PreconditionRequired("Say with If-Match which version this is made for.")
    if if_match.strip() == "*":
        return None
    tags = (ENTITY_TAG.fullmatch(tag.strip()) for tag in if_match.split(","))
    return {int(tag[1]) for tag in tags if tag}
