"""Captions that move along with their timeline."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from shared.editor.timeline import CaptionCue, CaptionEdit, exact, seconds

# A cue that is cut to less than this is read by nobody.
SHORTEST_S = Fraction(1, 20)


def opened(cues: Iterable[CaptionCue], at: Fraction, by: Fraction) -> list[CaptionCue]:
    """The cues after time was put in: what begins there or later moves on, what is being shown is not torn."""
    return [_at(cue, exact(cue.start) + by, exact(cue.end) + by) if exact(cue.start) >= at else cue for cue in cues]


def closed(cues: Iterable[CaptionCue], start: Fraction, end: Fraction) -> list[CaptionCue]:
    """The cues after the time between start and end was taken out: what lies in it goes, what reaches into it is shown
    for less long, what comes later moves up."""
    return list(_closed(cues, start, end))


def moved(cues: Iterable[CaptionCue], edits: Iterable[CaptionEdit]) -> list[CaptionCue]:
    """The cues of a caption file, moved along with what was done to the timeline since."""
    found = list(cues)
    for edit in edits:
        at = exact(edit.at)
        if edit.remove:
            found = closed(found, at, at + exact(edit.remove))
        if edit.insert:
            found = opened(found, at, exact(edit.insert))
    return found


def _closed(cues: Iterable[CaptionCue], start: Fraction, end: Fraction) -> Iterator[CaptionCue]:
    def after(at: Fraction) -> Fraction:
        return at if at <= start else max(start, at - (end - start))

    for cue in cues:
        first, last = after(exact(cue.start)), after(exact(cue.end))
        untouched = exact(cue.end) - exact(cue.start) == last - first
        if untouched or last - first >= SHORTEST_S:
            yield _at(cue, first, last)


def _at(cue: CaptionCue, start: Fraction, end: Fraction) -> CaptionCue:
    return cue.model_copy(update={"start": seconds(start), "end": seconds(end)})
