"""Changes of a timeline that are awkward by hand, as pure functions: a timeline and an operation in, a timeline out.

Whatever moves clips of the video track takes the other tracks along ("ripple"). Where time is taken out, what lies in
it goes: texts that reach into it become shorter, overlays, voices and effects are cut through, captions close up. Music
is never cut. Where time is put in, what begins there or later moves on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from shared.editor import check, cues, timeline
from shared.editor.timeline import (
    AnyClip,
    AnyTrack,
    AssetId,
    AudioTrack,
    CaptionEdit,
    Captions,
    ClipId,
    Numbers,
    OverlayTrack,
    Part,
    PlacedClip,
    Sourced,
    Span,
    TextTrack,
    Time,
    Timeline,
    Transition,
    VideoClip,
    VideoTrack,
    exact,
    length,
    over,
    placed,
    seconds,
)

MOST_OPERATIONS = 200


class Refused(Exception):
    """An operation cannot be done; `pointer` is into the operation."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer}: {detail}")
        self.pointer = pointer
        self.detail = detail


class Append(Part):
    """Put a clip at the end of a track: of `track`, or of a new one of the type `new_track`."""

    type: Literal["append"]
    track: Annotated[int, Field(ge=0)] | None = None
    new_track: Literal["video", "overlay", "text", "audio"] | None = None
    role: Literal["music", "voice", "effects"] | None = None
    clip: dict[str, Any]

    @model_validator(mode="after")
    def _one_track(self) -> "Append":
        if (self.track is None) == (self.new_track is None):
            raise ValueError("needs either track or new_track")
        if self.role and self.new_track != "audio":
            raise ValueError("a role is one of a new audio track")
        return self


class Split(Part):
    """Make two clips of one, at a time of the timeline; the first keeps its id."""

    type: Literal["split"]
    clip: ClipId
    at: Time


class Trim(Part):
    """Give a clip another beginning or end. On the video track everything after it moves along, unless `ripple` is
    false: then the other tracks stay where they are. On another track a clip that begins later starts later."""

    type: Literal["trim"]
    clip: ClipId
    in_: Annotated[Time | None, Field(alias="in")] = None
    out: Time | None = None
    duration: Span | None = None
    ripple: bool = True

    @model_validator(mode="after")
    def _something(self) -> "Trim":
        if self.in_ is None and self.out is None and self.duration is None:
            raise ValueError("needs in, out or duration")
        if self.out is not None and self.duration is not None:
            raise ValueError("takes out or duration, not both")
        return self


class RippleDelete(Part):
    """Take out a clip, or what lies between two times of the timeline, and close the gap."""

    type: Literal["ripple-delete"]
    clip: ClipId | None = None
    start: Time | None = None
    end: Time | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> "RippleDelete":
        if (self.clip is None) == (self.start is None) or (self.start is None) != (self.end is None):
            raise ValueError("needs either clip, or start and end")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("must end after its start")
        return self


class Move(Part):
    """Put a clip elsewhere: on the video track to the place `to` (0 is the first; the other tracks stay as they are),
    on another track to the time `start`, and there also to another `track` of its type."""

    type: Literal["move"]
    clip: ClipId
    to: Annotated[int, Field(ge=0)] | None = None
    start: Time | None = None
    track: Annotated[int, Field(ge=0)] | None = None


class SetTransition(Part):
    """How a clip of the video track goes over into the next; null is a cut."""

    type: Literal["set-transition"]
    clip: ClipId
    transition: Transition | None


class ReplaceAsset(Part):
    """Show another asset in a clip's place, as long as before unless a part of it is named."""

    type: Literal["replace-asset"]
    clip: ClipId
    asset: AssetId
    in_: Annotated[Time | None, Field(alias="in")] = None
    out: Time | None = None
    duration: Span | None = None

    @model_validator(mode="after")
    def _one_end(self) -> "ReplaceAsset":
        if self.out is not None and self.duration is not None:
            raise ValueError("takes out or duration, not both")
        return self


Operation = Annotated[
    Append | Split | Trim | RippleDelete | Move | SetTransition | ReplaceAsset, Field(discriminator="type")
]


def applied(line: Timeline, operation: Operation, numbers: Numbers) -> Timeline:
    """The timeline after an operation. Every clip has an id. Raises Refused."""
    try:
        changed = DO[type(operation)](line, operation, numbers)
    except timeline.Unknown as unknown:
        raise Refused("", f"the variable '{unknown.name}' has no default to reckon with") from unknown
    return timeline.with_ids(changed)


@dataclass(frozen=True)
class _Place:
    """Where a clip stands."""

    track: int
    index: int
    clip: AnyClip

    @property
    def of_video(self) -> bool:
        return isinstance(self.clip, VideoClip)


def _append(line: Timeline, operation: Append, numbers: Numbers) -> Timeline:
    if operation.new_track is not None:
        role = {"role": operation.role} if operation.role else {}
        made: Any = {"video": VideoTrack, "overlay": OverlayTrack, "text": TextTrack, "audio": AudioTrack}
        line = line.model_copy(
            update={"tracks": [*line.tracks, made[operation.new_track](type=operation.new_track, **role)]}
        )
    at = len(line.tracks) - 1 if operation.track is None else operation.track
    if at >= len(line.tracks):
        raise Refused("/track", f"there are {len(line.tracks)} tracks")
    track = line.tracks[at]
    told = dict(operation.clip)
    if not isinstance(track, VideoTrack):
        ends = [one.end for one in placed(track, numbers)]
        told.setdefault("start", seconds(max(ends, default=Fraction(0))))
    raw = {"type": track.type, "clips": [told]}
    try:
        fresh = type(track).model_validate(raw).clips[0]
    except ValidationError as error:
        flaw = check.told(error, raw)[0]
        raise Refused(flaw.pointer.replace("/clips/0", "/clip", 1), flaw.detail) from error
    if fresh.id is not None and any(clip.id == fresh.id for _, clip in timeline.clips(line)):
        raise Refused("/clip/id", "is the id of another clip")
    clips: list[Any] = [*track.clips, fresh]
    if not isinstance(track, VideoTrack):
        clips.sort(key=lambda clip: clip.start)
    return _with_clips(line, at, clips)


def _split(line: Timeline, operation: Split, numbers: Numbers) -> Timeline:
    place = _find(line, operation.clip)
    one = placed(line.tracks[place.track], numbers)[place.index]
    at = exact(operation.at)
    if not one.start < at < one.end:
        raise Refused("/at", f"not within the clip, {check.spelt(one.start)} to {check.spelt(one.end)}")
    taken = {clip.id for _, clip in timeline.clips(line) if clip.id}
    first, second = _halves(one.clip, at - one.start, next(timeline.fresh_ids(taken)))
    clips: list[Any] = list(line.tracks[place.track].clips)
    clips[place.index : place.index + 1] = [first, second]
    return _with_clips(line, place.track, clips)


def _trim(line: Timeline, operation: Trim, numbers: Numbers) -> Timeline:
    place = _find(line, operation.clip)
    if not isinstance(place.clip, Sourced):
        if operation.in_ is not None or operation.out is not None:
            raise Refused("/out" if operation.in_ is None else "/in", "a text has a duration")
        return _with_clip(line, place, place.clip.model_copy(update={"duration": operation.duration}))
    fresh = _timed(place.clip, operation)
    # What is taken from the head: a clip with a duration shows another part of its source instead.
    slips = fresh.out is None or place.clip.out is None
    head = Fraction(0) if slips else (exact(fresh.in_) - exact(place.clip.in_)) / exact(place.clip.speed)
    if not place.of_video:
        start = exact(getattr(place.clip, "start")) + head  # noqa: B009 Every clip but those of the video track has it.
        if start < 0:
            raise Refused("/in", "the clip would begin before the timeline")
        return _with_clip(line, place, fresh.model_copy(update={"start": seconds(start)}))
    return _retimed(line, place, fresh, head if operation.ripple else None, numbers)


def _replace_asset(line: Timeline, operation: ReplaceAsset, numbers: Numbers) -> Timeline:
    place = _find(line, operation.clip)
    if not isinstance(place.clip, Sourced) or getattr(place.clip, "asset", None) is None:
        raise Refused("/clip", "is no clip of an asset")
    if operation.duration is not None:
        # Whether it is an image, which has no `out`, is known to whoever knows the assets.
        times = {"duration": operation.duration, "out": None, "in_": operation.in_ or 0.0}
        fresh = place.clip.model_copy(update={"asset": operation.asset, **times})
    else:
        fresh = _timed(place.clip.model_copy(update={"asset": operation.asset}), operation)
    if not place.of_video:
        return _with_clip(line, place, fresh)
    return _retimed(line, place, fresh, Fraction(0), numbers)


def _ripple_delete(line: Timeline, operation: RippleDelete, numbers: Numbers) -> Timeline:
    if operation.start is not None and operation.end is not None:
        return _cut_out(line, exact(operation.start), exact(operation.end), numbers)
    place = _find(line, operation.clip or "")
    track = line.tracks[place.track]
    before = placed(track, numbers)
    rest: list[Any] = [clip for clip in track.clips if clip.id != operation.clip]
    if not isinstance(track, VideoTrack):
        gone = before[place.index].end - before[place.index].start
        later = [
            clip.model_copy(update={"start": seconds(exact(clip.start) - gone)}) if number >= place.index else clip
            for number, clip in enumerate(rest)
        ]
        return _with_clips(line, place.track, later)
    after = _with_clips(line, place.track, _mended(rest, numbers))
    lies = placed(after.tracks[place.track], numbers)
    # Everything after the clip is where its follower is now; after the last clip there is the end of the track.
    if place.index < len(rest):
        return _ripple(after, before[place.index + 1].start, lies[place.index].start, numbers)
    return _ripple(after, before[-1].end, lies[-1].end if lies else Fraction(0), numbers)


def _move(line: Timeline, operation: Move, numbers: Numbers) -> Timeline:
    place = _find(line, operation.clip)
    track = line.tracks[place.track]
    rest: list[Any] = [clip for clip in track.clips if clip.id != operation.clip]
    if place.of_video:
        if operation.to is None or operation.start is not None or operation.track is not None:
            raise Refused("/to", "says where a clip of the video track goes, and nothing else does")
        if operation.to > len(rest):
            raise Refused("/to", f"the last place is {len(rest)}")
        rest.insert(operation.to, place.clip)
        return _with_clips(line, place.track, _mended(rest, numbers))
    if operation.start is None or operation.to is not None:
        raise Refused("/start", "says where this clip goes; only the video track has places")
    target = place.track if operation.track is None else operation.track
    if target >= len(line.tracks) or line.tracks[target].type != track.type:
        raise Refused("/track", f"is no track of the type {track.type}")
    line = _with_clips(line, place.track, rest)
    moved = place.clip.model_copy(update={"start": operation.start})
    clips: list[Any] = sorted([*line.tracks[target].clips, moved], key=lambda clip: getattr(clip, "start", 0))
    return _with_clips(line, target, clips)


def _set_transition(line: Timeline, operation: SetTransition, numbers: Numbers) -> Timeline:
    place = _find(line, operation.clip)
    if not isinstance(place.clip, VideoClip):
        raise Refused("/clip", "is not on the video track")
    clips: list[Any] = list(line.tracks[place.track].clips)
    if operation.transition and place.index + 1 == len(clips):
        raise Refused("/transition", "there is no clip after this one")
    clips[place.index] = place.clip.model_copy(update={"transition": operation.transition})
    if operation.transition:
        for number in (place.index, place.index + 1):
            room = length(clips[number], numbers)
            if room < over(clips[number]) + (over(clips[number - 1]) if number else 0):
                raise Refused("/transition/duration", f"longer than the clip has room for, {check.spelt(room)}")
    after = _with_clips(line, place.track, clips)
    if place.index + 1 == len(clips):
        return after
    was = placed(line.tracks[place.track], numbers)[place.index + 1].start
    now = placed(after.tracks[place.track], numbers)[place.index + 1].start
    # Nothing was taken out: what reaches over the join stays whole.
    return _ripple(after, was, now, numbers, whole=True)


DO: dict[type[Part], Callable[[Timeline, Any, Numbers], Timeline]] = {
    Append: _append,
    Split: _split,
    Trim: _trim,
    RippleDelete: _ripple_delete,
    Move: _move,
    SetTransition: _set_transition,
    ReplaceAsset: _replace_asset,
}


def _find(line: Timeline, clip_id: str) -> _Place:
    for number, track in enumerate(line.tracks):
        clips: Sequence[AnyClip] = track.clips
        for index, clip in enumerate(clips):
            if clip.id == clip_id:
                return _Place(number, index, clip)
    raise Refused("/clip", "there is no such clip")


def _with_clips(line: Timeline, number: int, clips: Sequence[AnyClip]) -> Timeline:
    tracks: list[AnyTrack] = list(line.tracks)
    tracks[number] = tracks[number].model_copy(update={"clips": list(clips)})
    return line.model_copy(update={"tracks": tracks})


def _with_clip(line: Timeline, place: _Place, clip: AnyClip) -> Timeline:
    clips: list[Any] = list(line.tracks[place.track].clips)
    clips[place.index] = clip
    return _with_clips(line, place.track, clips)


def _timed(clip: Any, told: Trim | ReplaceAsset) -> Any:
    """The clip with the times that an operation names."""
    changes: dict[str, Any] = {}
    if told.in_ is not None:
        changes["in_"] = told.in_
    if told.out is not None:
        changes |= {"out": told.out, "duration": None}
    if isinstance(told.duration, float | int) and clip.out is not None:
        start = clip.in_ if told.in_ is None else told.in_
        changes["out"] = seconds(exact(start) + exact(told.duration) * exact(clip.speed))
    elif told.duration is not None:
        changes |= {"duration": told.duration, "out": None}
    fresh = clip.model_copy(update=changes)
    if fresh.out is not None and fresh.out <= fresh.in_:
        raise Refused("/out" if told.out is not None else "/in", "would leave nothing of the clip")
    return fresh


def _mended(clips: Sequence[VideoClip], numbers: Numbers) -> list[VideoClip]:
    """Clips without the transitions that go nowhere, or for which their clips have no room."""
    fit: list[VideoClip] = []
    for number, clip in enumerate(clips):
        room = length(clip, numbers)
        if fit and over(fit[-1]) > room:
            fit[-1] = fit[-1].model_copy(update={"transition": None})
        last = number + 1 == len(clips)
        if last or (over(fit[-1]) if fit else 0) + over(clip) > room:
            clip = clip.model_copy(update={"transition": None})  # noqa: PLW2901 The same clip, mended.
        fit.append(clip)
    return fit


def _retimed(line: Timeline, place: _Place, fresh: Any, head: Fraction | None, numbers: Numbers) -> Timeline:
    """A clip of the video track with other times, and the other tracks moved along: first by what goes from its head,
    then by what goes from its tail. They stay where they are when `head` is None."""
    was = placed(line.tracks[place.track], numbers)
    after = _with_clip(line, place, fresh)
    room = length(fresh, numbers)
    before = over(was[place.index - 1].clip) if place.index else Fraction(0)
    if before + over(fresh) > room:
        raise Refused("", f"its transitions have no room in {check.spelt(room)}")
    if head is None:
        return after
    start = was[place.index].start
    if head > 0:
        after = _close(after, start, start + head, numbers)
    elif head < 0:
        after = _open(after, start, -head, numbers)
    follows = was[place.index].end - over(fresh) - head
    return _ripple(after, follows, start + room - over(fresh), numbers)


def _ripple(line: Timeline, was: Fraction, now: Fraction, numbers: Numbers, *, whole: bool = False) -> Timeline:
    """Let the other tracks follow what was at one time and is now at another."""
    if now < was:
        return _close(line, now, was, numbers, whole=whole)
    return _open(line, was, now - was, numbers) if now > was else line


def _open(line: Timeline, at: Fraction, by: Fraction, numbers: Numbers) -> Timeline:
    """Put time into every track but the video track."""

    def later(clip: PlacedClip) -> PlacedClip:
        moves = exact(clip.start) >= at
        return clip.model_copy(update={"start": seconds(exact(clip.start) + by)}) if moves else clip

    tracks = [
        track if isinstance(track, VideoTrack) else track.model_copy(update={"clips": list(map(later, track.clips))})
        for track in line.tracks
    ]
    captions = line.captions and _captions_opened(line.captions, at, by)
    return line.model_copy(update={"tracks": tracks, "captions": captions})


def _close(line: Timeline, start: Fraction, end: Fraction, numbers: Numbers, *, whole: bool = False) -> Timeline:
    """Take time out of every track but the video track; `whole` clips are not cut."""
    taken = {clip.id for _, clip in timeline.clips(line) if clip.id}
    fresh = timeline.fresh_ids(taken)
    frames_a_second = line.rate()
    tracks: list[AnyTrack] = []
    for track in line.tracks:
        if isinstance(track, VideoTrack):
            tracks.append(track)
            continue
        kept = whole or (isinstance(track, AudioTrack) and track.role == "music")
        clips: list[Any] = []
        for one in placed(track, numbers):
            clips += _without(one, start, end, fresh, frames_a_second, kept=kept)
        tracks.append(track.model_copy(update={"clips": _shortened(clips, frames_a_second, numbers)}))
    captions = line.captions and _captions_closed(line.captions, start, end)
    return line.model_copy(update={"tracks": tracks, "captions": captions})


def _without(
    one: timeline.Placed, start: Fraction, end: Fraction, fresh: Iterator[str], rate: Fraction, *, kept: bool
) -> list[Any]:
    """What is left of a clip where the time between start and end is taken out."""
    clip: Any = one.clip
    if one.end <= start:
        return [clip]
    if one.start >= end:
        return [clip.model_copy(update={"start": seconds(one.start - (end - start))})]
    if kept or isinstance(clip.duration, str):
        return [clip.model_copy(update={"start": seconds(min(one.start, start))})]
    if isinstance(clip, timeline.TextClip):
        left = (one.end - one.start) - (min(one.end, end) - max(one.start, start))
        told = {"start": seconds(min(one.start, start)), "duration": seconds(left)}
        return [clip.model_copy(update=told)] if _is_seen(min(one.start, start), left, rate) else []
    parts = []
    tail = clip
    if one.start < start:
        head, tail = _halves(clip, start - one.start, "")
        if _is_seen(one.start, start - one.start, rate):
            parts.append(head)
    if one.end > end:
        if one.start < end:
            _, tail = _halves(clip, end - one.start, "")
        tail = tail.model_copy(update={"start": seconds(start), "id": next(fresh) if parts else clip.id})
        if _is_seen(start, one.end - end, rate):
            parts.append(tail)
    return parts


def _is_seen(start: Fraction, lasts: Fraction, rate: Fraction) -> bool:
    """Whether a clip has a frame."""
    return timeline.frame(start + lasts, rate) > timeline.frame(start, rate)


def _halves(clip: Any, after: Fraction, fresh_id: str) -> tuple[Any, Any]:
    """A clip as two that follow each other, the second `after` so many seconds of the timeline."""
    if isinstance(clip.duration, str):
        raise Refused("/clip", f"the duration of {clip.id} is a variable, and cannot be cut")
    if clip.duration is not None and timeline.PLACEHOLDER.fullmatch(getattr(clip, "asset", None) or ""):
        raise Refused("/clip", f"the asset of {clip.id} is a variable; with out it could be cut, with duration not")
    first: dict[str, Any] = {"fade_out": 0.0}
    second: dict[str, Any] = {"fade_in": 0.0, "id": fresh_id}
    if isinstance(clip, VideoClip):
        first["transition"] = None
    speed = exact(clip.speed) if isinstance(clip, Sourced) else Fraction(1)
    cut = exact(seconds(after))
    if isinstance(clip, Sourced) and clip.out is not None:
        point = seconds(exact(clip.in_) + after * speed)
        first["out"] = second["in_"] = point
        cut = (exact(point) - exact(clip.in_)) / speed
        empty = not clip.in_ < point < clip.out
    else:
        left = exact(clip.duration) - cut
        first["duration"], second["duration"] = seconds(cut), seconds(left)
        empty = cut <= 0 or left <= 0
    if empty:
        raise Refused("/at", "leaves nothing of the clip on one side")
    if not isinstance(clip, VideoClip):
        second["start"] = seconds(exact(clip.start) + cut)
    return clip.model_copy(update=first), clip.model_copy(update=second)


def _shortened(clips: Sequence[Any], rate: Fraction, numbers: Numbers) -> list[Any]:
    """Clips of which each ends where the next begins, at the latest."""
    fit: list[Any] = []
    for number, clip in enumerate(clips):
        start = exact(clip.start)
        room = exact(clips[number + 1].start) - start if number + 1 < len(clips) else None
        if room is None or length(clip, numbers) - room <= check.TOLERANCE:
            fit.append(clip)
        elif isinstance(clip.duration, str):
            raise Refused("", f"the clip {clip.id}, whose duration is a variable, would reach into the next")
        elif _is_seen(start, room, rate):
            fit.append(_ended(clip, room))
    return fit


def _ended(clip: Any, lasts: Fraction) -> Any:
    """The clip, ending earlier."""
    if isinstance(clip, Sourced) and clip.out is not None:
        return clip.model_copy(update={"out": seconds(exact(clip.in_) + lasts * exact(clip.speed))})
    return clip.model_copy(update={"duration": seconds(lasts)})


def _cut_out(line: Timeline, start: Fraction, end: Fraction, numbers: Numbers) -> Timeline:
    """Take the time between start and end out of everything."""
    total = timeline.duration(line, numbers)
    if start >= total:
        raise Refused("/start", f"past the end of the timeline, {check.spelt(total)}")
    for number, track in enumerate(line.tracks):
        if isinstance(track, VideoTrack):
            heads, start = _heads(placed(track, numbers), start, line.rate())
            tails, end = _tails(placed(track, numbers), end, line.rate())
            if tails and heads and tails[0].id == heads[-1].id:
                taken = {clip.id for _, clip in timeline.clips(line) if clip.id}
                tails[0] = tails[0].model_copy(update={"id": next(timeline.fresh_ids(taken))})
            line = _with_clips(line, number, [*heads, *tails])
    return _close(line, start, end, numbers)


def _heads(track: Sequence[timeline.Placed], end: Fraction, rate: Fraction) -> tuple[list[Any], Fraction]:
    """What the video track shows before a time, and that time or, if less than a frame of a clip were left, where that
    clip begins. A transition that goes on at that time is cut short: the clip that it leads to is not shown."""
    parts = [one for one in track if one.start < end]
    if len(parts) > 1 and parts[-2].end > end:
        parts.pop()
    if parts and parts[-1].end > end and not _is_seen(parts[-1].start, end - parts[-1].start, rate):
        end = parts.pop().start
        if parts and parts[-1].end > end:
            end = parts[-1].end
    clips: list[Any] = [one.clip for one in parts]
    if clips:
        last = parts[-1]
        clips[-1] = last.clip.model_copy(update={"transition": None})
        if last.end > end:
            clips[-1], _ = _halves(last.clip, end - last.start, "")
    return clips, end


def _tails(track: Sequence[timeline.Placed], start: Fraction, rate: Fraction) -> tuple[list[Any], Fraction]:
    """What the video track shows after a time; the counterpart of `_heads`."""
    parts = [one for one in track if one.end > start]
    if len(parts) > 1 and parts[1].start < start:
        parts.pop(0)
    if parts and parts[0].start < start and not _is_seen(start, parts[0].end - start, rate):
        start = parts.pop(0).end
        if parts and parts[0].start < start:
            start = parts[0].start
    clips: list[Any] = [one.clip for one in parts]
    if clips and parts[0].start < start:
        _, clips[0] = _halves(parts[0].clip, start - parts[0].start, parts[0].clip.id or "")
    return clips, start


def _captions_opened(captions: Captions, at: Fraction, by: Fraction) -> Captions:
    if captions.asset is not None:
        return _edited(captions, CaptionEdit(at=seconds(at), insert=seconds(by)))
    return captions.model_copy(update={"cues": cues.opened(captions.cues or [], at, by)})


def _captions_closed(captions: Captions, start: Fraction, end: Fraction) -> Captions:
    if captions.asset is not None:
        return _edited(captions, CaptionEdit(at=seconds(start), remove=seconds(end - start)))
    return captions.model_copy(update={"cues": cues.closed(captions.cues or [], start, end)})


def _edited(captions: Captions, edit: CaptionEdit) -> Captions:
    return captions.model_copy(update={"edits": [*captions.edits, edit]})
