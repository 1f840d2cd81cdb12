"""The document of a project: a timeline of tracks and clips, the variables it declares, and what it is rendered to.

Times are seconds with at most nine decimals, read as the decimals they are spelt with: 0.1 is a tenth. Where a clip
lies is computed in exact fractions; only the edges of clips are rounded to output frames (half up), never their
lengths, so nothing accumulates.

Clips of the `video` track follow each other without a gap but for those that say so (`gap`), and a transition lets the
next clip begin before the end of its own. On every other track each clip says where it starts, and none overlaps
another.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from shared.core.text import Text

MOST_CLIPS = 1000
MOST_TRACKS = 50
LONGEST_S = 24 * 3600
DECIMALS = 9
NOTHING = Fraction(0)
ASSET = re.compile(r"as_[a-z0-9]{1,40}")
PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z][A-Za-z0-9_]{0,63})\s*\}\}")

Transitions = Literal[
    "crossfade",
    "fade",
    "fadeblack",
    "fadewhite",
    "dissolve",
    "pixelize",
    "radial",
    "circleopen",
    "circleclose",
    "wipeleft",
    "wiperight",
    "wipeup",
    "wipedown",
    "slideleft",
    "slideright",
    "slideup",
    "slidedown",
    "smoothleft",
    "smoothright",
    "smoothup",
    "smoothdown",
]
TRANSITIONS: tuple[str, ...] = get_args(Transitions)
Effects = Literal["zoom_in", "zoom_out", "pan_left", "pan_right", "pan_up", "pan_down"]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    if not -LONGEST_S <= value <= LONGEST_S:
        raise ValueError(f"must lie between -{LONGEST_S} and {LONGEST_S}")
    return float(round(value, DECIMALS))


def _placeholder(value: Any) -> str | None:
    return value if isinstance(value, str) and PLACEHOLDER.fullmatch(value) else None


def _time(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def _span(value: Any) -> float | str:
    held = _placeholder(value)
    if held is not None:
        return held
    number = _number(value)
    if number <= 0:
        raise ValueError("must be more than 0")
    return number


def _styled(value: Any) -> float | str:
    held = _placeholder(value)
    return held if held is not None else _number(value)


def _color(value: Any) -> str:
    if not isinstance(value, str) or not (
        re.fullmatch(r"#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?", value) or _placeholder(value)
    ):
        raise ValueError("must be a colour such as #1e90ff or #1e90ff80")
    return value


def _asset(value: Any) -> str:
    if not isinstance(value, str) or not (ASSET.fullmatch(value) or _placeholder(value)):
        raise ValueError("must be the id of an asset")
    return value


def _rate(value: Any) -> float | str:
    if isinstance(value, str):
        if not re.fullmatch(r"[1-9]\d{0,5}/[1-9]\d{0,4}", value):
            raise ValueError("must be a number or a fraction such as 30000/1001")
        frames = Fraction(value)
    else:
        frames = exact(_number(value))
    if not 1 <= frames <= 120:
        raise ValueError("must lie between 1 and 120")
    return value if isinstance(value, str) else _number(value)


NUMBER_SCHEMA: dict[str, Any] = {"type": "number", "minimum": -LONGEST_S, "maximum": LONGEST_S}
HELD_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^\\{\\{\\s*[A-Za-z][A-Za-z0-9_]{0,63}\\s*\\}\\}$"}

Time = Annotated[float, PlainValidator(_time), WithJsonSchema({"type": "number", "minimum": 0, "maximum": LONGEST_S})]
"""Seconds, 0 or more."""
Span = Annotated[
    float | str,
    PlainValidator(_span),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_S}, HELD_SCHEMA]}),
]
"""Seconds, more than 0; or a variable."""
Styled = Annotated[float | str, PlainValidator(_styled), WithJsonSchema({"anyOf": [NUMBER_SCHEMA, HELD_SCHEMA]})]
"""A number of a style, or a variable."""
Color = Annotated[
    str,
    PlainValidator(_color),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?$"}, HELD_SCHEMA]}),
]
AssetId = Annotated[
    str,
    PlainValidator(_asset),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^as_[a-z0-9]{1,40}$"}, HELD_SCHEMA]}),
]
Rate = Annotated[
    float | str,
    PlainValidator(_rate),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 1, "maximum": 120},
                {"type": "string", "pattern": "^[1-9]\\d{0,5}/[1-9]\\d{0,4}$"},
            ]
        }
    ),
]
ClipId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Volume = Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)]
Speed = Annotated[
    float, Field(ge=0.1, le=10, allow_inf_nan=False), AfterValidator(lambda value: round(value, DECIMALS))
]
Shown = Annotated[Text, Field(max_length=5000)]


class Part(BaseModel):
    """What every part of a document has in common: nothing that is not known, nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Point(Part):
    """Where the middle is, in halves of the picture: -1 is the left or upper edge, 1 the right or lower."""

    x: Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)] = 0.0
    y: Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)] = 0.0


class Crop(Part):
    """What is cut off each side, in parts of the source."""

    left: Unit = 0.0
    right: Unit = 0.0
    top: Unit = 0.0
    bottom: Unit = 0.0

    @model_validator(mode="after")
    def _leaves_something(self) -> "Crop":
        if self.left + self.right >= 0.99 or self.top + self.bottom >= 0.99:
            raise ValueError("must leave some of the picture")
        return self


class Filter(Part):
    """A change of the picture; what a filter does not name stays as it is."""

    type: Literal["eq", "blur", "grayscale", "sepia", "vignette", "sharpen", "hue"]
    brightness: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    contrast: Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)] | None = None
    saturation: Annotated[float, Field(ge=0, le=3, allow_inf_nan=False)] | None = None
    gamma: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] | None = None
    amount: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    degrees: Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)] | None = None


class Transition(Part):
    """How a clip goes over into the next one; both are seen for its duration."""

    type: Transitions = "crossfade"
    duration: Annotated[float, PlainValidator(_time), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]

    @model_validator(mode="after")
    def _takes_time(self) -> "Transition":
        if self.duration <= 0:
            raise ValueError("must last more than 0 s")
        return self


class Style(Part):
    """How a text looks. Sizes are pixels of a picture 1080 high."""

    font: Annotated[Text, Field(max_length=100)] | None = None
    size: Styled | None = None
    color: Color | None = None
    background: Color | None = None
    outline_color: Color | None = None
    outline_width: Styled | None = None
    bold: bool | None = None
    italic: bool | None = None
    align: Literal["left", "center", "right"] | None = None


class Clip(Part):
    """What all clips have; `in` and `out` are seconds of the source, `duration` is seconds of the timeline."""

    id: ClipId | None = None


class Sourced(Clip):
    """A clip of an asset. Shotstack's `trim` and `length` are `in` and `duration`."""

    in_: Annotated[Time, Field(validation_alias=AliasChoices("in", "trim"), serialization_alias="in")] = 0.0
    out: Time | None = None
    duration: Annotated[Span | None, Field(validation_alias=AliasChoices("duration", "length"))] = None
    speed: Speed = 1.0
    volume: Volume = 1.0
    fade_in: Time = 0.0
    fade_out: Time = 0.0


class Looks(Part):
    """How a picture lies in the frame."""

    fit: Literal["contain", "cover", "stretch", "blur"] = "contain"
    position: Point = Point()
    scale: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 1.0
    opacity: Unit = 1.0
    rotate: Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)] = 0.0
    crop: Crop | None = None
    filters: Annotated[list[Filter], Field(max_length=10)] = []
    effect: Effects | None = None


class VideoClip(Sourced, Looks):
    """A clip of the video track: of an `asset`, of one `color`, or a `gap` that shows the background."""

    asset: AssetId | None = None
    color: Color | None = None
    gap: Literal[True] | None = None
    transition: Transition | None = None


class OverlayClip(Sourced, Looks):
    """A picture over the video."""

    asset: AssetId
    start: Time


class TextClip(Clip):
    """A text over the video; data, never markup."""

    text: Shown
    start: Time
    duration: Annotated[Span, Field(validation_alias=AliasChoices("duration", "length"))]
    position: Point = Point()
    opacity: Unit = 1.0
    fade_in: Time = 0.0
    fade_out: Time = 0.0
    style: Style = Style()


class AudioClip(Sourced):
    """A sound beside the video."""

    asset: AssetId
    start: Time


class VideoTrack(Part):
    type: Literal["video"]
    clips: list[VideoClip] = []


class OverlayTrack(Part):
    type: Literal["overlay"]
    clips: list[OverlayClip] = []


class TextTrack(Part):
    type: Literal["text"]
    clips: list[TextClip] = []


class AudioTrack(Part):
    """Music is a bed under the others: it is never cut when something is taken out of the timeline."""

    type: Literal["audio"]
    role: Literal["music", "voice", "effects"] = "effects"
    clips: list[AudioClip] = []


Track = Annotated[VideoTrack | OverlayTrack | TextTrack | AudioTrack, Field(discriminator="type")]
AnyTrack = VideoTrack | OverlayTrack | TextTrack | AudioTrack
AnyClip = VideoClip | OverlayClip | TextClip | AudioClip
PlacedClip = OverlayClip | TextClip | AudioClip


class CaptionCue(Part):
    text: Shown
    start: Time
    end: Time

    @model_validator(mode="after")
    def _takes_time(self) -> "CaptionCue":
        if self.end <= self.start:
            raise ValueError("must end after its start")
        return self


class CaptionEdit(Part):
    """What was done to the timeline since the caption file fitted it, one after the other: `remove` seconds taken out
    from `at` on, or `insert` seconds put in there."""

    at: Time
    remove: Time = 0.0
    insert: Time = 0.0


class Captions(Part):
    """Captions of a file (SRT, VTT, ASS) or written here."""

    asset: AssetId | None = None
    cues: Annotated[list[CaptionCue], Field(max_length=10_000)] | None = None
    edits: Annotated[list[CaptionEdit], Field(max_length=10_000)] = []
    burn_in: bool = True
    style: Style = Style()

    @model_validator(mode="after")
    def _one_source(self) -> "Captions":
        if (self.asset is None) == (self.cues is None):
            raise ValueError("needs either an asset or cues")
        if self.cues is not None and self.edits:
            raise ValueError("edits belong to captions of an asset")
        return self


class Duck(Part):
    """How much louder tracks under others become quieter (ffmpeg's sidechaincompress)."""

    threshold: Annotated[float, Field(ge=0.001, le=1, allow_inf_nan=False)] = 0.05
    ratio: Annotated[float, Field(ge=1, le=20, allow_inf_nan=False)] = 8.0


class Loudness(Part):
    """The target of EBU R128: LUFS, dBTP, LU."""

    i: Annotated[float, Field(ge=-70, le=-5, allow_inf_nan=False)] = -16.0
    tp: Annotated[float, Field(ge=-9, le=0, allow_inf_nan=False)] = -1.5
    lra: Annotated[float, Field(ge=1, le=50, allow_inf_nan=False)] = 11.0


class Silence(Part):
    """What counts as silence, and how much of it stays on both sides of what is kept."""

    threshold_db: Annotated[float, Field(ge=-100, le=0, allow_inf_nan=False)] = -35.0
    min_duration: Time = 0.6
    margin: Time = 0.15


class Watermark(Part):
    asset: AssetId
    position: Literal["top-left", "top-right", "bottom-left", "bottom-right", "center"] = "bottom-right"
    opacity: Unit = 0.5
    scale: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.15


class Timeline(Part):
    """Tracks, from the lowest to the uppermost."""

    fps: Rate = 30.0
    background: Color = "#000000"
    tracks: Annotated[list[Track], Field(max_length=MOST_TRACKS)] = []
    captions: Captions | None = None
    duck: Annotated[dict[Literal["music under voice"], Duck], Field(max_length=1)] | None = None
    loudness: Loudness | None = None
    silence: Silence | None = None
    watermark: Watermark | None = None

    def rate(self) -> Fraction:
        """Frames a second, exactly: 29.97 is 30000/1001."""
        return rate(self.fps)


class Range(Part):
    start: Time
    end: Time

    @model_validator(mode="after")
    def _takes_time(self) -> "Range":
        if self.end <= self.start:
            raise ValueError("must end after its start")
        return self


class Output(Part):
    """What a project is rendered to, unless an export says otherwise."""

    format: Literal["mp4", "webm", "gif", "mp3"] = "mp4"
    preset: Literal["preview", "draft", "standard", "high"] = "standard"
    width: Annotated[int, Field(ge=16, le=4096)] | None = None
    height: Annotated[int, Field(ge=16, le=4096)] | None = None
    aspect_ratio: Annotated[str, StringConstraints(pattern=r"^[1-9]\d?:[1-9]\d?$")] | None = None
    fps: Rate | None = None
    range: Range | None = None
    poster: Time | None = None


class Variable(Part):
    """What `{{name}}` stands for. One without a default has to be given with every export."""

    type: Literal["text", "asset", "number", "color"]
    default: Annotated[Text, Field(max_length=5000)] | float | None = None
    description: Annotated[Text, Field(max_length=500)] | None = None


VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class Document(Part):
    """What a version of a project has."""

    title: Annotated[Text, Field(min_length=1, max_length=200)]
    timeline: Timeline = Timeline()
    variables: Annotated[dict[VariableName, Variable], Field(max_length=100)] = {}
    output: Output = Output()


def written(part: Part) -> dict[str, Any]:
    """A part as JSON values: what says no more than the default is left out."""
    return part.model_dump(mode="json", by_alias=True, exclude_defaults=True, warnings=False)


@lru_cache(maxsize=16384)
def exact(seconds: float) -> Fraction:
    """The decimal that a number is spelt with."""
    return Fraction(repr(seconds)) if isinstance(seconds, float) else Fraction(seconds)


def seconds(value: Fraction) -> float:
    """An exact time as it is written: to the nearest billionth."""
    return float(round(value, DECIMALS))


def rate(fps: float | str) -> Fraction:
    """Frames a second. What is spelt like an NTSC rate (23.976, 29.97, 59.94) is n·1000/1001."""
    if isinstance(fps, str):
        return Fraction(fps)
    value = exact(fps)
    for whole in (24, 30, 48, 60, 120):
        ntsc = Fraction(whole * 1000, 1001)
        if value != whole and abs(value - ntsc) < Fraction(1, 200):
            return ntsc
    return value


def frame(at: Fraction, frames_a_second: Fraction) -> int:
    """The output frame that an edge falls on, rounded half up."""
    return floor(at * frames_a_second + Fraction(1, 2))


Numbers = Mapping[str, float]
"""The values of number variables, for durations that are one."""


class Unknown(Exception):
    """A duration is a variable that has no value here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def number(value: float | str, numbers: Numbers) -> Fraction:
    """A number of a document, or the value of the variable that stands in its place. Raises Unknown."""
    if isinstance(value, str):
        found = PLACEHOLDER.fullmatch(value)
        name = found[1] if found else value
        if name not in numbers:
            raise Unknown(name)
        return exact(numbers[name])
    return exact(value)


def length(clip: AnyClip, numbers: Numbers) -> Fraction:
    """How long a clip is on the timeline. Raises Unknown."""
    if isinstance(clip, TextClip):
        return number(clip.duration, numbers)
    if clip.duration is not None:
        return number(clip.duration, numbers)
    if clip.out is None:
        raise Unknown("out")
    lasts = exact(clip.out) - exact(clip.in_)
    return lasts if clip.speed == 1 else lasts / exact(clip.speed)


def over(clip: AnyClip) -> Fraction:
    """For how long the next clip is seen together with this one."""
    transition = clip.transition if isinstance(clip, VideoClip) else None
    return exact(transition.duration) if transition else NOTHING


@dataclass(frozen=True)
class Placed:
    """A clip and where it lies on the timeline, in exact seconds."""

    clip: AnyClip
    start: Fraction
    end: Fraction


def placed(track: AnyTrack, numbers: Numbers) -> list[Placed]:
    """The clips of a track and where they lie, in order. Raises Unknown."""
    found = []
    at = NOTHING
    for clip in track.clips:
        start = at if isinstance(clip, VideoClip) else exact(clip.start)
        end = start + length(clip, numbers)
        found.append(Placed(clip, start, end))
        shared = over(clip)
        at = end - shared if shared else end
    return found


def spans(timeline: Timeline, track: AnyTrack, numbers: Numbers) -> list[tuple[int, int]]:
    """The first frame of each clip of a track and the one after its last. Raises Unknown.

    Times that are written to the billionth may put an end and the start after it on two sides of half a frame: no clip
    of a track that has no transitions begins before the one before it has ended.
    """
    frames_a_second = timeline.rate()
    found: list[tuple[int, int]] = []
    for one in placed(track, numbers):
        first, after = frame(one.start, frames_a_second), frame(one.end, frames_a_second)
        if found and not isinstance(one.clip, VideoClip):
            first = max(first, found[-1][1])
        found.append((first, after))
    return found


def duration(timeline: Timeline, numbers: Numbers) -> Fraction:
    """Where the last clip ends. Music that goes on after everything else counts as well."""
    return max((one.end for track in timeline.tracks for one in placed(track, numbers)), default=Fraction(0))


def clips(timeline: Timeline) -> Iterator[tuple[str, AnyClip]]:
    """Every clip and where it stands in the document."""
    for number_of_track, track in enumerate(timeline.tracks):
        clips_of_track: Sequence[AnyClip] = track.clips
        for number_of_clip, clip in enumerate(clips_of_track):
            yield f"/timeline/tracks/{number_of_track}/clips/{number_of_clip}", clip


def with_ids(timeline: Timeline) -> Timeline:
    """The timeline with an id for every clip; those that have one keep it."""
    taken = {clip.id for _, clip in clips(timeline) if clip.id}
    fresh = fresh_ids(taken)
    tracks = [
        track.model_copy(
            update={"clips": [clip if clip.id else clip.model_copy(update={"id": next(fresh)}) for clip in track.clips]}
        )
        for track in timeline.tracks
    ]
    return timeline.model_copy(update={"tracks": tracks})


def fresh_ids(taken: set[str]) -> Iterator[str]:
    """Ids that no clip has: c1, c2, …"""
    number_of = 0
    while True:
        number_of += 1
        if f"c{number_of}" not in taken:
            yield f"c{number_of}"
