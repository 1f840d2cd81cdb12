"""Caption files of users read: SubRip (SRT), WebVTT and Advanced SubStation Alpha (ASS, SSA). They are written by
`captions`, which knows text and times and nothing else; what a file has besides is listed, with the line it is in.

WebVTT: www.w3.org/TR/webvtt1. SRT and ASS have no standard; ASS as libass reads it.
"""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from shared.media.captions import Cue, Transcript
from shared.media.notes import Note, Notes

type Format = Literal["srt", "vtt", "ass"]

MOST_BYTES = 1_000_000
MOST_CUES = 10_000
MOST_CHARACTERS = 2_000
LATEST_S = 360_000.0

BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
LINE_END = re.compile(r"\r\n|\r|\n")
# Hours may be missing, and SRT and VTT take each other's point.
TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?"
TIMES = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?:\s(.*))?")
# A line that means to have times, be they right or wrong.
MEANT_AS_TIMES = re.compile(r"\s*\d[\d:.,]*\s*-->")
ASS_TIME = re.compile(rf"\s*{TIME}\s*")
VTT_TAG = re.compile(r"</?(?:(c|i|b|u|ruby|rt|v|lang)\b[^<>]*|(\d[\d:.]*))>")
SRT_TAG = re.compile(r"</?(b|i|u|s|font)\b[^<>]*>", re.IGNORECASE)
ASS_BLOCK = re.compile(r"\{([^{}]*)\}")
ASS_TAG = re.compile(r"\\\s*(\d?[a-zA-Z]+)")
# `\fn` and `\r` are followed by a name: of a font, of a style.
ASS_NAMED = re.compile(r"(fn|r)(?=[A-Z])")
ASS_DRAWING = re.compile(r"\\p\s*(\d+)")
SRT_POSITION = re.compile(r"\{\\([a-zA-Z]+)[^{}]*\}")


class NotCaptions(ValueError):
    """No cue can be read; says why, and where."""


@dataclass(frozen=True)
class Subtitles:
    """What was read, and what of it was not."""

    format: Format
    encoding: str
    transcript: Transcript
    lost: tuple[Note, ...] = ()


def read(data: bytes) -> Subtitles:
    """The captions of a file in any of the formats; which one is told by its first lines. Cues come in the order of
    their beginnings. Raises NotCaptions if the file is too large, is not text, or has no cue."""
    if len(data) > MOST_BYTES:
        raise NotCaptions(f"{len(data):,} bytes, at most {MOST_BYTES:,} are read")
    text, encoding = _decoded(data)
    lines = LINE_END.split(text)
    kind = _format(lines)
    notes = Notes()
    if encoding == "cp1252":
        notes.add("line 1", "not UTF-8: read as Windows-1252")
    cues = list(_READERS[kind](lines, notes))
    if not cues:
        first = next(iter(notes.all()), None)
        raise NotCaptions(f"{first.where}: {first.what}" if first else "there is no cue in it")
    if cues != (ordered := sorted(cues, key=lambda cue: cue.start)):
        notes.add("", "cues out of order: sorted by their beginnings")
    return Subtitles(kind, encoding, Transcript(None, tuple(ordered)), notes.all())


def _decoded(data: bytes) -> tuple[str, str]:
    """The text and its encoding: what a byte order mark says, else UTF-16 where every other byte is nothing, else
    UTF-8, else Windows-1252, which old players wrote."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _strictly(data[len(mark) :], encoding), encoding
    head = data[:400]
    for nothing, encoding in ((head[1::2], "utf-16-le"), (head[::2], "utf-16-be")):
        if nothing and nothing.count(0) > 0.8 * len(nothing):
            return _strictly(data, encoding), encoding
    if b"\0" in data:
        raise NotCaptions(f"byte {data.index(0)}: this is not text")
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return _strictly(data, "cp1252"), "cp1252"


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise NotCaptions(f"line {line}: this is not text in {encoding}") from error


def _format(lines: list[str]) -> Format:
    """Raises NotCaptions."""
    first = next((line.strip() for line in lines if line.strip()), "")
    if first == "WEBVTT" or first.startswith(("WEBVTT ", "WEBVTT\t")):
        return "vtt"
    if first.startswith("[") or first.startswith(";") or any(line.startswith("Dialogue:") for line in lines[:200]):
        return "ass"
    if any(MEANT_AS_TIMES.match(line) for line in lines):
        return "srt"
    raise NotCaptions("line 1: neither WEBVTT, nor [Script Info], nor a time like 00:00:01,000 --> 00:00:02,000")


# SRT and VTT

type Plain = Callable[[str, str, Notes], str]


@dataclass(frozen=True)
class _Block:
    """Lines up to a blank one; `line` is the number of the first."""

    line: int
    lines: list[str]


def _blocks(lines: list[str]) -> Iterator[_Block]:
    begun, block = 1, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            if not block:
                begun = number
            block.append(line)
        elif block:
            yield _Block(begun, block)
            block = []


def _srt(lines: list[str], notes: Notes) -> Iterator[Cue]:
    for block in _blocks(lines):
        # Files exist that have no blank line between two cues, so every line of times begins one.
        marks = [index for index, line in enumerate(block.lines) if MEANT_AS_TIMES.match(line)]
        if not marks:
            notes.add(f"line {block.line}", "text without times")
            continue
        for mark, following in zip(marks, [*marks[1:], len(block.lines)], strict=True):
            said = block.lines[mark + 1 : following]
            if following < len(block.lines) and said and said[-1].strip().isdecimal():
                said = said[:-1]
            yield from _cue(block.lines[mark], said, block.line + mark, notes, _srt_text)


def _vtt(lines: list[str], notes: Notes) -> Iterator[Cue]:
    for block in _blocks(lines):
        head = block.lines[0].strip().lstrip("\ufeff")
        where = f"line {block.line}"
        mark = next((index for index, line in enumerate(block.lines[:2]) if MEANT_AS_TIMES.match(line)), None)
        if mark is not None:
            if mark == 1:
                notes.add(where, "names of cues")
            yield from _cue(block.lines[mark], block.lines[mark + 1 :], block.line + mark, notes, _vtt_text)
        elif head.startswith(("STYLE", "REGION", "NOTE")):
            notes.add(where, {"S": "a style sheet", "R": "a region", "N": "a comment"}[head[0]])
        elif not head.startswith("WEBVTT"):
            notes.add(where, "text without times")
        elif len(block.lines) > 1:
            notes.add(where, "lines of the header")


def _cue(times: str, said: list[str], line: int, notes: Notes, plain: Plain) -> Iterator[Cue]:
    where = f"line {line}"
    found = TIMES.fullmatch(times)
    if found is None:
        notes.add(where, f"these are no times: {times.strip()[:60]}")
        return
    if found[9]:
        notes.add(where, "placement of cues")
    text = "\n".join(filter(None, (plain(part, where, notes).strip() for part in said)))
    yield from _made(text, _seconds(found.groups()[:4]), _seconds(found.groups()[4:8]), where, notes)


def _made(text: str, start: float | None, end: float | None, where: str, notes: Notes) -> Iterator[Cue]:
    """The cue, if it can be shown."""
    if start is None or end is None:
        notes.add(where, "a time that no clock shows")
    elif end <= start:
        notes.add(where, f"the cue ends at {end:g} s, where it has not begun")
    elif not text.strip():
        notes.add(where, "a cue without text")
    else:
        if len(text) > MOST_CHARACTERS:
            notes.add(where, f"what is beyond {MOST_CHARACTERS:,} characters of a cue")
        yield Cue(text[:MOST_CHARACTERS].rstrip(), start, end)


def _seconds(parts: tuple[str | None, ...]) -> float | None:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    if int(minutes) > 59 or int(seconds) > 59:
        return None
    # Players read "1,5" as a half of a second and so do we; ASS has hundredths.
    total = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction}")
    return round(total, 3) if total < LATEST_S else None


def _srt_text(line: str, where: str, notes: Notes) -> str:
    for tag in SRT_TAG.findall(line):
        notes.add(where, f"<{tag.lower()}>")
    for tag in SRT_POSITION.findall(line):
        notes.add(where, f"\\{tag}")
    return SRT_POSITION.sub("", SRT_TAG.sub("", line))


def _vtt_text(line: str, where: str, notes: Notes) -> str:
    for tag, _ in VTT_TAG.findall(line):
        notes.add(where, f"<{tag}>" if tag else "times within a cue")
    return html.unescape(VTT_TAG.sub("", line))


# ASS

ASS_FIELDS = ["layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text"]


def _ass(lines: list[str], notes: Notes) -> Iterator[Cue]:
    section, fields = "", ASS_FIELDS
    for number, line in enumerate(lines, start=1):
        where, written = f"line {number}", line.strip().lstrip("\ufeff")
        if written.startswith("[") and written.endswith("]"):
            section = written[1:-1].lower()
            if section in {"fonts", "graphics"}:
                notes.add(where, f"files in the section [{section}]")
            continue
        key, _, value = written.partition(":")
        if section in {"v4 styles", "v4+ styles"} and key == "Style":
            notes.add(where, "styles")
        elif key == "Comment":
            notes.add(where, "comments")
        elif section == "events" and key == "Format":
            fields = [name.strip().lower() for name in value.split(",")]
            if not {"start", "end", "text"} <= set(fields) or fields[-1] != "text":
                raise NotCaptions(f"{where}: the format of the events must name Start and End, and Text at last")
        elif key == "Dialogue":
            yield from _dialogue(value, fields, where, notes)
        elif section == "events" and key in {"Picture", "Sound", "Movie", "Command"}:
            notes.add(where, f"events of the kind {key}")


def _dialogue(value: str, fields: list[str], where: str, notes: Notes) -> Iterator[Cue]:
    parts = value.split(",", len(fields) - 1)
    if len(parts) != len(fields):
        notes.add(where, f"{len(parts)} of {len(fields)} fields")
        return
    event = dict(zip(fields, map(str.strip, parts), strict=True))
    start, end = ASS_TIME.fullmatch(event["start"]), ASS_TIME.fullmatch(event["end"])
    if start is None or end is None:
        notes.add(where, f"these are no times: {event['start'][:20]}, {event['end'][:20]}")
        return
    if event.get("effect"):
        notes.add(where, "effects of lines")
    if event.get("name"):
        notes.add(where, "names of speakers")
    text = _ass_text(event["text"], where, notes)
    yield from _made(text, _seconds(start.groups()), _seconds(end.groups()), where, notes)


def _ass_text(text: str, where: str, notes: Notes) -> str:
    """The text without what is in braces. Between `{\\p1}` and `{\\p0}` it is a drawing."""
    said, drawing, at = list[str](), False, 0
    for block in ASS_BLOCK.finditer(text):
        said += [] if drawing else [text[at : block.start()]]
        at = block.end()
        for tag in ASS_TAG.findall(block[1]):
            named = ASS_NAMED.match(tag)
            notes.add(where, f"\\{named[1] if named else tag}")
        if "\\" not in block[1]:
            notes.add(where, "comments in braces")
        for scale in ASS_DRAWING.findall(block[1]):
            drawing = int(scale[:6]) > 0
            if drawing:
                notes.add(where, "drawings")
    said += [] if drawing else [text[at:]]
    plain = "".join(said).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", "\u00a0")
    return "\n".join(filter(None, (line.strip() for line in plain.split("\n"))))


_READERS: dict[Format, Callable[[list[str], Notes], Iterator[Cue]]] = {"srt": _srt, "vtt": _vtt, "ass": _ass}
