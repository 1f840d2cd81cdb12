"""What the projects' functions refuse before they look at anything that is kept."""

from typing import Any

import pytest

from api import project_operations, projects
from shared.core.errors import PreconditionRequired
from shared.projects import view
from tests.unit.helpers import Context, Json, Loopback, event, problem, token

PROJECT = "pr_01k6fe8z40h2v9m7q3x5c8b1d4"


def refused(module: Any, method: str, path: str, body: Any = None, **headers: str) -> Json:
    answer = module.handler(event(method, path, body=body, token=token(), headers=headers), Context())
    return problem(answer)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/title"]),
        ({"title": ""}, ["/title"]),
        ({"title": "t", "timline": {}}, ["/timline"]),
        (
            {"title": "t", "timeline": {"tracks": [{"type": "video", "clips": [{"asset": "as_1", "out": "4"}]}]}},
            ["/timeline/tracks/0/clips/0/out"],
        ),
        ({"title": "t", "timeline": {"tracks": [{"type": "text", "clips": [{}]}]}}, [
            f"/timeline/tracks/0/clips/0/{name}" for name in ("text", "start", "duration")
        ]),
        ({"title": "t", "timeline": {"tracks": [{"type": "midi"}]}}, ["/timeline/tracks/0"]),
        ({"title": "t", "timeline": {"captions": {}}}, ["/timeline/captions"]),
    ],
)  # fmt: skip
def test_a_flaw_of_a_project_has_a_pointer_into_the_document(cloud: Loopback, body: Json, pointers: list[str]) -> None:
    document = refused(projects, "POST", "/v1/projects", body)

    assert (document["status"], [flaw["pointer"] for flaw in document["errors"]]) == (422, pointers)


def test_a_flaw_of_an_operation_has_a_pointer_into_the_request(cloud: Loopback) -> None:
    body = {"operations": [{"type": "split", "clip": "c1", "at": 1}, {"type": "split", "clip": "c1"}]}

    document = refused(project_operations, "POST", f"/v1/projects/{PROJECT}/operations", body)

    assert [flaw["pointer"] for flaw in document["errors"]] == ["/operations/1/at"]


@pytest.mark.parametrize(("method", "body"), [("PUT", {"title": "t"}), ("DELETE", None)])
def test_a_change_that_does_not_say_of_which_version_is_refused(
    cloud: Loopback, method: str, body: Json | None
) -> None:
    document = refused(projects, method, f"/v1/projects/{PROJECT}", body)

    assert (document["status"], document["code"]) == (428, "if_match_required")
    assert cloud.asked == ["secretsmanager.GetSecretValue"]


def test_a_project_may_be_larger_than_other_bodies_but_not_any_size(cloud: Loopback) -> None:
    texts = [{"text": "x" * 4000, "start": number, "duration": "x"} for number in range(100)]
    body = {"title": "t", "timeline": {"tracks": [{"type": "text", "clips": texts}]}}

    assert refused(projects, "POST", "/v1/projects", body)["code"] == "invalid_request"
    assert refused(projects, "POST", "/v1/projects", {"title": "x" * view.LARGEST_BODY})["code"] == "payload_too_large"


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        ('"7"', {7}),
        ('"7", "9"', {7, 9}),
        ("*", None),
        ('W/"7"', set()),
        ("7", set()),
        ('"x"', set()),
        ("", set()),
    ],
)
def test_if_match_names_the_versions_that_a_change_is_for(header: str, versions: set[int] | None) -> None:
    assert view.wanted(header) == versions


def test_no_if_match_is_not_any_version() -> None:
    with pytest.raises(PreconditionRequired):
        view.wanted(None)
