"""Operations on timelines: what each does, and what all of them keep."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from pydantic import TypeAdapter

from shared.editor import check, cues, operations, timeline
from shared.editor.operations import Operation, Refused
from shared.editor.timeline import CaptionCue, CaptionEdit, Document, Timeline, VideoTrack, exact, placed

OPERATION: TypeAdapter[Any] = TypeAdapter(Operation)
Json = dict[str, Any]


def line(*tracks: Json, **more: Any) -> Timeline:
    return check.parse({"title": "t", "timeline": {"tracks": list(tracks), **more}}).timeline


def video(*clips: Json) -> Json:
    return {"type": "video", "clips": list(clips)}


def clip(name: str, start: float = 0, end: float = 4, **more: Any) -> Json:
    return {"id": name, "asset": "as_1", "in": start, "out": end, **more}


def text(name: str, start: float, duration: float) -> Json:
    return {"id": name, "text": name, "start": start, "duration": duration}


def done(before: Timeline, **told: Any) -> Timeline:
    return operations.applied(before, OPERATION.validate_python(told), {})


def clips(of: Timeline, track: int = 0) -> list[Any]:
    return list(of.tracks[track].clips)


def layout(after: Timeline, track: int = 0) -> list[tuple[str | None, float, float]]:
    return [(one.clip.id, float(one.start), float(one.end)) for one in placed(after.tracks[track], {})]


def total(of: Timeline) -> Fraction:
    (track,) = [track for track in of.tracks if isinstance(track, VideoTrack)]
    return max((one.end for one in placed(track, {})), default=Fraction(0))


def refusal(before: Timeline, **told: Any) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        done(before, **told)
    return refused.value.pointer, refused.value.detail


def flaws(of: Timeline) -> list[check.Flaw]:
    return list(check.flaws(Document(title="t", timeline=of)))


def test_append_puts_a_clip_at_the_end_of_a_track_and_gives_it_an_id() -> None:
    after = done(line(video(clip("a"))), type="append", track=0, clip={"asset": "as_2", "duration": 2})

    assert layout(after) == [("a", 0, 4), ("c1", 4, 6)]


def test_append_to_a_new_track_makes_it() -> None:
    after = done(line(), type="append", new_track="audio", role="music", clip={"asset": "as_2", "out": 2})

    assert layout(after) == [("c1", 0, 2)]
    assert timeline.written(after)["tracks"][0]["role"] == "music"


def test_append_starts_a_text_where_the_last_one_ends_unless_told_when() -> None:
    before = line({"type": "text", "clips": [text("x", 1, 2)]})

    assert layout(done(before, type="append", track=0, clip={"text": "y", "duration": 1}))[1] == ("c1", 3, 4)
    assert layout(done(before, type="append", track=0, clip={"text": "y", "start": 0, "duration": 1}))[0] == (
        "c1",
        0,
        1,
    )


def test_append_says_what_is_wrong_with_the_clip_within_the_operation() -> None:
    before = line(video(clip("a")))

    assert refusal(before, type="append", track=0, clip={"asset": 1})[0] == "/clip/asset"
    assert refusal(before, type="append", track=0, clip={"id": "a", "gap": True, "duration": 1})[0] == "/clip/id"
    assert refusal(before, type="append", track=7, clip={"gap": True, "duration": 1}) == (
        "/track",
        "there are 1 tracks",
    )


def test_split_makes_two_clips_that_show_what_one_did() -> None:
    before = line(video(clip("a", 1, 5, speed=2, fade_in=0.5, fade_out=0.25, transition={"duration": 0.5}), clip("b")))

    after = done(before, type="split", clip="a", at=0.75)

    first, second = clips(after)[:2]
    assert (first.id, first.in_, first.out, first.fade_in, first.fade_out) == ("a", 1, 2.5, 0.5, 0)
    assert (second.id, second.in_, second.out, second.fade_in, second.fade_out) == ("c1", 2.5, 5, 0, 0.25)
    assert (first.transition, second.transition) == (None, clips(before)[0].transition)
    assert layout(after)[2] == layout(before)[1]


def test_split_of_a_text_makes_two_that_follow_each_other() -> None:
    after = done(line({"type": "text", "clips": [text("x", 1, 3)]}), type="split", clip="x", at=2.5)

    assert layout(after) == [("x", 1, 2.5), ("c1", 2.5, 4)]


@pytest.mark.parametrize("at", [0, 4, 9])
def test_split_outside_of_the_clip_is_refused(at: float) -> None:
    assert refusal(line(video(clip("a"))), type="split", clip="a", at=at) == ("/at", "not within the clip, 0 s to 4 s")


def test_a_clip_whose_length_is_a_variable_is_not_cut() -> None:
    before = line(video({"id": "a", "asset": "as_1", "duration": 3}))
    held = before.model_copy(
        update={"tracks": [before.tracks[0].model_copy(update={"clips": [_held(clips(before)[0])]})]}
    )

    with pytest.raises(Refused, match="the duration of a is a variable"):
        operations.applied(held, OPERATION.validate_python({"type": "split", "clip": "a", "at": 1}), {"long": 3})
    with pytest.raises(Refused, match="'long' has no default"):
        operations.applied(held, OPERATION.validate_python({"type": "split", "clip": "a", "at": 1}), {})


def _held(of: Any) -> Any:
    return of.model_copy(update={"duration": "{{long}}"})


def scene(**more: Any) -> Timeline:
    """Three clips of 4 s, a text in each, a voice and music under all of it, and captions."""
    return line(
        video(clip("a"), clip("b"), clip("c")),
        {"type": "text", "clips": [text("in a", 1, 1) | {"id": "ta"}, text("tb", 5, 1), text("tc", 9, 1)]},
        {"type": "audio", "role": "voice", "clips": [{"id": "v", "asset": "as_2", "start": 0, "out": 12}]},
        {"type": "audio", "role": "music", "clips": [{"id": "m", "asset": "as_3", "start": 0, "out": 12}]},
        captions={"cues": [{"text": "one", "start": 1, "end": 2}, {"text": "three", "start": 9, "end": 10}]},
        **more,
    )


def test_ripple_delete_takes_a_clip_out_and_everything_after_it_moves_up() -> None:
    after = done(scene(), type="ripple-delete", clip="b")

    assert layout(after) == [("a", 0, 4), ("c", 4, 8)]
    assert layout(after, 1) == [("ta", 1, 2), ("tc", 5, 6)]
    assert layout(after, 2) == [("v", 0, 4), ("c1", 4, 8)]
    assert [(part.in_, part.out) for part in clips(after, 2)] == [(0, 4), (8, 12)]
    assert layout(after, 3) == [("m", 0, 12)]
    assert after.captions
    assert [(cue.start, cue.end) for cue in after.captions.cues or []] == [(1, 2), (5, 6)]


def test_captions_of_a_file_remember_what_was_taken_out() -> None:
    before = scene().model_copy(update={"captions": timeline.Captions(asset="as_srt")})

    after = done(before, type="ripple-delete", clip="b")

    assert after.captions
    assert after.captions.edits == [CaptionEdit(at=4, remove=4)]
    file = [CaptionCue(text="one", start=1, end=2), CaptionCue(text="three", start=9, end=10)]
    assert [(cue.start, cue.end) for cue in cues.moved(file, after.captions.edits)] == [(1, 2), (5, 6)]


def test_ripple_delete_of_a_stretch_cuts_every_clip_that_reaches_into_it() -> None:
    after = done(scene(), type="ripple-delete", start=3, end=9.5)

    assert [(one.id, one.in_, one.out) for one in clips(after)] == [("a", 0, 3), ("c", 1.5, 4)]
    assert layout(after, 1) == [("ta", 1, 2), ("tc", 3, 3.5)]
    assert after.captions
    assert [(cue.start, cue.end) for cue in after.captions.cues or []] == [(1, 2), (3, 3.5)]


def test_ripple_delete_within_one_clip_leaves_two() -> None:
    after = done(scene(), type="ripple-delete", start=1, end=2)

    assert [(one.in_, one.out) for one in clips(after)] == [(0, 1), (2, 4), (0, 4), (0, 4)]
    assert len({one.id for _, one in timeline.clips(after)}) == len(list(timeline.clips(after)))
    assert total(after) == 11


def test_ripple_delete_joins_the_neighbours_by_the_transition_before_if_they_have_room() -> None:
    before = line(video(clip("a", transition={"duration": 1}), clip("b"), clip("c", 0, 0.5)))

    assert clips(done(before, type="ripple-delete", clip="b"))[0].transition is None
    longer = line(video(clip("a", transition={"duration": 1}), clip("b"), clip("c")))
    assert layout(done(longer, type="ripple-delete", clip="b")) == [("a", 0, 4), ("c", 3, 7)]


def test_ripple_delete_past_the_end_is_refused() -> None:
    assert refusal(scene(), type="ripple-delete", start=12, end=13) == ("/start", "past the end of the timeline, 12 s")


def test_ripple_delete_of_a_text_moves_the_later_ones_of_its_track() -> None:
    after = done(scene(), type="ripple-delete", clip="ta")

    assert layout(after, 1) == [("tb", 4, 5), ("tc", 8, 9)]
    assert layout(after) == layout(scene())


def test_trim_of_the_head_takes_out_what_was_seen_first() -> None:
    after = done(scene(), type="trim", clip="b", **{"in": 1.5})

    assert layout(after) == [("a", 0, 4), ("b", 4, 6.5), ("c", 6.5, 10.5)]
    assert layout(after, 1) == [("ta", 1, 2), ("tb", 4, 4.5), ("tc", 7.5, 8.5)]


def test_trim_of_the_tail_takes_out_what_was_seen_last() -> None:
    after = done(scene(), type="trim", clip="b", out=3)

    assert layout(after, 1) == [("ta", 1, 2), ("tb", 5, 6), ("tc", 8, 9)]
    assert [(part.in_, part.out) for part in clips(after, 2)] == [(0, 7), (8, 12)]


def test_trim_that_makes_a_clip_longer_moves_what_comes_later() -> None:
    after = done(scene(), type="trim", clip="b", out=6)

    assert layout(after) == [("a", 0, 4), ("b", 4, 10), ("c", 10, 14)]
    assert layout(after, 1) == [("ta", 1, 2), ("tb", 5, 6), ("tc", 11, 12)]
    assert after.captions
    assert [cue.start for cue in after.captions.cues or []] == [1, 11]


def test_trim_without_ripple_leaves_the_other_tracks_where_they_are() -> None:
    after = done(scene(), type="trim", clip="b", out=3, ripple=False)

    assert total(after) == 11
    assert after.tracks[1:] == scene().tracks[1:]
    assert after.captions == scene().captions


def test_trim_of_the_head_of_a_sound_keeps_the_rest_where_it_was() -> None:
    after = done(scene(), type="trim", clip="v", **{"in": 2})

    assert layout(after, 2) == [("v", 2, 12)]


def test_trim_to_nothing_is_refused() -> None:
    assert refusal(scene(), type="trim", clip="b", **{"in": 4}) == ("/in", "would leave nothing of the clip")
    assert refusal(scene(), type="trim", clip="b", out=0) == ("/out", "would leave nothing of the clip")


def test_trim_below_its_transitions_is_refused() -> None:
    before = line(video(clip("a", transition={"duration": 1}), clip("b", transition={"duration": 1}), clip("c")))

    assert refusal(before, type="trim", clip="b", out=1.5) == ("", "its transitions have no room in 1.5 s")


def test_move_reorders_the_video_track_and_leaves_the_others() -> None:
    after = done(scene(), type="move", clip="c", to=0)

    assert [one.id for one in clips(after)] == ["c", "a", "b"]
    assert after.tracks[1:] == scene().tracks[1:]


def test_move_of_a_text_gives_it_another_time() -> None:
    assert layout(done(scene(), type="move", clip="ta", start=7), 1) == [("tb", 5, 6), ("ta", 7, 8), ("tc", 9, 10)]


def test_move_to_a_track_of_another_type_is_refused() -> None:
    assert refusal(scene(), type="move", clip="ta", start=1, track=2) == ("/track", "is no track of the type text")


def test_a_transition_lets_what_comes_later_begin_earlier_and_cuts_nothing() -> None:
    after = done(scene(), type="set-transition", clip="a", transition={"type": "wipeleft", "duration": 0.5})

    assert layout(after) == [("a", 0, 4), ("b", 3.5, 7.5), ("c", 7.5, 11.5)]
    assert layout(after, 1) == [("ta", 1, 2), ("tb", 4.5, 5.5), ("tc", 8.5, 9.5)]
    assert layout(after, 2) == [("v", 0, 12)]
    assert done(after, type="set-transition", clip="a", transition=None).tracks == scene().tracks


def test_a_transition_that_has_no_room_or_no_next_clip_is_refused() -> None:
    long = {"duration": 5}

    assert refusal(scene(), type="set-transition", clip="a", transition=long)[0] == "/transition/duration"
    assert refusal(scene(), type="set-transition", clip="c", transition=long)[0] == "/transition"
    assert refusal(scene(), type="set-transition", clip="ta", transition=long) == ("/clip", "is not on the video track")


def test_replace_asset_keeps_the_times_unless_told_others() -> None:
    kept = done(scene(), type="replace-asset", clip="b", asset="as_9")
    longer = done(scene(), type="replace-asset", clip="b", asset="as_9", **{"in": 2, "out": 8})

    assert (layout(kept), clips(kept)[1].asset) == (layout(scene()), "as_9")
    assert layout(longer) == [("a", 0, 4), ("b", 4, 10), ("c", 10, 14)]
    assert layout(longer, 1)[2] == ("tc", 11, 12)


def test_an_operation_on_a_clip_that_is_not_there_says_so() -> None:
    assert refusal(scene(), type="split", clip="nobody", at=1) == ("/clip", "there is no such clip")


@pytest.mark.parametrize(
    "told",
    [
        {"type": "append", "clip": {}},
        {"type": "trim", "clip": "a"},
        {"type": "trim", "clip": "a", "out": 2, "duration": 1},
        {"type": "ripple-delete"},
        {"type": "ripple-delete", "clip": "a", "start": 1, "end": 2},
        {"type": "ripple-delete", "start": 2, "end": 2},
        {"type": "split", "clip": "a", "at": 1, "more": 1},
        {"type": "explode", "clip": "a"},
    ],
)
def test_operations_that_say_too_little_or_too_much_are_none(told: Json) -> None:
    with pytest.raises(ValueError, match="validation error"):
        OPERATION.validate_python(told)


times = st.integers(0, 4000).map(lambda number: number / 1000)
spans = st.integers(200, 4000).map(lambda number: number / 1000)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Any sound timeline: clips at any speed with transitions where there is room, texts, sounds, cues."""
    drawn: list[Json] = []
    room: list[Fraction] = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["asset", "asset", "image", "gap"]))
        told: Json = {"id": f"v{number}"}
        if kind == "asset":
            start, lasts = draw(times), draw(spans)
            told |= {"asset": "as_1", "in": start, "out": round(start + lasts, 3)}
            told["speed"] = draw(st.sampled_from([0.5, 1.0, 1.5, 3.0]))
            has = (exact(told["out"]) - exact(start)) / exact(told["speed"])
        else:
            told |= {"asset": "as_2"} if kind == "image" else {"gap": True}
            told["duration"] = draw(spans)
            has = exact(told["duration"])
        drawn.append(told)
        room.append(has)
    for number in range(len(drawn) - 1):
        most = min(room[number], room[number + 1]) / 2
        if draw(st.booleans()) and most > Fraction(1, 10):
            lasts = draw(st.integers(50, int(most * 1000)))
            drawn[number]["transition"] = {"type": "crossfade", "duration": lasts / 1000}
    tracks = [{"type": "video", "clips": drawn}]
    for kind, role in (("text", None), ("overlay", None), ("audio", "voice"), ("audio", "music")):
        at, placed_clips = 0, []
        for number in range(draw(st.integers(0, 4))):
            at += draw(st.integers(0, 2000))
            lasts = draw(st.integers(100, 4000))
            told = {"id": f"{kind}{role}{number}", "start": at / 1000}
            told |= (
                {"text": "x", "duration": lasts / 1000} if kind == "text" else {"asset": "as_1", "out": lasts / 1000}
            )
            placed_clips.append(told)
            at += lasts
        tracks.append({"type": kind, "clips": placed_clips, **({"role": role} if role else {})})
    starts = sorted(draw(st.lists(st.integers(0, 12000), max_size=5)))
    found = [{"text": str(number), "start": at / 1000, "end": at / 1000 + 0.5} for number, at in enumerate(starts)]
    fps = draw(st.sampled_from([24, 25, 30, 29.97, "24000/1001"]))
    return line(*tracks, captions={"cues": found}, fps=fps)


def order(of: Timeline, track: int = 0) -> list[str | None]:
    return [one.id for one in of.tracks[track].clips]


@given(timelines())
def test_the_timelines_that_the_invariants_are_tried_on_are_sound(before: Timeline) -> None:
    assert flaws(before) == []


@given(timelines(), st.data())
def test_split_keeps_the_length_the_order_and_every_other_track(before: Timeline, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(order(before)))
    one = next(one for one in placed(before.tracks[0], {}) if one.clip.id == name)
    at = timeline.seconds(
        one.start + (one.end - one.start) * data.draw(st.sampled_from([Fraction(1, 2), Fraction(2, 5)]))
    )
    after = done(before, type="split", clip=name, at=at)

    assert total(after) == total(before)
    assert [found for found in order(after) if found in order(before)] == order(before)
    assert after.tracks[1:] == before.tracks[1:]
    assert after.captions == before.captions


@given(timelines(), st.data())
def test_ripple_delete_of_a_clip_shortens_the_whole_by_what_the_clip_showed_alone(
    before: Timeline, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(order(before)))
    after = done(before, type="ripple-delete", clip=name)

    assert order(after) == [found for found in order(before) if found != name]
    known = {one.clip.id: one.clip for one in placed(before.tracks[0], {})}
    transitions = sum(map(timeline.over, clips(after)), Fraction(0))
    lengths = sum((timeline.length(known[found], {}) for found in order(after)), Fraction(0))
    assert total(after) == lengths - transitions
    assert flaws(after) == []
    was, now = placed(before.tracks[0], {}), placed(after.tracks[0], {})
    place = order(before).index(name)
    follows = (was[place + 1].start, now[place].start) if now[place:] else (total(before), total(after))
    assert_moved(before, after, *follows)


@given(timelines(), st.data())
def test_ripple_delete_of_a_stretch_shortens_the_whole_by_its_length(before: Timeline, data: st.DataObject) -> None:
    whole = int(total(before) * 1000)
    start = data.draw(st.integers(0, whole - 1)) / 1000
    end = start + data.draw(st.integers(1, whole)) / 1000
    after = done(before, type="ripple-delete", start=start, end=end)

    frame = 1 / before.rate()
    taken = min(exact(round(end, 9)), total(before)) - exact(start)
    assert abs(total(before) - taken - total(after)) <= 2 * frame
    assert [flaw for flaw in flaws(after) if "shorter than a frame" not in flaw.detail] == []
    kept = [found for found in order(after) if found in order(before)]
    assert kept == [found for found in order(before) if found in kept]


@given(timelines(), st.data())
def test_trim_changes_the_length_by_what_the_clip_lost_or_won(before: Timeline, data: st.DataObject) -> None:
    sourced = [one.id for one in clips(before) if one.out is not None]
    assume(sourced)
    name = data.draw(st.sampled_from(sourced))
    one = next(one for one in clips(before) if one.id == name)
    out = data.draw(st.integers(int(one.in_ * 1000) + 400, 9000)) / 1000
    try:
        after = done(before, type="trim", clip=name, out=out)
    except Refused:
        reject()

    assert total(after) - total(before) == (exact(out) - exact(one.out)) / exact(one.speed)
    assert flaws(after) == []
    assert order(after) == order(before)
    place = order(before).index(name)
    was, now = placed(before.tracks[0], {}), placed(after.tracks[0], {})
    follows = (was[place + 1].start, now[place + 1].start) if was[place + 1 :] else (total(before), total(after))
    assert_moved(before, after, *follows)


@given(timelines(), st.data())
def test_move_keeps_every_clip_and_no_transition_without_room(before: Timeline, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(order(before)))
    to = data.draw(st.integers(0, len(order(before)) - 1))
    after = done(before, type="move", clip=name, to=to)

    assert order(after)[to] == name
    assert [found for found in order(after) if found != name] == [found for found in order(before) if found != name]
    assert flaws(after) == []


@given(timelines(), st.data())
def test_a_transition_shortens_the_whole_by_its_duration(before: Timeline, data: st.DataObject) -> None:
    assume(len(order(before)) > 1)
    place = data.draw(st.integers(0, len(order(before)) - 2))
    lasts = data.draw(st.integers(34, 500)) / 1000
    try:
        after = done(before, type="set-transition", clip=order(before)[place], transition={"duration": lasts})
    except Refused:
        reject()

    was = timeline.over(clips(before)[place])
    assert total(after) == total(before) + was - exact(lasts)
    assert flaws(after) == []


def assert_moved(before: Timeline, after: Timeline, was: Fraction, now: Fraction) -> None:
    """Whatever began after `was`, captions among it, is now as much earlier or later as what follows the change."""
    for track, changed in zip(before.tracks[1:], after.tracks[1:], strict=True):
        starts = {one.clip.id: one.start for one in placed(changed, {})}
        for one in placed(track, {}):
            if one.start >= was:
                assert abs(starts[one.clip.id] - (one.start + now - was)) < Fraction(1, 10**8)
    assert before.captions
    assert after.captions
    starts_of_cues = {cue.text: exact(cue.start) for cue in after.captions.cues or []}
    for cue in before.captions.cues or []:
        if exact(cue.start) >= was:
            assert abs(starts_of_cues[cue.text] - (exact(cue.start) + now - was)) < Fraction(1, 10**8)
