"""OpenTimelineIO: what we write is read back as it was, and of others' files everything is carried or named."""

import json
from fractions import Fraction
from typing import Any

import opentimelineio as otio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentimelineio.opentime import RationalTime, TimeRange

from shared.editor import check, timeline
from shared.editor.interchange.otio import NotPlaceable, write
from shared.editor.interchange.otio_import import MOST_BYTES, Imported, NotImportable, read
from shared.editor.timeline import Document, written
from shared.media.notes import Note

FULL: dict[str, Any] = {
    "title": "Harbour: 港",
    "variables": {
        "who": {"type": "text", "default": "Ada"},
        "clip": {"type": "asset"},
        "long": {"type": "number", "default": 2.5},
    },
    "output": {"format": "webm", "width": 1280, "height": 720, "poster": 1.0},
    "timeline": {
        "fps": "30000/1001",
        "background": "#102030",
        "tracks": [
            {
                "type": "video",
                "clips": [
                    {"id": "c1", "asset": "as_1", "in": 1.5, "out": 6.0,
                     "transition": {"type": "crossfade", "duration": 0.5}},
                    {"id": "c2", "asset": "as_2", "in": 2.0, "out": 8.6, "speed": 1.3, "fit": "blur", "volume": 0.4,
                     "filters": [{"type": "eq", "brightness": 0.1}],
                     "transition": {"type": "wipeleft", "duration": 0.7}},
                    {"id": "c3", "asset": "as_3", "duration": 3.0, "effect": "zoom_in", "crop": {"left": 0.1}},
                    {"id": "c4", "gap": True, "duration": 0.4, "transition": {"duration": 0.1}},
                    {"id": "c5", "color": "#ff000080", "duration": "{{long}}"},
                    {"id": "c6", "asset": "{{clip}}", "in": 0.1, "out": 0.2},
                ],
            },
            {"type": "overlay", "clips": [{"id": "o1", "asset": "as_4", "start": 1.25, "duration": 10.0, "opacity": 0.6,
                                           "position": {"x": 0.8, "y": -0.8}}]},
            {"type": "text", "clips": [{"id": "t1", "text": "Hello, {{who}}", "start": 1.0, "duration": 2.0,
                                        "style": {"size": 60.0, "color": "#ffffff"}},
                                       {"id": "t2", "text": "שלום", "start": 3.0, "duration": 0.1}]},
            {"type": "audio", "role": "music", "clips": [
                {"id": "a1", "asset": "as_5", "start": 0.0, "in": 0.0, "out": 4.0, "fade_out": 0.5},
                {"id": "a2", "asset": "as_5", "start": 7.123456789, "in": 1.0, "out": 30.0, "speed": 0.7}]},
            {"type": "audio", "role": "voice", "clips": []},
        ],
        "captions": {"asset": "as_6", "edits": [{"at": 3.0, "remove": 1.0}]},
        "duck": {"music under voice": {"ratio": 4.0}},
        "watermark": {"asset": "as_7"},
    },
}  # fmt: skip


def document(raw: dict[str, Any]) -> Document:
    made = check.parse(raw)
    assert list(check.flaws(made)) == []
    return made


def test_everything_that_a_document_has_is_read_back_as_it_was() -> None:
    before = document(FULL)

    after = read(write(before).text.encode())

    assert written(after.document) == written(before)
    assert (after.lost, after.missing) == ((), {})


TIMES = st.integers(1, 8_000_000_000).map(lambda n: n / 10**9) | st.integers(1, 250).map(lambda n: n / 25)
SPEEDS = st.sampled_from([1.0, 0.5, 2.0, 1.3, 0.7, 9.999])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    clips: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 6))):
        begin = draw(TIMES)
        kind = draw(st.sampled_from(["asset", "image", "gap", "color"]))
        length = draw(st.integers(2_000_000_000, 9_000_000_000)) / 10**9
        if kind == "asset":
            speed = draw(SPEEDS)
            clip = {"asset": "as_1", "in": begin, "out": round(begin + length * speed, 9), "speed": speed}
        else:
            shown = {"image": {"asset": "as_2"}, "gap": {"gap": True}, "color": {"color": "#123456"}}[kind]
            clip = {**shown, "duration": length}
        if draw(st.booleans()):
            fade = draw(st.integers(1, 900_000_000)) / 10**9
            clip["transition"] = {"type": draw(st.sampled_from(["crossfade", "radial"])), "duration": fade}
        clips.append(clip)
    clips[-1].pop("transition", None)
    overlays, at = [], 0.0
    for _ in range(draw(st.integers(0, 4))):
        start, length = round(at + draw(TIMES), 9), draw(st.integers(1_000_000_000, 4_000_000_000)) / 10**9
        overlays.append({"asset": "as_3", "start": start, "duration": length})
        at = round(start + length, 9)
    tracks = [{"type": "video", "clips": clips}, {"type": "overlay", "clips": overlays}]
    fps = draw(st.sampled_from([30, 25, 24, 23.976, 29.97, "30000/1001", "24000/1001", 59.94, 12.5]))
    return {"title": "x", "timeline": {"fps": fps, "tracks": tracks}}


@given(documents())
def test_any_document_is_read_back_as_it_was(raw: dict[str, Any]) -> None:
    before = document(raw)

    assert written(read(write(before).text.encode()).document) == written(before)


def test_what_other_programs_do_not_see_is_listed() -> None:
    lost = {(note.where, note.what) for note in write(document(FULL)).lost}

    assert {
        ("/timeline/tracks/0/clips/1/filters", "filters: in the metadata only"),
        ("/timeline/tracks/0/clips/1/transition", "wipeleft: as a transition of our own"),
        ("/timeline/tracks/0/clips/2/effect", "effect: in the metadata only"),
        ("/timeline/tracks/2/clips/0", "texts: as a generator that other programs may not know"),
        ("/timeline/captions", "captions: in the metadata only"),
        ("/output", "output: in the metadata only"),
        ("/variables", "variables: in the metadata only"),
    } <= lost
    told = json.loads(write(document(FULL)).text)["metadata"]["atelier"]["only_here"]
    assert {(one["where"], one["what"]) for one in told} == lost
    plain = {"title": "x", "timeline": {"tracks": [{"type": "video", "clips": [{"asset": "as_1", "out": 2.0}]}]}}
    assert write(document(plain)).lost == ()


def test_other_programs_see_cuts_that_meet_with_handles_for_the_transition() -> None:
    made = otio.core.deserialize_json_from_string(write(document(FULL), {"as_1": "harbour.mp4"}).text)
    first, dissolve, second, wipe, *_ = made.tracks[0]

    def shown(clip: otio.schema.Clip) -> tuple[float, float]:
        return round(clip.source_range.start_time.to_seconds(), 6), round(clip.source_range.duration.to_seconds(), 6)

    assert shown(first) == (1.5, 4.25)
    assert (dissolve.transition_type, dissolve.in_offset.to_seconds()) == ("SMPTE_Dissolve", pytest.approx(0.25))
    assert wipe.transition_type == "Custom_Transition"
    assert shown(second) == (2 + 0.25 * 1.3, round(6.6 / 1.3 - 0.25 - 0.35, 6))
    assert second.effects[0].time_scalar == 1.3
    assert first.media_reference.target_url == "harbour.mp4"
    assert first.trimmed_range_in_parent().end_time_exclusive() == second.trimmed_range_in_parent().start_time


def test_edges_on_frames_are_whole_frames() -> None:
    raw = {"title": "x", "timeline": {"fps": 29.97, "tracks": [
        {"type": "video", "clips": [{"asset": "as_1", "in": 1.001, "out": 3.336666667}]}]}}  # fmt: skip

    made = otio.core.deserialize_json_from_string(write(document(raw)).text)

    shown = made.tracks[0][0].source_range
    assert (shown.start_time.value, shown.duration.value) == (30, 70)


def test_a_clip_whose_length_nobody_knows_yet_cannot_be_written() -> None:
    raw = {"title": "x", "variables": {"n": {"type": "number"}}, "timeline": {"tracks": [
        {"type": "video", "clips": [{"asset": "as_1", "duration": "{{n}}"}]}]}}  # fmt: skip

    with pytest.raises(NotPlaceable, match="/timeline/tracks/0: how long a clip is depends on n"):
        write(document(raw))


# The kinds of samples that the OTIO project has


def at(frames: float, rate: float = 24) -> RationalTime:
    return RationalTime(frames, rate)


def span(start: float, length: float, rate: float = 24) -> TimeRange:
    return TimeRange(at(start, rate), at(length, rate))


def clip(name: str, start: float, length: float, **more: Any) -> otio.schema.Clip:
    reference = otio.schema.ExternalReference(target_url=f"file:///footage/{name}.mov", available_range=span(0, 1000))
    return otio.schema.Clip(name, media_reference=reference, source_range=span(start, length), **more)


def video(*items: otio.core.Composable, kind: str = "Video") -> otio.schema.Track:
    return otio.schema.Track("V1", children=items, kind=kind)


MEDIA = {f"file:///footage/{name}.mov": f"as_{name}" for name in "abcdef"}


def imported(*tracks: otio.core.Composable, media: dict[str, str] = MEDIA) -> Imported:
    made = otio.schema.Timeline("sample")
    made.tracks.extend(tracks)
    return read(otio.core.serialize_json_to_string(made).encode(), media)


def laid(found: Imported) -> list[list[tuple[str, float, float, float | None]]]:
    """Of every track: what is shown, from when to when, and from where in its source."""
    line = found.document.timeline
    return [
        [
            (
                getattr(one.clip, "asset", None)
                or getattr(one.clip, "color", None)
                or getattr(one.clip, "text", "gap"),
                round(float(one.start), 4),
                round(float(one.end), 4),
                getattr(one.clip, "in_", None),
            )
            for one in timeline.placed(track, {})
        ]
        for track in line.tracks
    ]


def lost(found: Imported) -> set[str]:
    return {note.what for note in found.lost} - {"names of clips"}


def test_a_single_track() -> None:
    found = imported(video(clip("a", 24, 48), clip("b", 0, 12)))

    assert laid(found) == [[("as_a", 0, 2, 1.0), ("as_b", 2, 2.5, 0.0)]]
    assert found.document.timeline.fps == 24
    assert found.lost == (Note("/tracks/children/0/children/0", "names of clips", 2),)


def test_gaps_stay_and_tracks_above_are_overlays() -> None:
    gap = otio.schema.Gap(source_range=span(0, 24))

    found = imported(
        video(gap.clone(), clip("a", 0, 24)), video(gap.clone(), clip("b", 0, 24), gap.clone(), clip("c", 0, 24))
    )

    assert laid(found) == [
        [("gap", 0, 1, 0.0), ("as_a", 1, 2, 0.0)],
        [("as_b", 1, 2, 0.0), ("as_c", 3, 4, 0.0)],
    ]
    assert [track.type for track in found.document.timeline.tracks] == ["video", "overlay"]
    assert lost(found) == set()


def test_transitions_overlap_by_their_handles() -> None:
    dissolve = otio.schema.Transition(transition_type="SMPTE_Dissolve", in_offset=at(6), out_offset=at(12))
    custom = otio.schema.Transition(transition_type="Custom_Transition", in_offset=at(6), out_offset=at(6))

    found = imported(video(clip("a", 0, 48), dissolve, clip("b", 24, 48), custom, clip("c", 24, 48)))

    assert laid(found) == [[("as_a", 0, 2.5, 0.0), ("as_b", 1.75, 4.25, 0.75), ("as_c", 3.75, 6, 0.75)]]
    assert lost(found) == {"the transition Custom_Transition: a crossfade instead"}


def test_transitions_that_cannot_be_are_cuts_or_shorter_and_named() -> None:
    def fade(before: float, after: float) -> otio.schema.Transition:
        return otio.schema.Transition(transition_type="SMPTE_Dissolve", in_offset=at(before), out_offset=at(after))

    assert lost(imported(video(fade(0, 6), clip("a", 0, 48), fade(6, 0)))) == {
        "transitions without a clip on both sides"
    }
    late = imported(video(clip("a", 0, 48), fade(12, 12), clip("b", 6, 48)))
    assert laid(late) == [[("as_a", 0, 2.5, 0.0), ("as_b", 1.75, 4, 0.0)]]
    assert lost(late) == {"transitions that begin before their medium: they are shorter"}
    cut = imported(video(clip("a", 0, 24), fade(12, 30), clip("b", 24, 24)))
    assert laid(cut) == [[("as_a", 0, 1, 0.0), ("as_b", 1, 2, 1.0)]]
    assert lost(cut) == {"transitions without room: a cut instead"}


def test_a_nested_stack_is_laid_flat() -> None:
    inner = otio.schema.Stack(
        children=[video(clip("b", 0, 48)), video(otio.schema.Gap(source_range=span(0, 12)), clip("c", 0, 48))]
    )
    inner.source_range = span(6, 24)

    found = imported(video(clip("a", 0, 24), inner, clip("d", 0, 24)))

    assert laid(found) == [
        [("as_a", 0, 1, 0.0), ("as_b", 1, 2, 0.25), ("as_d", 2, 3, 0.0)],
        [("as_c", 1.25, 2, 0.0)],
    ]
    assert lost(found) == set()


def test_tracks_in_tracks_and_clips_in_stacks_are_laid_flat() -> None:
    deep = video(clip("b", 0, 24), video(clip("c", 0, 24), clip("d", 24, 24)))
    deep.source_range = span(12, 48)

    found = imported(video(clip("a", 0, 24), deep), otio.schema.Stack(children=[clip("e", 0, 24)]))

    assert laid(found) == [
        [("as_a", 0, 1, 0.0), ("as_b", 1, 1.5, 0.5), ("as_c", 1.5, 2.5, 0.0), ("as_d", 2.5, 3, 1.0)],
        [("as_e", 0, 1, 0.0)],
    ]


def test_of_speed_effects_what_can_be_played_is_and_the_rest_is_named() -> None:
    def warp(*scalars: float) -> list[otio.schema.LinearTimeWarp]:
        return [otio.schema.LinearTimeWarp(time_scalar=scalar) for scalar in scalars]

    found = imported(
        video(
            clip("a", 24, 24, effects=warp(2)),
            clip("b", 0, 24, effects=warp(0.5, 0.5)),
            clip("c", 0, 24, effects=[otio.schema.FreezeFrame()]),
            clip("d", 0, 24, effects=warp(-1)),
            clip("e", 0, 24, effects=[otio.schema.Effect(effect_name="Blur")]),
        )
    )

    clips = found.document.timeline.tracks[0].clips
    assert [(one.in_, one.out, one.speed) for one in clips if isinstance(one, timeline.VideoClip)] == [
        (1, 3, 2),
        (0, 0.25, 0.25),
        (0, 1, 1),
        (0, 1, 1),
        (0, 1, 1),
    ]
    assert lost(found) == {
        "a frozen frame: it plays at its own speed",
        "the speed -1: it plays at its own speed",
        "the effect Blur",
    }


def test_media_that_begin_at_a_time_code_begin_at_0() -> None:
    reference = otio.schema.ExternalReference("file:///footage/a.mov", available_range=span(86400, 240))
    shown = otio.schema.Clip("a", media_reference=reference, source_range=span(86424, 24))
    whole = otio.schema.Clip("a", media_reference=reference)

    found = imported(video(shown, whole))

    assert laid(found) == [[("as_a", 0, 1, 1.0), ("as_a", 1, 11, 0.0)]]


def test_media_that_are_not_known_are_a_variable_each_and_keep_their_times() -> None:
    images = otio.schema.ImageSequenceReference("file:///renders/", "r.", ".exr", rate=24)
    sequence = otio.schema.Clip("shot", media_reference=images, source_range=span(0, 24))
    nothing = otio.schema.Clip("lost", source_range=span(0, 24))

    found = imported(video(clip("a", 0, 24), clip("x", 12, 24), clip("x", 0, 24), sequence, nothing))

    assert [row[0] for row in laid(found)[0]] == ["as_a", "{{media_1}}", "{{media_1}}", "{{media_2}}", "{{media_3}}"]
    assert found.missing == {"media_1": "file:///footage/x.mov", "media_2": "file:///renders/", "media_3": "lost"}
    assert found.document.variables["media_1"].type == "asset"
    assert lost(found) == {"media that are not known: a variable stands for each"}


@pytest.mark.parametrize("name", ["file:///footage/x.mov", "x.mov", "x"])
def test_media_are_found_by_url_file_name_or_name(name: str) -> None:
    assert laid(imported(video(clip("x", 0, 24)), media={name: "as_9"}))[0][0][0] == "as_9"


def test_tracks_of_sound_take_the_sound_from_the_pictures() -> None:
    found = imported(video(clip("a", 0, 24)), video(clip("b", 0, 24), kind="Audio"))

    picture, sound = (track.clips[0] for track in found.document.timeline.tracks)
    assert isinstance(picture, timeline.VideoClip)
    assert isinstance(sound, timeline.AudioClip)
    assert (picture.volume, sound.volume) == (0, 1)
    assert lost(found) == {"the sound of pictures: the file has tracks of sound"}


def test_whatever_else_a_file_has_is_named() -> None:
    generator = otio.schema.GeneratorReference(generator_kind="SMPTEBars")
    bars = otio.schema.Clip("bars", media_reference=generator, source_range=span(0, 24))
    black = otio.schema.Clip(
        "black", media_reference=otio.schema.GeneratorReference(generator_kind="black"), source_range=span(0, 24)
    )
    marked = clip("a", 0, 24, markers=[otio.schema.Marker("here")], metadata={"fcp_xml": {"x": 1}})
    off = clip("b", 0, 24)
    off.enabled = False
    made = otio.schema.Timeline("x", global_start_time=at(86400))
    made.tracks.append(video(bars, black, marked, off, otio.schema.Clip("endless")))

    found = read(otio.core.serialize_json_to_string(made).encode(), MEDIA)

    assert lost(found) == {
        "where the timeline began: it begins at 0",
        "the generator SMPTEBars: left out",
        "markers",
        "the metadata of fcp_xml",
        "clips that are switched off: left out",
        "clips of no known length",
    }
    assert [(row[0], row[1]) for row in laid(found)[0]] == [("gap", 0), ("#000000", 1), ("as_a", 2), ("gap", 3)]


def test_texts_of_other_programs_are_texts() -> None:
    def title(text: str) -> otio.schema.Clip:
        reference = otio.schema.GeneratorReference(generator_kind="Text", parameters={"text": text})
        return otio.schema.Clip("t", media_reference=reference, source_range=span(0, 24))

    found = imported(video(clip("a", 0, 24)), video(otio.schema.Gap(source_range=span(0, 24)), title("Hello")))

    assert laid(found)[1] == [("Hello", 1, 2, None)]


@pytest.mark.parametrize("rate", [23.976, 23.976023976, 24000 / 1001])
def test_ntsc_rates_are_what_they_mean(rate: float) -> None:
    reference = otio.schema.ExternalReference("file:///footage/a.mov")
    long = otio.schema.Clip("a", media_reference=reference, source_range=span(0, 24000, rate))

    found = imported(video(long))

    assert found.document.timeline.fps == "24000/1001"
    assert laid(found) == [[("as_a", 0, 1001, 0.0)]]


def test_a_file_of_several_rates_says_which_it_is_read_with() -> None:
    reference = otio.schema.ExternalReference("file:///footage/a.mov")
    other = otio.schema.Clip("a", media_reference=reference, source_range=span(0, 25, 25))
    sound = otio.schema.Clip("a", media_reference=reference, source_range=span(0, 48_000, 48_000))

    found = imported(video(clip("a", 0, 24), other), video(sound, kind="Audio"))

    assert found.document.timeline.fps == 24
    assert laid(found)[0][1] == ("as_a", 1, 2, 0.0)
    assert "several rates: 24 frames a second for all" in lost(found)


def test_a_track_or_a_collection_of_one_timeline_is_read_as_well() -> None:
    track = read(otio.core.serialize_json_to_string(video(clip("a", 0, 24))).encode(), MEDIA)
    made = otio.schema.Timeline("sample")
    made.tracks.append(video(clip("a", 0, 24)))
    collection = otio.schema.SerializableCollection("bin", [made, clip("b", 0, 24)])
    found = read(otio.core.serialize_json_to_string(collection).encode(), MEDIA)

    assert laid(track) == laid(found) == [[("as_a", 0, 1, 0.0)]]
    assert "what else is in the collection" in lost(found)


# What is none


def nested(levels: int) -> bytes:
    return b'{"OTIO_SCHEMA": "Stack.1", "children": [' * levels + b"]}" * levels


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "this is no JSON"),
        (b"\xff", "this is no JSON"),
        (b"[" * 100_000, "this is no JSON|nested"),
        (b"{}", "is no timeline|no OpenTimelineIO"),
        (b"[1]", "is no timeline|no OpenTimelineIO"),
        (b'{"OTIO_SCHEMA": "Timeline.999"}', "no OpenTimelineIO"),
        (b'{"OTIO_SCHEMA": "Nonsense.1"}', "is no timeline"),
        (b'{"OTIO_SCHEMA": "Transition.1"}', "no timeline|no OpenTimelineIO"),
        (b'{"OTIO_SCHEMA": "SerializableObjectRef.1", "id": "x"}', "references between objects"),
        (b'{"a": NaN}', "NaN is no number"),
        (nested(200), "nested more than 100 deep"),
        (b" " * (MOST_BYTES + 1), "at most 5,000,000 are read"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_timeline_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(NotImportable, match=why):
        read(data)


def test_a_time_without_a_rate_is_refused_with_its_place() -> None:
    with pytest.raises(NotImportable, match=r"^/tracks/children/0/children/0: 0\.0 at a rate of 0\.0 is no time"):
        imported(video(otio.schema.Gap(source_range=span(0, 24, 0))))


def test_a_file_of_endless_items_is_refused() -> None:
    with pytest.raises(NotImportable, match="more than 5,000 items"):
        imported(video(*(otio.schema.Gap(source_range=span(0, 1)) for _ in range(5_000))))


@pytest.mark.parametrize(
    "own",
    [
        {"volume": 1e9},
        {"id": "a b"},
        {"nonsense": 1},
        {"filters": "x"},
        7,
        [1],
        {"transition": 7},
        {"duration": "{{x}}"},
    ],
)
def test_metadata_that_pretend_to_be_ours_are_checked_like_a_request(own: Any) -> None:
    found = imported(video(clip("a", 0, 48, metadata={"atelier": own})))

    assert laid(found) == [[("as_a", 0, 2, 0.0)]]
    first = found.document.timeline.tracks[0].clips[0]
    assert isinstance(first, timeline.VideoClip)
    assert (first.volume, first.filters) == (1, [])


@given(st.data())
def test_our_own_file_with_anything_changed_in_it_is_read_or_refused(data: st.DataObject) -> None:
    raw = json.loads(write(document(FULL)).text)
    for _ in range(data.draw(st.integers(1, 3))):
        place = raw
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and data.draw(st.integers(0, 9)):
                place = place[key]
                continue
            place[key] = data.draw(st.sampled_from([None, True, -1, 0, 1e300, "x", "", [], {}, "{{long}}", 0.5]))
            break

    try:
        found = read(json.dumps(raw).encode())
    except (NotImportable, check.Flawed):
        return
    assert list(check.flaws(found.document)) == []


def test_exact_times_survive_an_hour_of_cuts() -> None:
    clips = [{"asset": "as_1", "in": 0.1, "out": 3.7, "speed": 1.1} for _ in range(999)]
    before = document({"title": "x", "timeline": {"fps": 23.976, "tracks": [{"type": "video", "clips": clips}]}})

    after = read(write(before).text.encode()).document

    assert written(after) == written(before)
    total = timeline.duration(after.timeline, {})
    assert total == 999 * Fraction(36, 11)
