"""Captions: one shape for what providers answer, written as SubRip (SRT), WebVTT and JSON.

SRT has no standard; times are `HH:MM:SS,mmm`. WebVTT: www.w3.org/TR/webvtt1.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """A spoken word; times are seconds from the beginning."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Cue:
    """What is shown at once."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """What is said, in order."""

    language: str | None
    cues: tuple[Cue, ...]

    @property
    def text(self) -> str:
        return " ".join(cue.text for cue in self.cues)

    @property
    def duration_s(self) -> float:
        return max((cue.end for cue in self.cues), default=0.0)


LONGEST_CUE_S = 6.0
LONGEST_CUE = 84


class NoTranscript(ValueError):
    """The provider's answer has no shape that we know."""


def parse(data: Any) -> Transcript:
    """A transcript from what Whisper models answer: `segments` with words (Replicate), or `chunks` with `timestamp`
    (fal), a word or a sentence each. Raises NoTranscript."""
    if isinstance(data, list):
        data = {"segments": data}
    if not isinstance(data, dict):
        raise NoTranscript("no object")
    language = data.get("detected_language") or data.get("language")
    if isinstance(data.get("segments"), list):
        segments = map(_object, data["segments"])
        cues = tuple(_segment(segment) for segment in segments if str(segment.get("text") or "").strip())
    elif isinstance(data.get("chunks"), list):
        cues = _grouped([word for word in map(_chunk, map(_object, data["chunks"])) if word.text])
    else:
        raise NoTranscript("neither segments nor chunks")
    return Transcript(str(language) if language else None, cues)


def srt(transcript: Transcript) -> str:
    """SubRip."""
    blocks = (
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(transcript.cues, start=1)
    )
    return "\n".join(blocks)


def vtt(transcript: Transcript) -> str:
    """WebVTT; text is data, so what would be markup is escaped."""
    blocks = (f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in transcript.cues)
    return "\n".join(["WEBVTT\n", *blocks])


def document(transcript: Transcript) -> str:
    """JSON: text, language, and cues with their words."""
    return json.dumps(
        {"text": transcript.text, "language": transcript.language, "cues": [asdict(cue) for cue in transcript.cues]},
        ensure_ascii=False,
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NoTranscript("no object in the list")
    return value


def _segment(segment: dict[str, Any]) -> Cue:
    spoken = segment.get("words") or []
    if not isinstance(spoken, list):
        raise NoTranscript("no list of words")
    start, end = _seconds(segment.get("start")), _seconds(segment.get("end"))
    return Cue(_line(segment["text"]), start, end, _words(spoken, end))


def _words(spoken: list[Any], last: float) -> tuple[Word, ...]:
    """The words that have a text and a beginning. One without an end lasts until the next begins, or until `last`."""
    timed = [word for word in spoken if isinstance(word, dict) and word.get("start") is not None and _spoken(word)]
    starts = [_seconds(word["start"]) for word in timed]
    ends = [
        max(start, following) if word.get("end") is None else _seconds(word["end"])
        for word, start, following in zip(timed, starts, [*starts, last][1:], strict=True)
    ]
    return tuple(Word(_spoken(word), start, end) for word, start, end in zip(timed, starts, ends, strict=True))


def _spoken(word: dict[str, Any]) -> str:
    return str(word.get("word") or word.get("text") or "").strip()


def _chunk(chunk: dict[str, Any]) -> Word:
    times = chunk.get("timestamp")
    if not isinstance(times, list) or len(times) != 2:
        raise NoTranscript(f"no times: {times!r}")
    start, end = times
    return Word(_line(chunk.get("text") or ""), _seconds(start), _seconds(end if end is not None else start))


def _grouped(words: list[Word]) -> tuple[Cue, ...]:
    """Words as cues of a readable length, broken after sentences."""
    cues: list[Cue] = []
    line: list[Word] = []
    for word in words:
        line.append(word)
        text = " ".join(part.text for part in line)
        if word.text.endswith((".", "?", "!")) or len(text) >= LONGEST_CUE or word.end - line[0].start >= LONGEST_CUE_S:
            cues.append(Cue(text, line[0].start, word.end, tuple(line)))
            line = []
    if line:
        cues.append(Cue(" ".join(part.text for part in line), line[0].start, line[-1].end, tuple(line)))
    return tuple(cues)


def _line(text: Any) -> str:
    """One line: a blank line would end the cue."""
    return " ".join(str(text).split())


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise NoTranscript(f"no time: {value!r}")
    return max(0.0, round(seconds, 3))


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
