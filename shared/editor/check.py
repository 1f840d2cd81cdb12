"""What is wrong with a project's document, each flaw with the JSON pointer of where it is.

`parse` tells what the types refuse, `flaws` what only the whole can tell (order, overlaps, transitions, variables), and
`asset_flaws` what the assets cannot give. What is known of an asset comes in as plain values.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from pydantic import ValidationError

from shared.core import pointers
from shared.editor import templates, timeline
from shared.editor.timeline import (
    MOST_CLIPS,
    AnyTrack,
    AudioClip,
    Document,
    Numbers,
    Sourced,
    Timeline,
    Unknown,
    VideoClip,
    VideoTrack,
    exact,
)

Family = Literal["image", "video", "audio", "captions", "other"]

# Two times that are both written to the billionth, and a length that was divided by a speed, may differ by this much.
TOLERANCE = Fraction(1, 1_000_000)
# An asset's duration is known to the millisecond, and its last frame is shown a little longer than that may say.
SLACK = Fraction(1, 20)


@dataclass(frozen=True)
class Flaw:
    """Something wrong, and where in the document."""

    pointer: str
    detail: str

    def told(self) -> dict[str, str]:
        """As in a problem's `errors`."""
        return {"pointer": self.pointer, "detail": self.detail}


@dataclass(frozen=True)
class Facts:
    """What is known of an asset; `duration_s` is None for what lasts as long as it is shown."""

    family: Family
    duration_s: float | None = None
    has_sound: bool = True


class Flawed(Exception):
    """The document has flaws."""

    def __init__(self, found: Sequence[Flaw]) -> None:
        super().__init__("; ".join(f"{flaw.pointer}: {flaw.detail}" for flaw in found))
        self.flaws = tuple(found)


def parse(raw: Mapping[str, Any]) -> Document:
    """A document of the right types, with an id for every clip. Raises Flawed."""
    try:
        document = Document.model_validate(raw)
    except ValidationError as error:
        raise Flawed(told(error, raw)) from error
    return document.model_copy(update={"timeline": timeline.with_ids(document.timeline)})


def read(raw: Mapping[str, Any]) -> Document:
    """A document that is in order by itself, whatever its assets are. Raises Flawed."""
    document = parse(raw)
    found = list(flaws(document))
    if found:
        raise Flawed(found)
    return document


def checked(document: Document, facts: Mapping[str, Facts], *, gone: Collection[str] = ()) -> Document:
    """The document, complete, if it and its assets are in order. Assets that are `gone` may be missing: they were there
    when they were put in. Raises Flawed."""
    document = filled(document, facts)
    found = [*flaws(document), *asset_flaws(document, facts, gone=gone)]
    if found:
        raise Flawed(found)
    return document


def told(error: ValidationError, raw: Any) -> list[Flaw]:
    """Pydantic's flaws, each with a pointer into what was given: the names of models and tags are no part of it."""
    found: dict[str, Flaw] = {}
    for flaw in error.errors(include_url=False, include_context=False, include_input=False):
        where = pointers.spelt(pointers.within(flaw["loc"], raw))
        found.setdefault(where, Flaw(where, flaw["msg"].removeprefix("Value error, ")))
    return list(found.values())


def flaws(document: Document, values: Numbers | None = None) -> Iterator[Flaw]:
    """What the types cannot tell, for a document on its own. Durations that are variables have these values, or their
    defaults."""
    line = document.timeline
    numbers = {**templates.numbers(document.variables), **(values or {})}
    yield from (Flaw(where, detail) for where, detail in templates.flaws(document))
    if sum(len(track.clips) for track in line.tracks) > MOST_CLIPS:
        yield Flaw("/timeline/tracks", f"more than {MOST_CLIPS:,} clips")
    yield from _ids(line)
    yield from _video_tracks(line)
    for number, track in enumerate(line.tracks):
        where = f"/timeline/tracks/{number}/clips"
        mistaken = list(_clips(track, where))
        yield from mistaken
        if mistaken:
            continue
        try:
            yield from _layout(line, track, where, numbers)
        except Unknown:
            continue  # A variable without a default: an export gives it, and is checked with it.
    yield from _cues(line)
    yield from _output(document, numbers)


def _ids(line: Timeline) -> Iterator[Flaw]:
    seen: dict[str, str] = {}
    for where, clip in timeline.clips(line):
        if clip.id is None:
            continue
        if clip.id in seen:
            yield Flaw(f"{where}/id", f"is the id of {seen[clip.id]}, too")
        seen.setdefault(clip.id, where)


def _video_tracks(line: Timeline) -> Iterator[Flaw]:
    video = [number for number, track in enumerate(line.tracks) if isinstance(track, VideoTrack)]
    for number in video[1:]:
        yield Flaw(
            f"/timeline/tracks/{number}/type", f"the video track is /timeline/tracks/{video[0]}; others are overlays"
        )


def _clips(track: AnyTrack, where: str) -> Iterator[Flaw]:
    for number, clip in enumerate(track.clips):
        here = f"{where}/{number}"
        if not isinstance(clip, Sourced):
            continue
        if isinstance(clip, VideoClip):
            shown = [name for name in ("asset", "color", "gap") if getattr(clip, name) is not None]
            if len(shown) != 1:
                yield Flaw(here, "needs one of asset, color and gap")
                continue
            if shown != ["asset"] and (clip.duration is None or clip.out is not None or clip.in_):
                yield Flaw(here, f"a {shown[0]} has a duration, and neither in nor out")
                continue
        if clip.out is not None and clip.duration is not None:
            yield Flaw(f"{here}/duration", "has out already; one of the two")
        elif clip.out is None and clip.duration is None:
            yield Flaw(here, "needs out or duration")
        elif clip.out is not None and clip.out <= clip.in_:
            yield Flaw(f"{here}/out", f"not after in, {spelt(exact(clip.in_))}")


def _layout(line: Timeline, track: AnyTrack, where: str, numbers: Numbers) -> Iterator[Flaw]:
    frames_a_second = line.rate()
    found = timeline.placed(track, numbers)
    for number, one in enumerate(found):
        here = f"{where}/{number}"
        before = found[number - 1] if number else None
        following = number + 1 < len(found)
        if timeline.frame(one.end, frames_a_second) <= timeline.frame(one.start, frames_a_second):
            yield Flaw(here, f"shorter than a frame, {spelt(1 / frames_a_second)}")
        if one.end > timeline.LONGEST_S:
            yield Flaw(here, f"ends after {timeline.LONGEST_S // 3600} hours")
        if isinstance(one.clip, VideoClip):
            if one.clip.transition and not following:
                yield Flaw(f"{here}/transition", "there is no clip after this one")
            shared = timeline.over(one.clip) + (timeline.over(before.clip) if before else 0)
            if shared > one.end - one.start:
                at = f"{here}/transition" if one.clip.transition else f"{where}/{number - 1}/transition"
                yield Flaw(f"{at}/duration", f"longer than the clip has room for, {spelt(one.end - one.start)}")
        elif before and before.end - one.start > TOLERANCE:
            yield Flaw(f"{here}/start", f"before the end of the clip before it, {spelt(before.end)}")


def _cues(line: Timeline) -> Iterator[Flaw]:
    cues = (line.captions.cues if line.captions else None) or []
    for number, (cue, following) in enumerate(pairwise(cues), start=1):
        if following.start < cue.start:
            yield Flaw(f"/timeline/captions/cues/{number}/start", "before that of the cue before it")


def _output(document: Document, numbers: Numbers) -> Iterator[Flaw]:
    try:
        total = timeline.duration(document.timeline, numbers)
    except Unknown:
        return
    told = document.output
    if total and told.range and exact(told.range.end) > total + TOLERANCE:
        yield Flaw("/output/range/end", f"past the end of the timeline, {spelt(total)}")
    if total and told.poster is not None and exact(told.poster) > total:
        yield Flaw("/output/poster", f"past the end of the timeline, {spelt(total)}")


def assets(document: Document) -> dict[str, list[str]]:
    """The assets that a document names and where; defaults of asset variables are among them, variables are not."""
    found: dict[str, list[str]] = {}
    for where, asset in _references(document):
        if not timeline.PLACEHOLDER.fullmatch(asset):
            found.setdefault(asset, []).append(where)
    return found


def _references(document: Document) -> Iterator[tuple[str, str]]:
    line = document.timeline
    for where, clip in timeline.clips(line):
        if isinstance(clip, Sourced):
            asset = getattr(clip, "asset", None)
            if asset is not None:
                yield f"{where}/asset", asset
    if line.captions and line.captions.asset:
        yield "/timeline/captions/asset", line.captions.asset
    if line.watermark:
        yield "/timeline/watermark/asset", line.watermark.asset
    for name, variable in document.variables.items():
        if variable.type == "asset" and isinstance(variable.default, str):
            yield f"/variables/{name}/default", variable.default


def filled(document: Document, facts: Mapping[str, Facts]) -> Document:
    """The document with `out` for every clip of a video or a sound: where its duration ends, or else the asset. From
    then on `duration` says that a clip has no time of its own (or that a variable tells how long it is)."""
    line = document.timeline

    def whole(clip: Any) -> Any:
        known = facts.get(getattr(clip, "asset", None) or "")
        if not isinstance(clip, Sourced) or clip.out is not None or known is None or known.duration_s is None:
            return clip
        if isinstance(clip.duration, str):
            return clip
        if clip.duration is None:
            return clip.model_copy(update={"out": known.duration_s})
        out = exact(clip.in_) + exact(clip.duration) * exact(clip.speed)
        return clip.model_copy(update={"out": timeline.seconds(out), "duration": None})

    tracks = [track.model_copy(update={"clips": list(map(whole, track.clips))}) for track in line.tracks]
    return document.model_copy(update={"timeline": line.model_copy(update={"tracks": tracks})})


def asset_flaws(document: Document, facts: Mapping[str, Facts], *, gone: Collection[str] = ()) -> Iterator[Flaw]:
    """What the assets cannot give; one that `facts` does not have is not there."""
    for asset, places in assets(document).items():
        if asset not in facts and asset not in gone:
            yield from (Flaw(where, "there is no such asset") for where in places)
    numbers = templates.numbers(document.variables)
    line = document.timeline
    for where, clip in timeline.clips(line):
        known = facts.get(getattr(clip, "asset", None) or "")
        if isinstance(clip, Sourced) and known:
            yield from _clip_of(clip, known, where, numbers)
    others: list[tuple[str, str | None, Family]] = [
        ("/timeline/captions/asset", line.captions.asset if line.captions else None, "captions"),
        ("/timeline/watermark/asset", line.watermark.asset if line.watermark else None, "image"),
    ]
    for where, asset_id, family in others:
        known = facts.get(asset_id or "")
        if known and known.family != family:
            yield Flaw(where, f"is of the kind {known.family}, not {family}")


def _clip_of(clip: Sourced, known: Facts, where: str, numbers: Numbers) -> Iterator[Flaw]:
    heard = isinstance(clip, AudioClip)
    families: tuple[Family, ...] = ("audio", "video") if heard else ("image", "video")
    if known.family not in families:
        yield Flaw(f"{where}/asset", f"is of the kind {known.family}, which has no {'sound' if heard else 'picture'}")
        return
    if heard and not known.has_sound:
        yield Flaw(f"{where}/asset", "has no sound")
        return
    if known.family == "image":
        if clip.out is not None or clip.in_:
            yield Flaw(
                f"{where}/{'in' if clip.out is None else 'out'}", "an image has a duration, and neither in nor out"
            )
        return
    if known.duration_s is None:
        return
    end = exact(known.duration_s)
    if exact(clip.in_) >= end:
        yield Flaw(f"{where}/in", f"past the end of the asset, {spelt(end)}")
    elif clip.out is not None and exact(clip.out) > end + SLACK:
        yield Flaw(f"{where}/out", f"past the end of the asset, {spelt(end)}")
    elif clip.duration is not None:
        try:
            needed = exact(clip.in_) + timeline.number(clip.duration, numbers) * exact(clip.speed)
        except Unknown:
            return
        if needed > end + SLACK:
            yield Flaw(f"{where}/duration", f"past the end of the asset, {spelt(end)}")


def spelt(value: Fraction) -> str:
    """Seconds for people: `4.2 s`."""
    return f"{float(round(value, 3)):g} s"
