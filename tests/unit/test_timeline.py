"""The timeline document: what it takes, what it refuses and where, what its assets must give, and its variables."""

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.editor import check, templates, timeline
from shared.editor.check import Facts, Flaw, Flawed
from shared.editor.timeline import Document

Json = dict[str, Any]


def raw(*tracks: Json, variables: Json | None = None, **line: Any) -> Json:
    return {"title": "t", "timeline": {"tracks": list(tracks), **line}, "variables": variables or {}}


def video(*clips: Any) -> Json:
    return {"type": "video", "clips": list(clips)}


def flaws(document: Json, facts: dict[str, Facts] | None = None) -> list[tuple[str, str]]:
    """Where and what, for a document that has flaws."""
    with pytest.raises(Flawed) as flawed:
        parsed = check.parse(document)
        if facts is None:
            check.read(document)
        else:
            check.checked(parsed, facts)
    return [(flaw.pointer, flaw.detail) for flaw in flawed.value.flaws]


EXAMPLE: Json = {
    "title": "Harbour",
    "timeline": {
        "fps": 30,
        "background": "#000000",
        "tracks": [
            {
                "type": "video",
                "clips": [
                    {
                        "id": "c1",
                        "asset": "as_a",
                        "in": 1.5,
                        "out": 6.0,
                        "speed": 1.0,
                        "fit": "blur",
                        "position": {"x": 0, "y": 0},
                        "crop": None,
                        "filters": [{"type": "eq", "brightness": 0.1}],
                        "fade_out": 0.5,
                        "transition": {"type": "wipeleft", "duration": 0.5},
                    },
                    {"id": "c2", "asset": "as_image", "duration": 3.0, "effect": "zoom_in"},
                ],
            },
            {"type": "overlay", "clips": [{"asset": "as_image", "start": 0, "duration": 5, "opacity": 0.6}]},
            {"type": "text", "clips": [{"text": "Hello", "start": 1, "duration": 2, "style": {"size": 64}}]},
            {"type": "audio", "role": "music", "clips": [{"asset": "as_song", "start": 0, "in": 0, "out": 7}]},
        ],
        "captions": {"asset": "as_srt", "burn_in": True, "style": {"color": "#ffffff"}},
        "duck": {"music under voice": {"threshold": 0.05, "ratio": 8}},
        "loudness": {"i": -16, "tp": -1.5, "lra": 11},
        "silence": {"threshold_db": -35, "min_duration": 0.6, "margin": 0.15},
        "watermark": {"asset": "as_image", "position": "bottom-right", "opacity": 0.5},
    },
    "output": {"format": "mp4", "preset": "high", "range": {"start": 0, "end": 7}, "poster": 2.0},
}
FACTS = {
    "as_a": Facts("video", 8.0),
    "as_image": Facts("image"),
    "as_song": Facts("audio", 60.0),
    "as_srt": Facts("captions"),
}


def test_the_example_of_the_contract_is_in_order() -> None:
    document = check.checked(check.parse(EXAMPLE), FACTS)

    assert timeline.duration(document.timeline, {}) == 7
    assert check.assets(document).keys() == FACTS.keys()


def test_a_document_that_was_written_reads_the_same() -> None:
    document = check.parse(EXAMPLE)

    assert check.parse(json.loads(json.dumps(timeline.written(document)))) == document


def test_shotstacks_words_are_taken() -> None:
    document = check.read(raw(video({"asset": "as_a", "trim": 1.5, "length": 2})))

    assert timeline.written(document)["timeline"]["tracks"][0]["clips"] == [
        {"id": "c1", "asset": "as_a", "in": 1.5, "duration": 2}
    ]


def test_every_clip_gets_an_id_that_no_other_has() -> None:
    gap = {"gap": True, "duration": 1}

    document = check.read(raw(video(gap, {**gap, "id": "c1"}, gap)))

    assert [clip.id for _, clip in timeline.clips(document.timeline)] == ["c2", "c1", "c3"]


@pytest.mark.parametrize(
    ("clip", "where", "detail"),
    [
        ({"asset": "as_a", "in": 2, "out": 1}, "/out", "not after in, 2 s"),
        ({"asset": "as_a", "in": -1, "out": 1}, "/in", "must not be negative"),
        ({"asset": "as_a", "out": "3"}, "/out", "must be a number"),
        ({"asset": "as_a", "out": True}, "/out", "must be a number"),
        ({"asset": "as_a", "out": 1e9}, "/out", "must lie between -86400 and 86400"),
        ({"asset": "../x", "out": 1}, "/asset", "must be the id of an asset"),
        ({"asset": "as_a"}, "", "needs out or duration"),
        ({"asset": "as_a", "out": 1, "duration": 1}, "/duration", "has out already; one of the two"),
        ({"gap": True, "asset": "as_a", "duration": 1}, "", "needs one of asset, color and gap"),
        ({"gap": True, "duration": 1, "in": 1}, "", "a gap has a duration, and neither in nor out"),
        ({"asset": "as_a", "duration": 0.01}, "", "shorter than a frame, 0.033 s"),
        ({"asset": "as_a", "out": 1, "sped": 2}, "/sped", "Extra inputs are not permitted"),
        ({"asset": "as_a", "out": 1, "speed": float("nan")}, "/speed", "Input should be a finite number"),
        ({"color": "red", "duration": 1}, "/color", "must be a colour such as #1e90ff or #1e90ff80"),
    ],
)
def test_a_clip_that_cannot_be_is_told_where(clip: Json, where: str, detail: str) -> None:
    found = flaws(raw(video({"gap": True, "duration": 1}, clip)))

    assert found == [(f"/timeline/tracks/0/clips/1{where}", detail)]


def test_flaws_of_two_clips_are_told_at_once() -> None:
    clips = [{"asset": "as_a", "out": 0}, {"asset": "as_a"}]

    assert [where for where, _ in flaws(raw(video(*clips)))] == [
        "/timeline/tracks/0/clips/0/out",
        "/timeline/tracks/0/clips/1",
    ]


def test_a_track_of_no_known_type_is_told_where() -> None:
    assert flaws(raw({"type": "midi", "clips": []}))[0][0] == "/timeline/tracks/0"


def test_there_is_one_video_track() -> None:
    assert flaws(raw(video(), video()))[0][0] == "/timeline/tracks/1/type"


def test_two_clips_with_one_id_are_refused() -> None:
    gap = {"id": "g", "gap": True, "duration": 1}

    assert flaws(raw(video(gap, gap))) == [
        ("/timeline/tracks/0/clips/1/id", "is the id of /timeline/tracks/0/clips/0, too")
    ]


def test_a_transition_needs_a_next_clip_and_room_in_both() -> None:
    def three(first: float, second: float) -> Json:
        clips = [{"asset": "as_a", "out": 2} for _ in range(3)]
        clips[0] |= {"transition": {"duration": first}}
        clips[1] |= {"transition": {"duration": second}}
        return raw(video(*clips))

    assert timeline.duration(check.read(three(1, 1)).timeline, {}) == 4
    assert flaws(three(1, 1.1)) == [
        ("/timeline/tracks/0/clips/1/transition/duration", "longer than the clip has room for, 2 s")
    ]
    alone = raw(video({"asset": "as_a", "out": 2, "transition": {"duration": 1}}))
    assert flaws(alone) == [("/timeline/tracks/0/clips/0/transition", "there is no clip after this one")]


def test_clips_of_other_tracks_neither_overlap_nor_stand_out_of_order() -> None:
    def texts(*times: tuple[float, float]) -> Json:
        clips = [{"text": "x", "start": start, "duration": lasts} for start, lasts in times]
        return raw({"type": "text", "clips": clips})

    check.read(texts((0, 1), (1, 1)))
    assert flaws(texts((0, 1.5), (1, 1))) == [
        ("/timeline/tracks/0/clips/1/start", "before the end of the clip before it, 1.5 s")
    ]
    assert flaws(texts((5, 1), (1, 1)))[0][0] == "/timeline/tracks/0/clips/1/start"


def test_a_thousand_clips_are_taken_and_one_more_is_not() -> None:
    gap = {"gap": True, "duration": 1}

    check.read(raw(video(*[gap] * 1000)))
    assert flaws(raw(video(*[gap] * 1001))) == [("/timeline/tracks", "more than 1,000 clips")]


@pytest.mark.parametrize(
    ("clip", "facts", "where", "detail"),
    [
        ({"in": 1, "out": 4.3}, Facts("video", 4.2), "/out", "past the end of the asset, 4.2 s"),
        ({"in": 4.2, "out": 5}, Facts("video", 4.2), "/in", "past the end of the asset, 4.2 s"),
        ({"out": 1}, Facts("image"), "/out", "an image has a duration, and neither in nor out"),
        ({"out": 1}, Facts("audio", 9.0), "/asset", "is of the kind audio, which has no picture"),
        ({"out": 1}, Facts("captions"), "/asset", "is of the kind captions, which has no picture"),
        ({"duration": 3, "speed": 2}, Facts("video", 4.2), "/out", "past the end of the asset, 4.2 s"),
    ],
)
def test_a_clip_takes_no_more_than_its_asset_gives(clip: Json, facts: Facts, where: str, detail: str) -> None:
    found = flaws(raw(video({"asset": "as_a", **clip})), {"as_a": facts})

    assert found == [(f"/timeline/tracks/0/clips/0{where}", detail)]


def test_sound_is_not_taken_from_what_has_none() -> None:
    track = {"type": "audio", "clips": [{"asset": "as_a", "start": 0, "out": 1}]}

    assert flaws(raw(track), {"as_a": Facts("video", 4.0, has_sound=False)}) == [
        ("/timeline/tracks/0/clips/0/asset", "has no sound")
    ]
    check.checked(check.parse(raw(track)), {"as_a": Facts("video", 4.0)})


def test_an_asset_that_is_not_there_is_told_at_every_place_unless_it_is_known_to_be_gone() -> None:
    document = raw(
        video({"asset": "as_a", "out": 1}, {"asset": "as_a", "out": 2}),
        captions={"asset": "as_srt"},
        variables={"logo": {"type": "asset", "default": "as_logo"}},
    )

    assert flaws(document, {}) == [
        ("/timeline/tracks/0/clips/0/asset", "there is no such asset"),
        ("/timeline/tracks/0/clips/1/asset", "there is no such asset"),
        ("/timeline/captions/asset", "there is no such asset"),
        ("/variables/logo/default", "there is no such asset"),
    ]
    check.checked(check.parse(document), {}, gone={"as_a", "as_srt", "as_logo"})


def test_captions_and_watermarks_are_of_their_kind() -> None:
    document = raw(captions={"asset": "as_a"}, watermark={"asset": "as_a"})

    assert flaws(document, {"as_a": Facts("video", 1.0)}) == [
        ("/timeline/captions/asset", "is of the kind video, not captions"),
        ("/timeline/watermark/asset", "is of the kind video, not image"),
    ]


def test_a_clip_that_does_not_say_its_end_is_shown_to_the_end_of_its_asset() -> None:
    document = check.parse(
        raw(video({"asset": "as_a", "in": 1}, {"asset": "as_a", "in": 1, "duration": 1, "speed": 2}))
    )

    whole = check.checked(document, {"as_a": Facts("video", 4.2)})

    assert [(clip.in_, clip.out, clip.duration) for clip in whole.timeline.tracks[0].clips] == [  # type: ignore[union-attr]
        (1, 4.2, None),
        (1, 3, None),
    ]


@pytest.mark.parametrize(
    ("fps", "frames"),
    [
        (30, Fraction(30)),
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        ("30000/1001", Fraction(30000, 1001)),
    ],
)
def test_rates_are_exact(fps: Any, frames: Fraction) -> None:
    assert check.parse(raw(fps=fps)).timeline.rate() == frames


@pytest.mark.parametrize("fps", [0, -30, 1000, "30/0", "x", None, True])
def test_rates_that_are_none_are_refused(fps: Any) -> None:
    assert flaws(raw(fps=fps))[0][0] == "/timeline/fps"


def test_edges_are_rounded_half_up_and_lengths_never() -> None:
    rate = Fraction(30)

    assert [timeline.frame(timeline.exact(at), rate) for at in (0, 0.0166, 0.05, 0.15, 0.1)] == [0, 0, 2, 5, 3]
    clip = {"asset": "as_a", "in": 0, "out": 0.51}
    line = check.read(raw(video(*[clip] * 100))).timeline
    assert timeline.spans(line, line.tracks[0], {})[-1] == (1515, 1530)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.sampled_from([24, 25, 29.97, 30, 59.94]))
def test_frames_of_the_video_track_follow_each_other_without_a_hole(lengths: list[int], fps: float) -> None:
    clips = [{"asset": "as_a", "out": length / 1000 + 0.05} for length in lengths]
    line = check.parse(raw(video(*clips), fps=fps)).timeline

    spans = timeline.spans(line, line.tracks[0], {})

    assert [after for _, after in spans[:-1]] == [first for first, _ in spans[1:]]
    assert spans[-1][1] == timeline.frame(timeline.duration(line, {}), line.rate())


VARIABLES: Json = {
    "name": {"type": "text", "default": "you"},
    "film": {"type": "asset"},
    "long": {"type": "number", "default": 2.5},
    "tint": {"type": "color", "default": "#112233"},
}


def template() -> Document:
    return check.read(
        raw(
            video({"asset": "{{film}}", "duration": "{{long}}"}),
            {
                "type": "text",
                "clips": [
                    {
                        "text": "Hello {{ name }}, {{long}} s",
                        "start": 0,
                        "duration": "{{long}}",
                        "style": {"color": "{{tint}}", "size": "{{long}}"},
                    }
                ],
            },
            variables=VARIABLES,
        )
    )


def test_variables_are_put_into_texts_assets_durations_and_styles() -> None:
    done = timeline.written(templates.rendered(template(), {"film": "as_7", "name": "Ada", "tint": "#445566"}))

    assert "variables" not in done
    assert done["timeline"]["tracks"][0]["clips"][0] == {"id": "c1", "asset": "as_7", "duration": 2.5}
    assert done["timeline"]["tracks"][1]["clips"][0] == {
        "id": "c2",
        "text": "Hello Ada, 2.5 s",
        "start": 0,
        "duration": 2.5,
        "style": {"color": "#445566", "size": 2.5},
    }


@pytest.mark.parametrize(
    ("given", "where", "detail"),
    [
        ({}, "/variables/film", "the variable 'film' needs a value"),
        ({"film": "as_1", "nam": "x"}, "/variables/nam", "there is no variable 'nam'"),
        ({"film": "as_1", "a/b": "x"}, "/variables/a~1b", "there is no variable 'a/b'"),
        ({"film": "x"}, "/variables/film", "the variable 'film' must be the id of an asset"),
        ({"film": "{{film}}"}, "/variables/film", "the variable 'film' must not be another variable"),
        ({"film": "as_1", "long": "3"}, "/variables/long", "the variable 'long' must be a number"),
        ({"film": "as_1", "long": 0}, "/variables/long", "the variable 'long' must be more than 0: it is a duration"),
        (
            {"film": "as_1", "tint": "red"},
            "/variables/tint",
            "the variable 'tint' must be a colour such as #1e90ff or #1e90ff80",
        ),
        ({"film": "as_1", "name": 3}, "/variables/name", "the variable 'name' Input should be a valid string"),
    ],
)
def test_a_value_that_is_unknown_missing_or_of_another_type_is_named(given: Json, where: str, detail: str) -> None:
    with pytest.raises(templates.Unfit) as unfit:
        templates.rendered(template(), given)

    assert (where, detail) in unfit.value.flaws


@given(st.text(alphabet="{}name long\\<b>%'&:", max_size=40))
def test_values_are_data_and_are_never_looked_at_again(value: str) -> None:
    done = templates.rendered(template(), {"film": "as_7", "name": value})

    assert done.timeline.tracks[1].clips[0].text == f"Hello {value}, 2.5 s"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("clip", "variables", "where", "detail"),
    [
        ({"text": "{{who}}", "duration": 1}, {}, "/text", "there is no variable 'who'"),
        (
            {"text": "x", "duration": "{{name}}"},
            VARIABLES,
            "/duration",
            "the variable 'name' is of the type text, not number",
        ),
        ({"text": "{{film}}", "duration": 1}, VARIABLES, "/text", "the variable 'film' is of the type asset, not text"),
    ],
)
def test_a_variable_that_is_not_declared_or_does_not_fit_its_place_is_told_where(
    clip: Json, variables: Json, where: str, detail: str
) -> None:
    found = flaws(raw({"type": "text", "clips": [{"start": 0, **clip}]}, variables=variables))

    assert found == [(f"/timeline/tracks/0/clips/0{where}", detail)]


@pytest.mark.parametrize(
    ("variable", "where"),
    [
        ({"type": "number", "default": "x"}, "/variables/v/default"),
        ({"type": "color", "default": "{{v}}"}, "/variables/v/default"),
        ({"type": "text", "default": 3}, "/variables/v/default"),
        ({"type": "date"}, "/variables/v/type"),
    ],
)
def test_a_default_is_of_the_type_of_its_variable(variable: Json, where: str) -> None:
    assert flaws(raw(variables={"v": variable}))[0][0] == where


def test_a_length_that_a_value_brings_is_checked_like_any_other() -> None:
    texts = [{"text": "a", "start": 0, "duration": "{{long}}"}, {"text": "b", "start": 3, "duration": 1}]
    document = check.read(raw({"type": "text", "clips": texts}, variables=VARIABLES))

    assert list(check.flaws(document, {"long": 3.5})) == [
        Flaw("/timeline/tracks/0/clips/1/start", "before the end of the clip before it, 3.5 s")
    ]
