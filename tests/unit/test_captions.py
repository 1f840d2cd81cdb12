"""Captions: whatever shape a Whisper answers in becomes the same cues, and text stays text in every format."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media import captions
from shared.media.captions import LONGEST_CUE, LONGEST_CUE_S, Cue, NoTranscript, Transcript, Word

SEGMENTS = {
    "detected_language": "en",
    "segments": [
        {
            "start": 0.031,
            "end": 1.5,
            "text": " Waves roll\nin. ",
            "words": [
                {"word": "Waves", "start": 0.031, "end": 0.5, "score": 0.9},
                {"word": "roll", "start": 0.5, "end": 0.9, "score": 0.9},
                {"word": "in."},
            ],
        },
        {"start": 2, "end": 3.25, "text": "Fish & <b>chips</b>."},
        {"start": 3.25, "end": 4, "text": "   "},
    ],
}
CHUNKS = {
    "text": "Waves roll in. Fish",
    "chunks": [
        {"text": " Waves", "timestamp": [0.031, 0.5]},
        {"text": " roll", "timestamp": [0.5, 0.9]},
        {"text": " in.", "timestamp": [0.9, 1.5]},
        {"text": " ", "timestamp": [1.5, 1.6]},
        {"text": " Fish", "timestamp": [2.0, None]},
    ],
    "language": "en",
}


def test_segments_with_words_are_cues() -> None:
    first, second = captions.parse(SEGMENTS).cues

    assert first == Cue("Waves roll in.", 0.031, 1.5, (Word("Waves", 0.031, 0.5), Word("roll", 0.5, 0.9)))
    assert second == Cue("Fish & <b>chips</b>.", 2.0, 3.25)


def words(*told: Any) -> list[tuple[str, float, float]]:
    """The words of a segment from 1 to 4 s."""
    (cue,) = captions.parse({"segments": [{"start": 1, "end": 4, "text": "Waves roll in.", "words": [*told]}]}).cues
    return [(word.text, word.start, word.end) for word in cue.words]


def test_a_word_without_an_end_lasts_until_the_next_or_until_the_segment_ends() -> None:
    assert words({"word": "Waves", "start": 1}, {"word": "roll", "start": 2.5, "end": None}) == [
        ("Waves", 1, 2.5),
        ("roll", 2.5, 4),
    ]
    assert words({"word": "Waves", "start": 1}, {"word": "roll"}, {"word": "in.", "start": 3, "end": 3.5}) == [
        ("Waves", 1, 3),
        ("in.", 3, 3.5),
    ]


def test_a_word_never_ends_before_it_begins() -> None:
    assert words({"word": "Waves", "start": 5}, {"word": "roll", "start": 4.5}) == [("Waves", 5, 5), ("roll", 4.5, 4.5)]


@pytest.mark.parametrize("nothing", [{}, {"word": None}, {"word": "", "text": None}, {"text": "  "}])
def test_a_word_without_text_is_none(nothing: dict[str, Any]) -> None:
    spoken = {"text": "Waves", "start": 1, "end": 2}

    assert words({**nothing, "start": 0, "end": 1}, spoken, {**nothing, "start": 3}) == [("Waves", 1, 2)]


def test_chunks_of_words_are_cues_that_end_with_a_sentence() -> None:
    first, second = captions.parse(CHUNKS).cues

    assert (first.text, first.start, first.end) == ("Waves roll in.", 0.031, 1.5)
    assert first.words == (Word("Waves", 0.031, 0.5), Word("roll", 0.5, 0.9), Word("in.", 0.9, 1.5))
    assert second == Cue("Fish", 2.0, 2.0, (Word("Fish", 2.0, 2.0),))


@pytest.mark.parametrize(
    ("data", "language"),
    [
        (SEGMENTS, "en"),
        (CHUNKS, "en"),
        (SEGMENTS["segments"], None),
        ({"segments": [], "language": "de"}, "de"),
        ({"chunks": [], "detected_language": None}, None),
    ],
)
def test_the_language_is_what_the_provider_has_recognised(data: Any, language: str | None) -> None:
    assert captions.parse(data).language == language


def test_a_transcript_knows_its_text_and_its_length() -> None:
    assert captions.parse(SEGMENTS).text == "Waves roll in. Fish & <b>chips</b>."
    assert captions.parse(SEGMENTS).duration_s == 3.25
    assert captions.parse({"segments": []}).duration_s == 0


@given(st.lists(st.tuples(st.sampled_from(["a", "sea.", "w" * 30]), st.floats(0, 2)), max_size=60))
def test_cues_of_words_are_short_enough_to_read_and_lose_none(spoken: list[tuple[str, float]]) -> None:
    chunks, now = [], 0.0
    for text, seconds in spoken:
        chunks.append({"text": text, "timestamp": [now, now + seconds]})
        now += seconds

    cues = captions.parse({"chunks": chunks}).cues

    assert [word.text for cue in cues for word in cue.words] == [text for text, _ in spoken]
    for cue in cues:
        assert len(cue.text) < LONGEST_CUE + 31
        assert cue.end - cue.start < LONGEST_CUE_S + 2.01
        assert not any(word.text.endswith(".") for word in cue.words[:-1])


# Written


def test_srt_is_numbered_blocks_with_a_comma_in_the_times() -> None:
    assert captions.srt(captions.parse(SEGMENTS)) == (
        "1\n00:00:00,031 --> 00:00:01,500\nWaves roll in.\n\n2\n00:00:02,000 --> 00:00:03,250\nFish & <b>chips</b>.\n"
    )


def test_vtt_has_its_header_a_point_in_the_times_and_no_markup_of_a_speaker() -> None:
    assert captions.vtt(captions.parse(SEGMENTS)) == (
        "WEBVTT\n\n00:00:00.031 --> 00:00:01.500\nWaves roll in.\n\n"
        "00:00:02.000 --> 00:00:03.250\nFish &amp; &lt;b&gt;chips&lt;/b&gt;.\n"
    )


def test_the_document_has_text_language_and_every_word() -> None:
    assert json.loads(captions.document(captions.parse(CHUNKS))) == {
        "text": "Waves roll in. Fish",
        "language": "en",
        "cues": [
            {
                "text": "Waves roll in.",
                "start": 0.031,
                "end": 1.5,
                "words": [
                    {"text": "Waves", "start": 0.031, "end": 0.5},
                    {"text": "roll", "start": 0.5, "end": 0.9},
                    {"text": "in.", "start": 0.9, "end": 1.5},
                ],
            },
            {"text": "Fish", "start": 2.0, "end": 2.0, "words": [{"text": "Fish", "start": 2.0, "end": 2.0}]},
        ],
    }


def test_a_document_is_readable_in_every_script() -> None:
    assert "Übermorgen 明日" in captions.document(Transcript("de", (Cue("Übermorgen 明日", 0, 1),)))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "00:00:00,000"),
        (0.9996, "00:00:01,000"),
        (59.9999, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (3661.007, "01:01:01,007"),
        (360_000, "100:00:00,000"),
    ],
)
def test_times_are_rounded_before_they_are_divided(seconds: float, expected: str) -> None:
    assert f"{expected} --> " in captions.srt(Transcript(None, (Cue("x", seconds, seconds),)))


@given(st.text(min_size=1).filter(str.strip))
def test_whatever_is_said_is_one_cue_in_every_format(text: str) -> None:
    transcript = captions.parse({"segments": [{"start": 1, "end": 2, "text": text}]})

    assert captions.srt(transcript).count("\n") == 3
    written = captions.vtt(transcript)
    assert len(re.findall(r"-->", written)) == 1
    assert "<" not in written.split("\n", 3)[3]
    assert len(json.loads(captions.document(transcript))["cues"]) == 1


# What is none

SEGMENT = {"start": 0, "end": 1, "text": "x"}


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        "Waves roll in.",
        {},
        {"text": "Waves roll in."},
        {"segments": "x"},
        {"chunks": {"text": "x"}},
        {"segments": [{"text": "x"}]},
        {"segments": [{**SEGMENT, "start": None}]},
        {"segments": [{**SEGMENT, "end": "soon"}]},
        {"segments": [{**SEGMENT, "end": float("nan")}]},
        {"segments": [{**SEGMENT, "end": float("inf")}]},
        {"segments": [{**SEGMENT, "words": [{"word": "x", "start": 0, "end": "soon"}]}]},
        {"segments": [{**SEGMENT, "words": [{"word": "x", "start": float("nan")}]}]},
        {"segments": [7]},
        {"segments": [SEGMENT, None]},
        {"segments": [{**SEGMENT, "words": 7}]},
        {"chunks": [{"text": "x", "timestamp": [None, None]}]},
        {"chunks": [{"text": "x", "timestamp": [0]}]},
        {"chunks": [{"text": "x", "timestamp": 7}]},
        {"chunks": [{"text": "x"}]},
        {"chunks": [7]},
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_has_no_times_or_no_known_shape_is_no_transcript(data: Any) -> None:
    with pytest.raises(NoTranscript):
        captions.parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["segments", "chunks", "text", "start", "end", "words", "timestamp"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_answer_makes_anything_but_a_transcript_or_none(data: Any) -> None:
    try:
        captions.srt(captions.parse(data))
    except NoTranscript:
        return
