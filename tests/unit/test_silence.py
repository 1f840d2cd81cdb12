"""Silence and speech: what is quiet is found in real sound, and taken out without touching a word."""

import io
import itertools
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.editor import check, operations, silence, timeline
from shared.editor.silence import Cut, NoSource
from shared.editor.timeline import Silence, Timeline, exact
from shared.media import sound
from shared.media.probe import NotMedia
from shared.media.sound import Span
from tests.sounds import RATE, chords, nothing, talk, tone, wav
from tests.unit import films


def found(samples: list[float], channels: int = 1, begin: float = 0.0, end: float | None = None) -> list[Span]:
    last = len(samples) / channels / RATE if end is None else end
    return sound.quiet(wav(samples, channels), "audio/wav", begin=begin, end=last, threshold_db=-35, min_duration=0.5)


def near(spans: list[Span], *expected: tuple[float, float], within: float = 0.01) -> bool:
    return len(spans) == len(expected) and all(
        abs(span.start - start) <= within and abs(span.end - end) <= within
        for span, (start, end) in zip(spans, expected, strict=True)
    )


# Loudness


def test_quiet_is_found_at_the_beginning_in_the_middle_and_at_the_end() -> None:
    samples = nothing(1) + tone(1) + nothing(0.8) + tone(1) + nothing(0.4) + tone(1) + nothing(0.7)

    assert near(found(samples), (0, 1), (2, 2.8), (5.2, 5.9))


def test_what_is_quiet_throughout_is_one_span_and_what_never_is_is_none() -> None:
    assert near(found(nothing(3)), (0, 3))
    assert found(tone(3)) == []


@pytest.mark.parametrize(("level", "quiet"), [(10 ** (-30 / 20), False), (10 ** (-40 / 20), True)])
def test_the_threshold_is_what_it_says(level: float, quiet: bool) -> None:
    assert bool(found(tone(1) + tone(1, level) + tone(1))) is quiet


def test_a_part_of_a_file_is_searched_in_the_time_of_the_file() -> None:
    samples = tone(2) + nothing(1) + tone(2) + nothing(1) + tone(2)

    assert near(found(samples, begin=2.5, end=5.75), (2.5, 3), (5, 5.75), within=0.05)


def test_it_is_quiet_only_where_every_channel_is() -> None:
    left, right = tone(1) + nothing(2) + tone(1), nothing(2) + tone(1) + nothing(1)

    both = found([value for pair in zip(left, right, strict=True) for value in pair], channels=2)

    assert near(both, (1, 2))


@pytest.mark.parametrize("media_type", ["audio/mpeg", "audio/mp4", "audio/flac", "audio/ogg"])
def test_compressed_sound_is_heard_as_well(media_type: str) -> None:
    file = io.BytesIO(films.sound(media_type, 2.0))

    assert sound.quiet(file, media_type, begin=0, end=2, threshold_db=-35, min_duration=0.5) == []


@pytest.mark.parametrize(("data", "media_type"), [(b"x" * 2000, "audio/wav"), (b"", "audio/mpeg")])
def test_what_is_no_sound_is_refused(data: bytes, media_type: str) -> None:
    with pytest.raises(NotMedia):
        sound.quiet(io.BytesIO(data), media_type, begin=0, end=1, threshold_db=-35, min_duration=0.5)
    with pytest.raises(NotMedia):
        sound.speech(io.BytesIO(data), media_type, begin=0, end=1)


# Speech


def test_music_is_no_speech_and_speech_over_music_is_found() -> None:
    spans = sound.speech(wav(list(talk())), "audio/wav", begin=0, end=11)

    pauses = silence.pauses([(span.start, span.end) for span in spans], 0, 11)
    long = [(start, end) for start, end in pauses if end - start > 0.6]
    assert near([Span(*pause) for pause in long], (0, 2), (4, 7), (9, 11), within=0.3)
    assert found(list(talk())) == []


@pytest.mark.parametrize("samples", [nothing(4), tone(4), chords(4)], ids=["nothing", "a tone", "chords"])
def test_where_nobody_speaks_there_is_no_speech(samples: list[float]) -> None:
    assert sound.speech(wav(samples), "audio/wav", begin=0, end=4) == []


def test_speech_in_a_part_of_a_file_is_told_in_the_time_of_the_file() -> None:
    spans = sound.speech(wav(list(talk())), "audio/wav", begin=6, end=8)

    assert spans
    assert min(span.start for span in spans) == pytest.approx(7, abs=0.3)
    assert max(span.end for span in spans) == pytest.approx(8, abs=0.05)


# Cuts


def line(*clips: dict[str, Any], **more: Any) -> Timeline:
    document = check.parse({"title": "x", "timeline": {"tracks": [{"type": "video", "clips": list(clips)}], **more}})
    assert list(check.flaws(document)) == []
    return document.timeline


CLIP = {"id": "c1", "asset": "as_1", "in": 10.0, "out": 20.0}


def cuts(of: Timeline, *quiet: tuple[float, float], clip: str = "c1", **settings: float) -> list[tuple[float, float]]:
    chosen = Silence(**{"min_duration": 0.6, "margin": 0.15, **settings})
    return [(cut.start, cut.end) for cut in silence.cuts(of, clip, quiet, chosen, {})]


def test_a_margin_is_kept_where_a_cut_borders_on_sound_and_none_at_the_edges_of_the_clip() -> None:
    assert cuts(line(CLIP), (9.0, 11.0), (14.0, 15.0), (19.0, 25.0)) == [(0, 0.85), (4.15, 4.85), (9.15, 10)]


def test_silence_that_is_too_short_or_outside_the_clip_is_left_alone() -> None:
    assert cuts(line(CLIP), (0.0, 5.0), (12.0, 12.5), (19.5, 30.0)) == []


def test_a_margin_may_leave_nothing_to_cut() -> None:
    assert cuts(line(CLIP), (14.0, 15.0), margin=0.5) == []


def test_spans_that_meet_are_one() -> None:
    assert cuts(line(CLIP), (14.4, 15.0), (14.0, 14.4)) == [(4.15, 4.85)]


def test_speed_counts_the_settings_are_what_one_hears() -> None:
    twice = line({**CLIP, "speed": 2.0})

    assert cuts(twice, (14.0, 15.0)) == []
    assert cuts(twice, (14.0, 16.0)) == [(2.15, 2.85)]


def test_a_transition_is_not_cut_into() -> None:
    three = line(
        {"id": "a", "asset": "as_0", "in": 0.0, "out": 5.0, "transition": {"duration": 1.0}},
        {**CLIP, "transition": {"duration": 0.5}},
        {"id": "b", "asset": "as_0", "in": 0.0, "out": 5.0},
    )

    assert cuts(three, (10.0, 20.0)) == [(5.0, 13.5)]


def test_a_voice_on_a_track_of_its_own_has_its_cuts_where_it_lies() -> None:
    clip = {"id": "v", "asset": "as_1", "start": 3.0, "in": 1.0, "out": 9.0}
    track = {"type": "audio", "role": "voice", "clips": [clip]}
    document = check.parse({"title": "x", "timeline": {"tracks": [track]}})

    assert cuts(document.timeline, (2.0, 4.0), clip="v") == [(4.15, 5.85)]
    assert silence.heard(document.timeline, "v", {}) == silence.Heard("as_1", Fraction(1), Fraction(9))


@pytest.mark.parametrize("clip", ["none", "gap"])
def test_what_has_no_sound_of_its_own_is_refused(clip: str) -> None:
    with pytest.raises(NoSource):
        cuts(line(CLIP, {"id": "gap", "gap": True, "duration": 1.0}), clip=clip)


# Heard and cut


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_pauses_in_speech_over_music_are_cut_by_listening_for_speech_and_not_by_loudness(speed: float) -> None:
    clip = line({"id": "c1", "asset": "as_1", "in": 1.0, "out": 10.0, "speed": speed})

    def listened(mode: Any) -> list[Cut]:
        settings = Silence(min_duration=0.3, margin=0.1)
        file = wav(list(talk()))
        quiet = silence.listened(clip, "c1", file, "audio/wav", settings=settings, mode=mode, numbers={})
        return silence.cuts(clip, "c1", quiet, settings, {})

    assert listened("loudness") == []
    spans = [Span(cut.start * speed + 1, cut.end * speed + 1) for cut in listened("speech")]
    assert near(spans, (1, 2 - 0.1 * speed), (4 + 0.1 * speed, 7 - 0.1 * speed), (9 + 0.1 * speed, 10), within=0.3)


def test_silence_between_tones_is_cut_by_loudness() -> None:
    file = wav(tone(2) + nothing(1) + tone(2))
    clip = line({"id": "c1", "asset": "as_1", "in": 0.5, "out": 5.0})

    quiet = silence.listened(clip, "c1", file, "audio/wav", settings=Silence(), mode="loudness", numbers={})

    assert near([Span(*span) for span in quiet], (2, 3))
    found = silence.cuts(clip, "c1", quiet, Silence(), {})
    assert near([Span(cut.start, cut.end) for cut in found], (1.65, 2.35))


# Applied


def shown(of: Timeline) -> list[tuple[float, float | None]]:
    return [(clip.in_, clip.out) for clip in of.tracks[0].clips if isinstance(clip, timeline.VideoClip)]


def test_cuts_are_taken_out_and_captions_and_later_clips_move_along() -> None:
    before = line(
        CLIP,
        {"id": "c2", "asset": "as_2", "in": 0.0, "out": 5.0},
        captions={"cues": [{"text": "before", "start": 1.0, "end": 2.0}, {"text": "after", "start": 6.0, "end": 7.0}]},
    )

    after = silence.applied(before, [Cut(2.15, 2.85), Cut(4.15, 4.85)], {})

    assert shown(after) == [(10, 12.15), (12.85, 14.15), (14.85, 20), (0, 5)]
    assert timeline.duration(after, {}) == exact(13.6)
    assert after.captions
    assert after.captions.cues
    assert [(cue.start, cue.end) for cue in after.captions.cues] == [(1, 2), (4.6, 5.6)]


def test_as_operations_they_do_the_same_one_by_one() -> None:
    found = [Cut(2.15, 2.85), Cut(4.15, 4.85)]
    changed = line(CLIP)
    for operation in silence.as_operations(found):
        changed = operations.applied(changed, operation, {})

    assert changed == silence.applied(line(CLIP), found, {})


QUIET = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 400)), max_size=12).map(
    lambda drawn: [(start / 100, (start + length) / 100) for start, length in drawn]
)


@given(QUIET, st.sampled_from([1.0, 0.5, 1.3]), st.sampled_from([0.0, 0.1, 0.25]))
def test_whatever_is_quiet_every_word_stays_with_its_margin(
    quiet: list[tuple[float, float]], speed: float, margin: float
) -> None:
    before = line({**CLIP, "speed": speed}, {"id": "c2", "asset": "as_2", "in": 0.0, "out": 5.0})
    found = silence.cuts(before, "c1", quiet, Silence(min_duration=0.3, margin=margin), {})

    def source(at: float) -> float:
        return 10 + at * speed

    loud = [at / 100 for at in range(1000, 2000) if not any(start <= at / 100 < end for start, end in quiet)]
    for cut in found:
        assert not any(source(cut.start) + 0.001 < word < source(cut.end) - 0.001 for word in loud)
        inner = [word for word in loud if source(cut.start - margin) + 0.02 < word < source(cut.end + margin) - 0.02]
        assert inner == []
    assert all(first.end <= second.start for first, second in itertools.pairwise(found))

    after = silence.applied(before, found, {})
    taken = sum((exact(cut.end) - exact(cut.start) for cut in found), Fraction(0))
    assert abs(timeline.duration(before, {}) - taken - timeline.duration(after, {})) < Fraction(1, 10)
