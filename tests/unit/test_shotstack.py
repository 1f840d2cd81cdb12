"""Shotstack's JSON: an edit becomes a document that shows the same, and what it cannot show is named with its place."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.editor import check, timeline
from shared.editor.interchange import shotstack
from shared.editor.interchange.imported import Imported, NotImportable
from shared.editor.timeline import written

MEDIA = {
    f"https://media.example/{name}": f"as_{name.partition('.')[0]}" for name in ("a.mp4", "b.mp4", "logo.png", "m.mp3")
}


def source(name: str, kind: str = "video", **more: Any) -> dict[str, Any]:
    return {"type": kind, "src": f"https://media.example/{name}", **more}


def clip(asset: dict[str, Any], start: Any = 0, length: Any = 2, **more: Any) -> dict[str, Any]:
    return {"asset": asset, "start": start, "length": length, **more}


def imported(*tracks: list[dict[str, Any]], output: dict[str, Any] | None = None, **more: Any) -> Imported:
    edit = {
        "timeline": {"tracks": [{"clips": clips} for clips in tracks], **more},
        "output": output or {"format": "mp4", "resolution": "hd"},
    }
    return shotstack.read(edit, MEDIA)


def tracks(found: Imported) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = written(found.document)["timeline"]["tracks"]
    for track in made:
        for one in track["clips"]:
            del one["id"]
    return made


def lost(found: Imported) -> dict[str, str]:
    return {note.what: note.where for note in found.lost}


def test_tracks_are_turned_round_and_the_lowest_pictures_are_the_video_track() -> None:
    found = imported(
        [clip({"type": "title", "text": "Hello"}, 1, 2)],
        [clip(source("logo.png", "image"), 0, 4, fit="contain")],
        [clip(source("a.mp4", trim=1.5), 0, 3), clip(source("b.mp4", volume=0.5), 4, 2)],
        [clip(source("m.mp3", "audio"), 0.5, 5)],
    )

    assert tracks(found) == [
        {"type": "audio", "clips": [{"asset": "as_m", "start": 0.5, "out": 5.0}]},
        {
            "type": "video",
            "clips": [
                {"asset": "as_a", "in": 1.5, "out": 4.5, "fit": "cover"},
                {"gap": True, "duration": 1.0},
                {"asset": "as_b", "out": 2.0, "volume": 0.5, "fit": "cover"},
            ],
        },
        {"type": "overlay", "clips": [{"asset": "as_logo", "start": 0.0, "duration": 4.0}]},
        {"type": "text", "clips": [{"text": "Hello", "start": 1.0, "duration": 2.0}]},
    ]
    assert found.lost == ()


def test_output_has_its_size_shape_and_rate() -> None:
    def output(**told: Any) -> dict[str, Any]:
        document = written(imported([clip(source("a.mp4"))], output={"format": "mp4", **told}).document)
        return {**document.get("output", {}), "rate": document["timeline"].get("fps", 30)}

    assert output(resolution="hd") == {"width": 1280, "height": 720, "rate": 25}
    assert output(resolution="1080", aspectRatio="9:16", fps=29.97) == {"width": 1080, "height": 1920, "rate": 29.97}
    assert output(resolution="sd", aspectRatio="1:1") == {"width": 576, "height": 576, "rate": 25}
    assert output(size={"width": 640, "height": 640}) == {"width": 640, "height": 640, "rate": 25}
    assert output(resolution="preview") == {"width": 512, "height": 288, "rate": 15}


def test_looks_have_the_words_of_ours() -> None:
    found = imported(
        [
            clip(
                source("logo.png", "image"),
                scale=0.25,
                position="bottomRight",
                offset={"x": -0.05, "y": 0.1},
                opacity=0.5,
            )
        ],
        [
            clip(
                source("a.mp4", speed=2),
                effect="zoomIn",
                filter="greyscale",
                transition={"in": "fade", "out": "fadeFast"},
            )
        ],
    )

    video, overlay = tracks(found)
    assert video["clips"] == [
        {"asset": "as_a", "out": 4.0, "speed": 2.0, "fit": "cover", "effect": "zoom_in", "fade_in": 1.0,
         "fade_out": 0.5, "filters": [{"type": "grayscale"}]}
    ]  # fmt: skip
    (logo,) = overlay["clips"]
    assert (logo["scale"], logo["opacity"]) == (0.25, 0.5)
    assert logo["position"] == pytest.approx({"x": 0.65, "y": 0.55})
    assert lost(found) == {
        "positions at an edge: as if the picture had the shape of the frame": "/timeline/tracks/0/clips/0/position"
    }


def test_what_overlaps_on_a_track_comes_on_two() -> None:
    found = imported([clip(source("a.mp4"), 0, 3), clip(source("b.mp4"), 2, 3), clip(source("a.mp4"), 3, 1)])

    assert [(track["type"], [one["asset"] for one in track["clips"]]) for track in tracks(found)] == [
        ("video", ["as_a", "as_a"]),
        ("overlay", ["as_b"]),
    ]


def test_automatic_starts_and_lengths_follow_from_what_is_known() -> None:
    edit = {
        "timeline": {
            "tracks": [
                {"clips": [clip(source("logo.png", "image"), 1, "end")]},
                {"clips": [clip(source("a.mp4", trim=2), "auto", "auto"), clip(source("b.mp4"), "auto", 4)]},
            ]
        }
    }

    found = shotstack.read(edit, MEDIA, {"as_a": 7.5})

    video, overlay = tracks(found)
    assert [(one.get("in", 0), one["out"]) for one in video["clips"]] == [(2, 7.5), (0, 4)]
    assert overlay["clips"][0]["duration"] == 8.5
    assert lost(shotstack.read(edit, MEDIA)) == {
        "automatic lengths that are not known: 3 s": "/timeline/tracks/1/clips/0/length"
    }


def test_a_soundtrack_lies_under_everything() -> None:
    found = imported(
        [clip(source("a.mp4"), 0, 10)], soundtrack={**source("m.mp3"), "effect": "fadeInFadeOut", "volume": 0.3}
    )

    assert tracks(found)[1] == {
        "type": "audio",
        "role": "music",
        "clips": [{"asset": "as_m", "start": 0.0, "duration": 10.0, "volume": 0.3, "fade_in": 2.0, "fade_out": 2.0}],
    }


def test_captions_are_those_of_the_timeline() -> None:
    found = shotstack.read(
        {
            "timeline": {
                "tracks": [
                    {"clips": [clip({"type": "caption", "src": "c.srt"}, 0, 2)]},
                    {"clips": [clip(source("a.mp4"))]},
                ]
            }
        },
        {**MEDIA, "c.srt": "as_c"},
    )

    assert found.document.timeline.captions == timeline.Captions(asset="as_c")


def test_merge_fields_are_variables_in_texts_and_put_in_elsewhere() -> None:
    edit = {
        "timeline": {"tracks": [
            {"clips": [clip({"type": "title", "text": "Hello {{ NAME }} of {{TOWN}}"}, 0, "{{ LONG }}")]},
            {"clips": [clip({"type": "video", "src": "https://media.example/{{ FILE }}.mp4"})]}]},
        "merge": [{"find": name, "replace": value} for name, value in (("NAME", "Ada"), ("LONG", 1.5), ("FILE", "a"))],
    }  # fmt: skip

    found = shotstack.read(edit, MEDIA)

    video, text = tracks(found)
    assert (video["clips"][0]["asset"], text["clips"][0]["duration"]) == ("as_a", 1.5)
    assert text["clips"][0]["text"] == "Hello {{ NAME }} of {{TOWN}}"
    assert {name: one.default for name, one in found.document.variables.items()} == {"NAME": "Ada", "TOWN": None}


def test_media_that_are_not_known_are_a_variable_each() -> None:
    found = imported([clip(source("x.mp4"), 0, 2), clip(source("x.mp4"), 2, 2)])

    assert [one["asset"] for one in tracks(found)[0]["clips"]] == ["{{media_1}}", "{{media_1}}"]
    assert found.missing == {"media_1": "https://media.example/x.mp4"}


def test_whatever_has_no_counterpart_is_named_with_its_place() -> None:
    found = imported(
        [
            clip({"type": "html", "html": "<b>x</b>"}),
            clip(
                {"type": "title", "text": "x", "background": "#000000", "font": {"family": "Arial", "weight": 700}}, 2
            ),
        ],
        [
            clip(
                source("a.mp4", volumeEffect="fadeIn", chromaKey={"color": "#00ff00"}),
                fit="none",
                effect="slideLeftSlow",
                filter="negative",
                opacity=[{"from": 0, "to": 1}],
                transition={"in": "wipeLeft"},
                transform={"rotate": {"angle": 45}},
            )
        ],
        fonts=[{"src": "x.ttf"}],
        output={"format": "jpg", "quality": "high", "destinations": []},
    )

    assert lost(found) == {
        "clips of the type html: left out": "/timeline/tracks/0/clips/0/asset",
        "weight: left out": "/timeline/tracks/0/clips/1/asset/font/weight",
        "background: left out": "/timeline/tracks/0/clips/1/asset/background",
        "volumeEffect: left out": "/timeline/tracks/1/clips/0/asset/volumeEffect",
        "chromaKey: left out": "/timeline/tracks/1/clips/0/asset/chromaKey",
        "the fit none: contain instead": "/timeline/tracks/1/clips/0/fit",
        "the pace of effects": "/timeline/tracks/1/clips/0/effect",
        "the filter negative": "/timeline/tracks/1/clips/0/filter",
        "opacity that changes: 1 throughout": "/timeline/tracks/1/clips/0/opacity",
        "the transition wipeLeft: a fade instead": "/timeline/tracks/1/clips/0/transition/in",
        "transform: left out": "/timeline/tracks/1/clips/0/transform",
        "fonts: left out": "/timeline/fonts",
        "the format jpg: mp4 instead": "/output/format",
        "quality: left out": "/output/quality",
        "destinations: left out": "/output/destinations",
    }


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (None, "^: "),
        ({}, "^/timeline: "),
        ({"timeline": {}}, "^/timeline/tracks: "),
        ({"timeline": {"tracks": [{"clips": [{"start": 0}]}]}}, "^/timeline/tracks/0/clips/0/asset: "),
        ({"timeline": {"tracks": [{"clips": [clip({}, 0, 1)]}]}}, "^/timeline/tracks/0/clips/0/asset/type: "),
        ({"timeline": {"tracks": [{"clips": [clip(source("a.mp4"), -1, 1)]}]}}, "^/timeline/tracks/0/clips/0/start"),
        ({"timeline": {"tracks": [{"clips": [clip(source("a.mp4"), 0, float("inf"))]}]}}, "clips/0/length"),
        ({"timeline": {"tracks": [{"clips": [clip(source("a.mp4"))] * 5001}]}}, "more than 5,000 clips"),
    ],
)
def test_what_is_no_edit_is_refused_with_the_place(edit: Any, why: str) -> None:
    with pytest.raises(NotImportable, match=why):
        shotstack.read(edit)


def test_what_is_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"x": deep}

    with pytest.raises(NotImportable, match="nested more than 50 deep"):
        shotstack.read({"timeline": {"tracks": []}, "x": deep})


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.floats(-2, 9)
    | st.sampled_from(["auto", "end", "fade", "x", "{{ A }}", ""]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y", "in", "out", "src", "font"]), inner)
    ),
    max_leaves=4,
)
NAMES = ["start", "length", "fit", "scale", "position", "offset", "transition", "effect", "filter", "opacity"]
CLIPS = st.builds(
    lambda asset, more: {"asset": asset, **more},
    st.fixed_dictionaries(
        {"type": st.sampled_from(["video", "image", "audio", "title", "caption", "luma"])},
        optional=dict.fromkeys(("src", "text", "trim", "speed", "volume", "font", "size", "color"), ANY),
    ),
    st.dictionaries(st.sampled_from(NAMES), ANY),
)


@given(
    st.lists(st.lists(CLIPS, max_size=3), max_size=3), st.dictionaries(st.sampled_from(["format", "size", "fps"]), ANY)
)
def test_any_edit_is_a_document_or_refused(layers: list[list[dict[str, Any]]], output: dict[str, Any]) -> None:
    edit = {"timeline": {"tracks": [{"clips": clips} for clips in layers]}, "output": output}

    try:
        found = shotstack.read(edit, MEDIA)
    except (NotImportable, check.Flawed):
        return
    assert list(check.flaws(found.document)) == []
