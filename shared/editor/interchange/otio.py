"""OpenTimelineIO: a document as an `.otio` file (opentimeline.io, schema of 0.18).

Tracks, cuts, gaps, speeds, transitions and colours are carried natively; what OTIO has no words for stands in the
metadata under `atelier`, where only we read it. In an OTIO transition the clips meet at a cut and are seen beyond it;
here they overlap. The duration of a clip in OTIO is that on the timeline, whatever its speed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import opentimelineio as otio

from shared.editor import templates, timeline
from shared.editor.timeline import (
    AnyClip,
    AnyTrack,
    AudioTrack,
    Document,
    Placed,
    Sourced,
    TextClip,
    VideoClip,
    exact,
    placed,
    seconds,
    written,
)
from shared.media.notes import Note, Notes

KEY = "atelier"
# Of a clip, what other programs read as well.
NATIVE = {"id", "asset", "color", "gap", "text", "in", "out", "duration", "start", "speed", "transition"}
# Two times that were computed on different ways are the same if they are as near as this.
SAME = Fraction(1, 1_000_000)
# Two times that are both written to the billionth may differ by less than this and mean the same.
SHORTEST_GAP = Fraction(2, 1_000_000_000)


class NotPlaceable(ValueError):
    """A clip has no length that is known, so nothing after it has a place; says which."""


@dataclass(frozen=True)
class Written:
    """A file, and what in it only we can read."""

    text: str
    lost: tuple[Note, ...]


def write(document: Document, names: Mapping[str, str] | None = None) -> Written:
    """The document as an `.otio` file. `names` are the file names of assets, for other programs to look for. Raises
    NotPlaceable."""
    line, notes = document.timeline, Notes()
    pen = _Pen(line.rate(), templates.numbers(document.variables), names or {}, notes)
    made = otio.schema.Timeline(document.title)
    for number, track in enumerate(line.tracks):
        made.tracks.append(pen.track(track, f"/timeline/tracks/{number}"))
    rest = written(document)
    del rest["title"]
    rest.setdefault("timeline", {}).pop("tracks", None)
    rest["timeline"]["fps"] = line.fps
    for name in [f"timeline/{name}" for name in rest["timeline"] if name != "fps"] + sorted(rest):
        if name != "timeline":
            notes.add(f"/{name}", f"{name.rpartition('/')[2]}: in the metadata only")
    made.metadata[KEY] = rest | {"only_here": [{"where": one.where, "what": one.what} for one in notes.all()]}
    return Written(otio.core.serialize_json_to_string(made, indent=2), notes.all())


@dataclass(frozen=True)
class _Pen:
    """What is the same for all of a file that is written."""

    rate: Fraction
    numbers: Mapping[str, float]
    names: Mapping[str, str]
    notes: Notes

    def track(self, track: AnyTrack, where: str) -> otio.schema.Track:
        audio = isinstance(track, AudioTrack)
        kind = otio.schema.TrackKind.Audio if audio else otio.schema.TrackKind.Video
        made = otio.schema.Track(track.type, kind=kind)
        made.metadata[KEY] = {name: value for name, value in track.model_dump().items() if name != "clips"}
        try:
            clips = placed(track, self.numbers)
        except timeline.Unknown as error:
            raise NotPlaceable(f"{where}: how long a clip is depends on {error.name}, which has no value") from error
        at, before = Fraction(0), Fraction(0)
        for number, one in enumerate(clips):
            here = f"{where}/clips/{number}"
            # The clips that overlap in a transition meet in the middle of it.
            overlap = timeline.over(one.clip)
            after = exact(seconds(overlap / 2))
            start, end = one.start + before, one.end - after
            if start - at > SHORTEST_GAP:
                made.append(otio.schema.Gap(source_range=self.range(Fraction(0), start - at)))
                at = start
            made.append(self.clip(one, before, end - start, here))
            if isinstance(one.clip, VideoClip) and one.clip.transition:
                made.append(self.transition(one.clip.transition, here))
            at, before = at + end - start, overlap - after
        return made

    def clip(self, one: Placed, before: Fraction, length: Fraction, where: str) -> otio.schema.Clip | otio.schema.Gap:
        clip, said = one.clip, written(one.clip)
        for name in said.keys() - NATIVE:
            self.notes.add(f"{where}/{name}", f"{name}: in the metadata only")
        if isinstance(clip, VideoClip) and clip.gap:
            return otio.schema.Gap(source_range=self.range(Fraction(0), length), metadata={KEY: said})
        speed = exact(clip.speed) if isinstance(clip, Sourced) else Fraction(1)
        begin = exact(clip.in_) if isinstance(clip, Sourced) else Fraction(0)
        made = otio.schema.Clip(
            name=clip.id or "",
            media_reference=self.media(clip, where),
            source_range=self.range(begin + before * speed, length),
            metadata={KEY: said},
        )
        if speed != 1:
            made.effects.append(otio.schema.LinearTimeWarp(time_scalar=float(speed)))
        return made

    def media(self, clip: AnyClip, where: str) -> otio.core.MediaReference:
        if isinstance(clip, TextClip):
            self.notes.add(where, "texts: as a generator that other programs may not know")
            return otio.schema.GeneratorReference(generator_kind="Text", parameters={"text": clip.text})
        if isinstance(clip, VideoClip) and clip.color:
            return otio.schema.GeneratorReference(generator_kind="SolidColor", parameters={"color": clip.color})
        asset = clip.asset or ""
        if timeline.PLACEHOLDER.fullmatch(asset):
            self.notes.add(where, "variables: for other programs there is no medium")
            return otio.schema.MissingReference(name=asset)
        return otio.schema.ExternalReference(target_url=self.names.get(asset, asset))

    def transition(self, transition: timeline.Transition, where: str) -> otio.schema.Transition:
        dissolve = transition.type == "crossfade"
        if not dissolve:
            self.notes.add(f"{where}/transition", f"{transition.type}: as a transition of our own")
        whole = exact(transition.duration)
        beyond = exact(seconds(whole / 2))
        kinds = otio.schema.TransitionTypes
        return otio.schema.Transition(
            name=transition.type,
            transition_type=kinds.SMPTE_Dissolve if dissolve else kinds.Custom,
            in_offset=self.time(whole - beyond),
            out_offset=self.time(beyond),
            metadata={KEY: {"type": transition.type, "duration": transition.duration}},
        )

    def range(self, start: Fraction, length: Fraction) -> otio.opentime.TimeRange:
        return otio.opentime.TimeRange(self.time(start), self.time(length))

    def time(self, at: Fraction) -> otio.opentime.RationalTime:
        """In whole frames wherever a frame is what the seconds mean."""
        frames = at * self.rate
        whole = Fraction(round(frames))
        if seconds(whole / self.rate) == seconds(at):
            frames = whole
        return otio.opentime.RationalTime(float(frames), float(self.rate))
