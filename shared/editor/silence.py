"""Silence taken out of a clip: what is quiet becomes cuts, and cuts become operations on the timeline.

Quiet spans are in seconds of the source, cuts and settings in seconds of the timeline. Where a cut borders on sound a
margin is kept, so that no word loses its beginning or end; at the edges of the clip there is none to keep. A cut takes
the time out of the whole timeline, as every ripple-delete does: captions and later clips move along.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Literal

from shared.editor import operations
from shared.editor.operations import RippleDelete
from shared.editor.timeline import (
    Numbers,
    Silence,
    Sourced,
    Timeline,
    VideoClip,
    exact,
    over,
    placed,
    seconds,
)

# Between two half-waves it is quiet, too.
SHORTEST_HEARD_S = 0.05


class NoSource(ValueError):
    """There is no such clip, or none that has a sound of its own."""


@dataclass(frozen=True)
class Heard:
    """What of an asset a clip plays, in seconds of the source."""

    asset: str
    begin: Fraction
    end: Fraction


@dataclass(frozen=True)
class Cut:
    """From when to when on the timeline."""

    start: float
    end: float


@dataclass(frozen=True)
class _Place:
    """A clip and how the times of its source become those of the timeline. Between `free` and `until` no other clip is
    seen together with it."""

    heard: Heard
    start: Fraction
    speed: Fraction
    free: Fraction
    until: Fraction


def heard(line: Timeline, clip_id: str, numbers: Numbers) -> Heard:
    """What a clip plays. Raises NoSource, timeline.Unknown."""
    return _place(line, clip_id, numbers).heard


def cuts(
    line: Timeline, clip_id: str, quiet: Iterable[tuple[float, float]], settings: Silence, numbers: Numbers
) -> list[Cut]:
    """What to take out where a clip is quiet, in order. Raises NoSource, timeline.Unknown."""
    place = _place(line, clip_id, numbers)
    begin, end = place.heard.begin, place.heard.end
    margin, shortest = exact(settings.margin), exact(settings.min_duration)
    found = []
    for start, last in _joined(quiet):
        first, until = max(begin, start), min(end, last)
        if until - first < shortest * place.speed:
            continue
        # What plays faster keeps more of its source.
        first = begin if first <= begin else first + margin * place.speed
        until = end if until >= end else until - margin * place.speed
        at = max(place.free, place.start + (first - begin) / place.speed)
        to = min(place.until, place.start + (until - begin) / place.speed)
        if to - at > 1 / line.rate():
            found.append(Cut(seconds(at), seconds(to)))
    return found


def listened(
    line: Timeline,
    clip_id: str,
    file: BinaryIO,
    media_type: str,
    *,
    settings: Silence,
    mode: Literal["loudness", "speech"],
    numbers: Numbers,
) -> list[tuple[float, float]]:
    """Where a clip whose asset is `file` is quiet, or where nobody speaks (mode `speech`): what `cuts` takes.
    Raises NoSource, timeline.Unknown, probe.NotMedia."""
    from shared.media import sound

    place = _place(line, clip_id, numbers)
    begin, end = seconds(place.heard.begin), seconds(place.heard.end)
    if mode == "speech":
        spoken = sound.speech(file, media_type, begin=begin, end=end)
        return pauses([(span.start, span.end) for span in spoken], begin, end)
    shortest = max(SHORTEST_HEARD_S, settings.min_duration * float(place.speed))
    spans = sound.quiet(
        file, media_type, begin=begin, end=end, threshold_db=settings.threshold_db, min_duration=shortest
    )
    return [(span.start, span.end) for span in spans]


def pauses(speech: Iterable[tuple[float, float]], begin: float, end: float) -> list[tuple[float, float]]:
    """The time between what is spoken."""
    edges = [begin, *(edge for span in sorted(speech) for edge in span), end]
    return [(edges[at], edges[at + 1]) for at in range(0, len(edges), 2) if edges[at + 1] > edges[at]]


def applied(line: Timeline, found: Sequence[Cut], numbers: Numbers) -> Timeline:
    """The timeline without the cuts. Raises operations.Refused."""
    for operation in as_operations(found):
        line = operations.applied(line, operation, numbers)
    return line


def as_operations(found: Sequence[Cut]) -> list[RippleDelete]:
    """From the last to the first, so that none moves another."""
    return [RippleDelete(type="ripple-delete", start=cut.start, end=cut.end) for cut in reversed(found)]


def _joined(spans: Iterable[tuple[float, float]]) -> Iterable[tuple[Fraction, Fraction]]:
    """The spans in order, those that meet as one."""
    joined: list[tuple[Fraction, Fraction]] = []
    for start, end in sorted((exact(start), exact(end)) for start, end in spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _place(line: Timeline, clip_id: str, numbers: Numbers) -> _Place:
    for track in line.tracks:
        for number, clip in enumerate(track.clips):
            if clip.id != clip_id:
                continue
            asset = getattr(clip, "asset", None)
            if not isinstance(clip, Sourced) or asset is None:
                raise NoSource("the clip has no sound of its own")
            lies = placed(track, numbers)
            one, speed = lies[number], exact(clip.speed)
            begin = exact(clip.in_)
            played = Heard(asset, begin, begin + (one.end - one.start) * speed)
            before = over(lies[number - 1].clip) if number and isinstance(clip, VideoClip) else Fraction(0)
            return _Place(played, one.start, speed, one.start + before, one.end - over(one.clip))
    raise NoSource("there is no such clip")
