"""Projects in the files of other programs, and back, over HTTP: what is carried is the same, the rest is named."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import opentimelineio as otio
import pytest
from opentimelineio.opentime import RationalTime, TimeRange

from local.cloud import Stack
from tests.e2e.helpers import check_problem, pointers
from tests.e2e.listening import SRT, film
from tests.e2e.uploading import uploaded
from tests.support import Json, Studio


class Desk:
    """An account with a film of nine seconds and its captions."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.film = str(uploaded(studio, film(), "video/mp4", "harbour.mp4")["asset"]["id"])
        self.captions = str(uploaded(studio, SRT.encode(), "application/x-subrip")["asset"]["id"])

    def imported(self, told: str, content: Json, media: dict[str, str] | None = None, **more: Any) -> Json:
        body = {"format": told, "content": content, "media": media or {}, **more}
        answer = self.studio.http.post("/projects/import", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def made(self, document: Json) -> Json:
        answer = self.studio.http.post("/projects", json=document)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def file(self, project: Json, name: str, **query: str) -> httpx.Response:
        return self.studio.http.get(f"/projects/{project['id']}/{name}", params=query)


@pytest.fixture(scope="module")
def desk(stack: Stack) -> Iterator[Desk]:
    studio = Studio(stack, f"interchange-{uuid4().hex[:12]}")
    yield Desk(studio)
    studio.close()


def full(desk: Desk) -> Json:
    """A document with something of everything."""
    clips = [
        {"id": "c1", "asset": desk.film, "in": 1.5, "out": 6, "transition": {"type": "crossfade", "duration": 0.5}},
        {"id": "c2", "asset": desk.film, "in": 2, "out": 8.5, "speed": 1.3, "fit": "blur", "volume": 0.4},
        {"id": "c3", "gap": True, "duration": 0.4},
        {"id": "c4", "color": "#ff000080", "duration": "{{long}}"},
        {"id": "c5", "asset": "{{clip}}", "in": 0.1, "out": 0.2},
    ]
    overlay = {"id": "o1", "asset": desk.film, "start": 1.25, "duration": 4, "opacity": 0.6}
    texts = [
        {"id": "t1", "text": "Hello, {{who}}: 港 שלום", "start": 1, "duration": 2, "style": {"size": 60}},
    ]
    voice = {"id": "a1", "asset": desk.film, "start": 7.123456789, "in": 1, "out": 5, "speed": 0.7}
    return {
        "title": "Harbour: 港",
        "variables": {"who": {"type": "text", "default": "Ada"}, "clip": {"type": "asset"},
                      "long": {"type": "number", "default": 2.5}},
        "output": {"format": "webm", "width": 1280, "height": 720},
        "timeline": {
            "fps": "30000/1001",
            "tracks": [
                {"type": "video", "clips": clips},
                {"type": "overlay", "clips": [overlay]},
                {"type": "text", "clips": texts},
                {"type": "audio", "role": "voice", "clips": [voice]},
            ],
            "captions": {"asset": desk.captions, "burn_in": True},
        },
    }  # fmt: skip


def test_what_is_exported_is_imported_as_it_was(desk: Desk) -> None:
    before = desk.made(full(desk))

    answer = desk.file(before, "export.otio")
    after = desk.imported("otio", json.loads(answer.text))

    assert answer.headers["content-type"] == "application/vnd.pixar.opentimelineio+json"
    assert answer.headers["content-disposition"] == f'attachment; filename="{before["id"]}.otio"'
    same = ("title", "timeline", "variables", "output", "duration_s", "clips")
    assert {name: after["project"][name] for name in same} == {name: before[name] for name in same}
    assert (after["not_carried"], after["missing"]) == ([], {})
    assert after["project"]["id"] != before["id"]


def test_other_programs_find_the_clips_and_are_told_what_they_do_not_see(desk: Desk) -> None:
    read = otio.adapters.read_from_string(desk.file(desk.made(full(desk)), "export.otio").text, "otio_json")

    assert isinstance(read, otio.schema.Timeline)
    clips = list(read.video_tracks()[0].find_clips())
    assert [clip.media_reference.target_url for clip in clips[:2]] == ["harbour.mp4", "harbour.mp4"]
    told = {one["where"] for one in read.metadata["atelier"]["only_here"]}
    assert {"/output", "/variables", "/timeline/captions"} <= told


# The kinds of samples that the OTIO project has


def at(seconds: float, length: float) -> TimeRange:
    return TimeRange(RationalTime(round(seconds * 24), 24), RationalTime(round(length * 24), 24))


def shot(name: str, seconds: float, length: float, **more: Any) -> otio.schema.Clip:
    media = otio.schema.ExternalReference(f"file:///footage/{name}", available_range=at(0, 9))
    return otio.schema.Clip(name=name, media_reference=media, source_range=at(seconds, length), **more)


def single_track() -> list[Any]:
    return [shot("harbour.mov", 0, 2), shot("harbour.mov", 3, 1.5), shot("gulls.mov", 0, 1)]


def gaps() -> list[Any]:
    return [shot("harbour.mov", 0, 2), otio.schema.Gap(source_range=at(0, 1)), shot("harbour.mov", 4, 1)]


def transitions() -> list[Any]:
    half = RationalTime(6, 24)
    dissolve = otio.schema.Transition(transition_type="SMPTE_Dissolve", in_offset=half, out_offset=half)
    return [shot("harbour.mov", 1, 2), dissolve, shot("harbour.mov", 5, 2)]


def nested_stacks() -> list[Any]:
    below = otio.schema.Track(children=[shot("harbour.mov", 0, 2)])
    above = otio.schema.Track(children=[otio.schema.Gap(source_range=at(0, 0.5)), shot("harbour.mov", 4, 1)])
    return [shot("harbour.mov", 6, 1), otio.schema.Stack(children=[below, above]), shot("harbour.mov", 7, 1)]


def speeds() -> list[Any]:
    twice = otio.schema.LinearTimeWarp(time_scalar=2.0)
    backward = otio.schema.LinearTimeWarp(time_scalar=-1.0)
    frozen = otio.schema.FreezeFrame()
    return [shot("harbour.mov", 2, 2, effects=[effect]) for effect in (twice, backward, frozen)]


@pytest.mark.parametrize(
    ("sample", "lasts", "tracks", "not_carried", "missing"),
    [
        (single_track, 4.5, ["video"], [("2", "media that are not known: a variable stands for each")],
         {"media_1": "file:///footage/gulls.mov"}),
        (gaps, 4, ["video"], [], {}),
        (transitions, 4, ["video"], [], {}),
        (nested_stacks, 4, ["video", "overlay"], [], {}),
        (speeds, 6, ["video"], [("1", "the speed -1: it plays at its own speed"),
                                ("2", "a frozen frame: it plays at its own speed")], {}),
    ],
)  # fmt: skip
def test_the_kinds_of_otio_samples_are_read_and_what_they_cannot_show_is_named(
    desk: Desk,
    sample: Callable[[], list[Any]],
    lasts: float,
    tracks: list[str],
    not_carried: list[tuple[str, str]],
    missing: Json,
) -> None:
    line = otio.schema.Timeline("sample")
    line.tracks.append(otio.schema.Track(children=sample(), kind="Video"))
    content = json.loads(otio.adapters.write_to_string(line, "otio_json"))

    found = desk.imported("otio", content, {"file:///footage/harbour.mov": desk.film})

    project = found["project"]
    assert project["duration_s"] == pytest.approx(lasts, abs=0.001)
    assert [track["type"] for track in project["timeline"]["tracks"]] == tracks
    assert found["missing"] == missing
    names, *others = [(one["where"], one["what"]) for one in found["not_carried"]]
    assert names == ("/tracks/children/0/children/0", "names of clips")
    assert others == [(f"/tracks/children/0/children/{number}", what) for number, what in not_carried]
    again = desk.imported("otio", json.loads(desk.file(project, "export.otio").text))
    assert again["project"]["timeline"] == project["timeline"]


def test_an_edit_of_shotstack_is_a_project_and_what_it_cannot_show_is_named(desk: Desk) -> None:
    url = "https://media.example/harbour.mp4"
    page = {"asset": {"type": "html", "html": "<p>x</p>"}, "start": 1, "length": 2}
    title = {"asset": {"type": "title", "text": "Hello {{ NAME }}"}, "start": 0, "length": 2}
    shown = {"asset": {"type": "video", "src": url, "trim": 1.5}, "start": 0, "length": 3, "transition": {"in": "fade"}}
    edit = {
        "timeline": {"tracks": [{"clips": [title]}, {"clips": [page]}, {"clips": [shown]}]},
        "output": {"format": "mp4", "resolution": "hd"},
        "merge": [{"find": "NAME", "replace": "Ada"}],
    }

    found = desk.imported("shotstack", edit, {url: desk.film}, title="Mine")

    project = found["project"]
    assert (project["title"], project["duration_s"], found["missing"]) == ("Mine", 3, {})
    (one,) = project["timeline"]["tracks"][0]["clips"]
    assert (one["asset"], one["in"], one["out"]) == (desk.film, 1.5, 4.5)
    assert project["variables"]["NAME"]["default"] == "Ada"
    assert [note["where"] for note in found["not_carried"] if "html" in note["what"].lower()] == [
        "/timeline/tracks/1/clips/0/asset"
    ]


def test_a_repeated_import_makes_one_project(desk: Desk) -> None:
    body = {"format": "shotstack", "content": {"timeline": {"tracks": []}, "output": {"format": "mp4"}}}
    once = {"idempotency-key": uuid4().hex}

    first = desk.studio.http.post("/projects/import", json=body, headers=once)
    again = desk.studio.http.post("/projects/import", json=body, headers=once)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()


# Captions


def test_captions_come_as_they_are_shown_now(desk: Desk) -> None:
    clips = [{"id": "c1", "asset": desk.film, "out": 9}]
    captions = {"asset": desk.captions}
    project = desk.made(
        {"title": "x", "timeline": {"tracks": [{"type": "video", "clips": clips}], "captions": captions}}
    )
    cut = {"operations": [{"type": "ripple-delete", "start": 3, "end": 4.5}]}
    assert desk.studio.http.post(f"/projects/{project['id']}/operations", json=cut).status_code == 200

    srt, vtt = desk.file(project, "captions"), desk.file(project, "captions", format="vtt")

    assert srt.headers["content-type"] == "application/x-subrip; charset=utf-8"
    assert srt.headers["content-disposition"] == f'attachment; filename="{project["id"]}.srt"'
    assert "00:00:01,000 --> 00:00:02,000\nWaves roll in." in srt.text
    assert "00:00:03,500 --> 00:00:05,000\nGulls." in srt.text
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert vtt.text.startswith("WEBVTT\n")
    assert "00:00:03.500 --> 00:00:05.000\nGulls." in vtt.text


def test_captions_of_the_timeline_are_escaped_and_those_of_none_are_404(desk: Desk) -> None:
    cues = [{"text": "a < b & c --> d", "start": 1, "end": 2}]
    told = desk.made({"title": "x", "timeline": {"captions": {"cues": cues}}})
    silent = desk.made({"title": "x", "timeline": {}})

    assert "a &lt; b &amp; c --&gt; d" in desk.file(told, "captions", format="vtt").text
    check_problem(desk.file(silent, "captions"), 404, "not_found")
    assert pointers(desk.file(told, "captions", format="ass")) == {"?format"}


# Refused


def nested(levels: int) -> Json:
    inner: Json = {"OTIO_SCHEMA": "Stack.1", "children": []}
    for _ in range(levels):
        inner = {"OTIO_SCHEMA": "Stack.1", "children": [inner]}
    return {"OTIO_SCHEMA": "Timeline.1", "tracks": inner}


@pytest.mark.parametrize(
    "content",
    [
        nested(300),
        {"OTIO_SCHEMA": "Timeline.1", "tracks": {"OTIO_SCHEMA": "Stack.1", "children": [{}] * 60_000}},
        {"OTIO_SCHEMA": "Timeline.1", "tracks": {"OTIO_SCHEMA": "Gap.1"}},
        {"OTIO_SCHEMA": "Nonsense.1"},
        {"OTIO_SCHEMA": 7},
        {"OTIO_SCHEMA": "Timeline.1", "tracks": {"OTIO_SCHEMA": "SerializableObjectRef.1", "id": "x"}},
        {},
    ],
    ids=["deep", "endless", "no stack", "no schema", "a number", "a reference", "nothing"],
)
def test_a_file_that_is_no_timeline_is_refused_with_the_reason(desk: Desk, content: Json) -> None:
    answer = desk.studio.http.post("/projects/import", json={"format": "otio", "content": content})

    assert pointers(answer) == {"/content"}


def test_what_is_no_json_or_nested_absurdly_or_too_large_is_refused_before_it_is_read(desk: Desk) -> None:
    def sent(body: bytes) -> httpx.Response:
        return desk.studio.http.post("/projects/import", content=body, headers={"content-type": "application/json"})

    check_problem(sent(b'{"format": "otio", "content": {'), 400, "malformed_json")
    deep = b'{"format": "otio", "content": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
    check_problem(sent(deep), 400, "malformed_json")
    check_problem(sent(b'{"format": "otio", "content": "' + b"x" * 2_200_000 + b'"}'), 413, "payload_too_large")
    assert pointers(sent(b'{"format": "otio", "content": []}')) == {"/content"}


def test_another_account_reads_no_file_of_a_project_and_cannot_use_its_assets(
    desk: Desk, new_studio: Callable[..., Studio]
) -> None:
    project, other = desk.made(full(desk)), new_studio()

    for name in ("export.otio", "captions"):
        for of in (project["id"], "pr_" + "0" * 26):
            check_problem(other.http.get(f"/projects/{of}/{name}"), 404, "not_found")
    edit = {"timeline": {"tracks": [{"clips": [
        {"asset": {"type": "video", "src": "https://x/a.mp4"}, "start": 0, "length": 3}]}]},
        "output": {"format": "mp4"}}  # fmt: skip
    body = {"format": "shotstack", "content": edit, "media": {"https://x/a.mp4": desk.film}}
    answer = other.http.post("/projects/import", json=body)
    assert [flaw["detail"] for flaw in check_problem(answer, 422, "invalid_request")["errors"]]
    assert other.http.get("/projects").json()["items"] == []
