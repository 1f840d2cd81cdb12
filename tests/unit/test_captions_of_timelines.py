"""Captions of a timeline: what is exported is what is shown, after everything that was done to the timeline."""

import pytest

from shared.editor import check, operations
from shared.editor.interchange.captions import transcript
from shared.editor.operations import RippleDelete
from shared.editor.timeline import Captions, Timeline
from shared.media import captions as formats
from shared.media.captions import Cue
from shared.media.subtitles import NotCaptions

FILE = b"1\n00:00:01,000 --> 00:00:02,000\nbefore\n\n2\n00:00:05,000 --> 00:00:07,000\nin it\n\n0:08 --> 0:09\nafter"


def cut(**captions: object) -> Timeline:
    clip = {"asset": "as_1", "out": 10.0}
    raw = {"title": "x", "timeline": {"tracks": [{"type": "video", "clips": [clip]}], "captions": captions}}
    line = check.parse(raw).timeline
    return operations.applied(line, RippleDelete(type="ripple-delete", start=4.0, end=6.0), {})


def test_captions_of_a_file_have_moved_along_with_the_timeline() -> None:
    line = cut(asset="as_2")

    assert line.captions
    assert transcript(line.captions, FILE).cues == (Cue("before", 1, 2), Cue("in it", 4, 5), Cue("after", 6, 7))


def test_cues_of_the_timeline_are_what_they_are_in_the_file() -> None:
    line = cut(cues=[{"text": "one\n\n  \ntwo", "start": 8.0, "end": 9.0}, {"text": " \n ", "start": 9.0, "end": 9.5}])

    assert line.captions
    assert transcript(line.captions).cues == (Cue("one\ntwo", 6, 7),)
    assert formats.srt(transcript(line.captions)) == "1\n00:00:06,000 --> 00:00:07,000\none\ntwo\n"


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(NotCaptions):
        transcript(Captions(asset="as_2"), b"hello")
