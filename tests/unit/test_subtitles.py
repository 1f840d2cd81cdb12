"""Caption files: three formats and many habits of writing them become the same cues, and what is lost is said."""

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media import captions, subtitles
from shared.media.captions import Cue, Transcript
from shared.media.notes import MOST_NOTES, Note
from shared.media.subtitles import MOST_BYTES, MOST_CHARACTERS, NotCaptions

SRT = """1
00:00:01,000 --> 00:00:02,500
Waves roll in.

2
00:00:03,000 --> 00:01:04,000
Fish & chips.
Twice.
"""
VTT = """WEBVTT

00:01.000 --> 00:02.500
Waves roll in.

00:00:03.000 --> 00:01:04.000
Fish &amp; chips.
Twice.
"""
ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,Waves roll in.
Dialogue: 0,0:00:03.00,0:01:04.00,Default,,0,0,0,,Fish & chips.\\NTwice.
"""
CUES = (Cue("Waves roll in.", 1.0, 2.5), Cue("Fish & chips.\nTwice.", 3.0, 64.0))


def cues(text: str) -> list[tuple[str, float, float]]:
    return [(cue.text, cue.start, cue.end) for cue in subtitles.read(text.encode()).transcript.cues]


def lost(text: str) -> list[tuple[str, str, int]]:
    return [(note.where, note.what, note.times) for note in subtitles.read(text.encode()).lost]


def srt(text: str, times: str = "00:00:01,000 --> 00:00:02,000") -> str:
    return f"1\n{times}\n{text}\n"


def ass(*lines: str) -> str:
    return "\n".join([ASS.partition("Dialogue")[0].strip(), *lines, ""])


def said(text: str) -> str:
    return f"Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{text}"


@pytest.mark.parametrize(("text", "kind"), [(SRT, "srt"), (VTT, "vtt"), (ASS, "ass")])
def test_every_format_gives_the_same_cues_and_nothing_is_lost(text: str, kind: str) -> None:
    read = subtitles.read(text.encode())

    assert (read.format, read.encoding, read.lost) == (kind, "utf-8", ())
    assert read.transcript.cues == CUES


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("text", [SRT, VTT, ASS])
def test_lines_end_as_they_like(text: str, end: str) -> None:
    assert subtitles.read(text.replace("\n", end).encode()).transcript.cues == CUES


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-8", b""),
    ],
)
@pytest.mark.parametrize("text", [SRT, VTT, ASS])
def test_unicode_is_recognised_with_and_without_its_mark(text: str, encoding: str, mark: bytes) -> None:
    read = subtitles.read(mark + text.replace("Waves", "Ünïcode 明日").encode(encoding))

    assert (read.encoding, read.transcript.cues[0].text, read.lost) == (encoding, "Ünïcode 明日 roll in.", ())


def test_old_files_are_read_as_windows_1252_and_it_is_said() -> None:
    read = subtitles.read(SRT.replace("Waves", "Grüße…").encode("cp1252"))

    assert read.transcript.cues[0].text == "Grüße… roll in."
    assert read.lost == (Note("line 1", "not UTF-8: read as Windows-1252"),)


@pytest.mark.parametrize(
    ("times", "start", "end"),
    [
        ("00:00:01.000 --> 00:00:02.000", 1, 2),
        ("0:0:1,5 --> 0:0:2,25", 1.5, 2.25),
        ("00:01 --> 00:02", 1, 2),
        ("  00:00:01,000-->00:00:02,000  ", 1, 2),
        ("100:00:00,000 --> 101:00:00,000", 360_000, 363_600),
        ("99:59:58,000 --> 99:59:59,999", 359_998, 359_999.999),
    ],
)
def test_times_are_read_as_people_write_them_up_to_a_hundred_hours(times: str, start: float, end: float) -> None:
    if end < subtitles.LATEST_S:
        assert cues(srt("x", times)) == [("x", start, end)]
    else:
        with pytest.raises(NotCaptions, match=r"^line 2: a time that no clock shows$"):
            cues(srt("x", times))


def test_a_cue_that_cannot_be_shown_is_left_out_and_named_with_its_line() -> None:
    broken = (
        "1\n00:00:01,000 --> soon\nx\n\n2\n00:00:03,000 --> 00:00:02,000\nx\n\n"
        "3\n00:61:03,000 --> 00:62:02,000\nx\n\n4\n00:00:04,000 --> 00:00:05,000\n\nlost\n\n"
        "5\n00:00:06,000 --> 00:00:07,000\nkept\n"
    )

    assert cues(broken) == [("kept", 6, 7)]
    assert lost(broken) == [
        ("line 2", "these are no times: 00:00:01,000 --> soon", 1),
        ("line 6", "the cue ends at 2 s, where it has not begun", 1),
        ("line 10", "a time that no clock shows", 1),
        ("line 14", "a cue without text", 1),
        ("line 16", "text without times", 1),
    ]


def test_srt_needs_neither_numbers_nor_blank_lines() -> None:
    assert cues("0:01 --> 0:02\na\n2\n0:02 --> 0:03\nb\n0:04 --> 0:05\n7") == [
        ("a", 1, 2),
        ("b", 2, 3),
        ("7", 4, 5),
    ]  # fmt: skip


def test_the_markup_of_srt_is_stripped_and_listed_but_not_what_only_looks_like_it() -> None:
    text = srt('{\\an8}<i>Waves</i> <FONT color="red">roll</FONT> a < b > c <3 {sic}')

    assert cues(text) == [("Waves roll a < b > c <3 {sic}", 1, 2)]
    assert lost(text) == [("line 2", "<i>", 2), ("line 2", "<font>", 2), ("line 2", "\\an", 1)]


def test_of_vtt_voices_styles_regions_notes_settings_and_names_are_listed() -> None:
    text = (
        "\ufeffWEBVTT - a title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:a\n\nNOTE\nto do\n\n"
        "intro\n00:01.000 --> 00:02.000 align:start line:0\n"
        "<v Mary>Hello <c.yellow>you</c> <00:01.500>there</v> &lt;3 &amp; <x>\n"
    )

    assert cues(text) == [("Hello you there <3 & <x>", 1, 2)]
    assert lost(text) == [
        ("line 1", "lines of the header", 1),
        ("line 4", "a style sheet", 1),
        ("line 7", "a region", 1),
        ("line 10", "a comment", 1),
        ("line 13", "names of cues", 1),
        ("line 14", "placement of cues", 1),
        ("line 14", "<v>", 2),
        ("line 14", "<c>", 2),
        ("line 14", "times within a cue", 1),
    ]


def test_what_is_escaped_twice_is_unescaped_once() -> None:
    assert cues("WEBVTT\n\n00:01.000 --> 00:02.000\n&amp;lt;b&amp;gt;\n") == [("&lt;b&gt;", 1, 2)]


def test_marks_of_right_to_left_text_are_kept() -> None:
    assert cues("WEBVTT\n\n00:01.000 --> 00:02.000\n\u200fשלום&rlm;!\n") == [("\u200fשלום\u200f!", 1, 2)]


def test_the_override_tags_of_ass_are_stripped_and_listed() -> None:
    text = ass(
        said("{\\an8\\fnArial\\1c&H00FF00&}Waves{\\i1} roll{\\i0}\\hin\\nagain, and{\\rAlt} {note}again"),
        said("{\\fad(100,200)\\i1}x"),
    )

    assert [cue[0] for cue in cues(text)] == ["Waves roll\u00a0in\nagain, and again", "x"]
    assert lost(text) == [
        ("line 6", "\\an", 1),
        ("line 6", "\\fn", 1),
        ("line 6", "\\1c", 1),
        ("line 6", "\\i", 3),
        ("line 6", "\\r", 1),
        ("line 6", "comments in braces", 1),
        ("line 7", "\\fad", 1),
    ]


def test_a_drawing_is_no_text() -> None:
    text = ass(said("{\\p1}m 0 0 l 100 0{\\p0}Waves"), said("{\\p2}m 0 0"), said("{\\pos(1,2)}kept"))

    assert [cue[0] for cue in cues(text)] == ["Waves", "kept"]
    assert ("line 6", "drawings", 2) in lost(text)
    assert ("line 7", "a cue without text", 1) in lost(text)


def test_of_ass_comments_styles_speakers_effects_and_files_are_listed() -> None:
    text = (
        "[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default, Arial\nStyle: Alt, Arial\n[Fonts]\nfontname: a.ttf\n"
        "[Events]\nFormat: Start, End, Name, Effect, Text\nComment: 0:00:01.00,0:00:02.00,,,x\n"
        "Dialogue: 0:00:01.00,0:00:02.00,Mary,Karaoke,Hello, you\nPicture: 0:00:01.00,0:00:02.00,,,a.png\n"
        "Dialogue: 0:00:01.00,soon,,,x\nDialogue: 0:00:01.00\n"
    )

    assert cues(text) == [("Hello, you", 1, 2)]
    assert lost(text) == [
        ("line 3", "styles", 2),
        ("line 5", "files in the section [fonts]", 1),
        ("line 9", "comments", 1),
        ("line 10", "effects of lines", 1),
        ("line 10", "names of speakers", 1),
        ("line 11", "events of the kind Picture", 1),
        ("line 12", "these are no times: 0:00:01.00, soon", 1),
        ("line 13", "1 of 5 fields", 1),
    ]


def test_cues_are_in_the_order_of_their_beginnings_and_a_change_is_said() -> None:
    text = srt("second", "00:00:05,000 --> 00:00:06,000") + "\n" + srt("first")

    assert [cue[0] for cue in cues(text)] == ["first", "second"]
    assert lost(text) == [("", "cues out of order: sorted by their beginnings", 1)]


def test_what_is_too_long_for_a_cue_is_cut_and_said() -> None:
    text = srt("w" * 5_000)

    assert len(cues(text)[0][0]) == MOST_CHARACTERS
    assert lost(text) == [("line 2", f"what is beyond {MOST_CHARACTERS:,} characters of a cue", 1)]


def test_a_file_with_endless_faults_has_a_short_list_of_them() -> None:
    read = subtitles.read("\n\n".join([*(f"{n}\n{n} --> soon\nx" for n in range(5_000)), srt("x")]).encode())

    assert len(read.lost) == MOST_NOTES + 1
    assert read.lost[-1] == Note("", "further notes", 5_000 - MOST_NOTES)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "line 1: neither WEBVTT"),
        (b"hello\n", "line 1: neither WEBVTT"),
        (b"WEBVTT\n", "there is no cue in it"),
        (b"[Events]\n", "there is no cue in it"),
        (b"[Events]\nFormat: Text, Start, End\n", "line 2: the format of the events"),
        (b"1\n00:00:01,000 --> 00:00:02\n\n", "line 2: a cue without text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "byte 8: this is not text"),
        (b"1\n\x81 --> x\n", "line 2: this is not text in cp1252"),
        (b"\xef\xbb\xbf1\n2\n\xff", "line 3: this is not text in utf-8"),
        (b"\xff\xfe1\0\n\0\x00\xd8", "line 2: this is not text in utf-16-le"),
    ],
    ids=str,
)
def test_a_file_without_a_cue_is_refused_with_the_place(data: bytes, why: str) -> None:
    with pytest.raises(NotCaptions, match=f"^{why}"):
        subtitles.read(data)


def test_a_file_that_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(NotCaptions, match="at most 1,000,000 are read"):
        subtitles.read(b"\xff" * (MOST_BYTES + 1))


HOSTILE = ["<c", "<b ", "{", "{\\", "{\\p1}", "\\ ", "-->", " ", "00:", "1", "&lt;", "\n\n", "--> \n", ","]


@pytest.mark.parametrize("head", ["WEBVTT\n\n00:01.000 --> 00:02.000\n", srt("x").strip(), ass(said("x")).strip()])
@pytest.mark.parametrize("part", HOSTILE)
def test_no_file_of_the_largest_size_takes_long(head: str, part: str) -> None:
    data = (head + part * MOST_BYTES)[: MOST_BYTES - 100].encode()

    began = time.process_time()
    with suppress(NotCaptions):
        subtitles.read(data)

    assert time.process_time() - began < 5


CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
LINES = st.lists(st.text(CHARACTERS).map(lambda text: " ".join(text.split())).filter(bool), min_size=1, max_size=2)
TIMED = st.lists(st.tuples(LINES, st.integers(1, 9_000)), min_size=1, max_size=5)


def transcript(timed: list[tuple[list[str], int]]) -> Transcript:
    made, now = [], 0
    for lines, milliseconds in timed:
        made.append(Cue("\n".join(lines), now / 1000, (now + milliseconds) / 1000))
        now += milliseconds
    return Transcript(None, tuple(made))


@given(TIMED)
def test_what_is_written_as_vtt_is_read_as_it_was(timed: list[tuple[list[str], int]]) -> None:
    written = transcript(timed)

    assert subtitles.read(captions.vtt(written).encode()).transcript == written


@given(TIMED)
def test_what_is_written_as_srt_is_read_as_it_was_where_it_is_no_markup(timed: list[tuple[list[str], int]]) -> None:
    written = transcript([([re.sub(r"[<>{}]", "", f"w {line} w") for line in lines], ms) for lines, ms in timed])

    assert subtitles.read(captions.srt(written).encode()).transcript == written


@given(st.sampled_from([SRT, VTT, ASS]), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=8))
def test_whatever_is_broken_is_read_or_refused_and_never_crashes(text: str, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(text.encode())
    for place, change in edits:
        data[place : place + len(change)] = change

    try:
        read = subtitles.read(bytes(data))
    except NotCaptions:
        return
    assert all(0 <= cue.start < cue.end and cue.text.strip() for cue in read.transcript.cues)
