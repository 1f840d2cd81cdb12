"""Import of projects: what is refused before anything is kept, with the place in the file."""

from typing import Any

import pytest

from api import export_project, import_project
from tests.unit.helpers import Context, Json, Loopback, event, problem, token


def refused(body: Any) -> Json:
    return problem(import_project.handler(event("POST", "/v1/projects/import", body=body, token=token()), Context()))


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"format": "edl", "content": {}}, "/format", "Input should be 'otio' or 'shotstack'"),
        ({"format": "otio", "content": "x"}, "/content", "Input should be a valid dictionary"),
        ({"format": "otio", "content": {}, "media": {"a.mov": "mine"}}, "/media/a.mov", "must be the id of an asset"),
        ({"format": "otio", "content": {"OTIO_SCHEMA": "Nonsense.1"}}, "/content", "a UnknownSchema is no timeline"),
        (
            {"format": "otio", "content": {"OTIO_SCHEMA": "Transition.1"}},
            "/content",
            "this is no OpenTimelineIO: While reading object named '<unknown>': in_offset (near line 1)",
        ),
        ({"format": "shotstack", "content": {}}, "/content", "/timeline: Field required"),
        (
            {"format": "shotstack", "content": {"timeline": {"tracks": [{"clips": [{}]}]}}},
            "/content",
            "/timeline/tracks/0/clips/0/asset: Field required",
        ),
        (
            {"format": "shotstack", "content": {"timeline": {"tracks": [], "background": "red"}}},
            "/content",
            "what it makes has a flaw at /timeline/background: must be a colour such as #1e90ff or #1e90ff80",
        ),
    ],
)
def test_a_file_that_makes_no_project_is_refused_with_the_place(
    cloud: Loopback, body: Json, pointer: str, detail: str
) -> None:
    document = refused(body)

    assert document["status"] == 422
    assert [(flaw["pointer"], flaw["detail"].removeprefix("Value error, ")) for flaw in document["errors"]] == [
        (pointer, detail)
    ]


def test_captions_are_exported_in_two_formats_and_no_other(cloud: Loopback) -> None:
    path = "/v1/projects/pr_01k6fe8z40h2v9m7q3x5c8b1d4/captions"
    answer = export_project.handler(event("GET", path, token=token(), query={"format": "ass"}), Context())

    assert problem(answer)["errors"][0]["pointer"] == "?format"
