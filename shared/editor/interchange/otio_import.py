"""OpenTimelineIO: an `.otio` file as a document, ours (`otio`) or that of another program.

The lowest track of pictures is the video track and those above it are overlays. What is nested is laid flat: what lies
lowest in a stack takes its place in the track around it, the rest comes on tracks of its own.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, get_args

import opentimelineio as otio
from pydantic import BaseModel, ValidationError

from shared.editor import timeline
from shared.editor.interchange.imported import Imported, Media, NotImportable, finished, title
from shared.editor.interchange.otio import KEY, NATIVE, SAME
from shared.editor.timeline import (
    AudioClip,
    AudioTrack,
    Document,
    OverlayClip,
    TextClip,
    Timeline,
    VideoClip,
    exact,
    seconds,
)
from shared.media.notes import Notes

MOST_BYTES = 5_000_000
MOST_DEPTH = 100
MOST_ITEMS = 5_000
# The library tells the types of its own language, too.
CPP_TYPE = re.compile(r" \(of type '[^']*'\)")
SLOWEST, FASTEST = Fraction(1, 10), Fraction(10)


def read(data: bytes, media: Mapping[str, str] | None = None) -> Imported:
    """The document of an `.otio` file. `media` says which asset a medium is, by its URL, its file name or its name; for
    the others there is a variable each. Raises NotImportable, and check.Flawed if what it makes is no document."""
    notes = Notes()
    eye = _Eye(Media(media or {}, notes), notes)
    made = _timeline(_parsed(data), notes)
    own = _own(made)
    told = _object(own.get("timeline"))
    line: dict[str, Any] = {}
    document: dict[str, Any] = {"title": title(made.name), "timeline": line}
    eye.take(document, Document, "variables", own.get("variables"), "")
    eye.take(document, Document, "output", own.get("output"), "")
    for name in Timeline.model_fields.keys() - {"tracks"}:
        eye.take(line, Timeline, name, told.get(name), "")
    eye.begin_with(document.setdefault("variables", {}))
    if made.global_start_time is not None and made.global_start_time.value:
        eye.notes.add("/global_start_time", "where the timeline began: it begins at 0")
    lanes = eye.lanes(made.tracks, "/tracks", otio.schema.TrackKind.Video)
    line["tracks"] = eye.tracks(lanes)
    if "fps" not in line:
        line["fps"] = eye.fps()
    return finished(document, eye.media)


@dataclass
class _Event:
    """An item of a track, where it lies there, and what of its medium it shows. A transition into the next one reaches
    `ahead` seconds before the end and `beyond` it."""

    item: otio.core.Item
    where: str
    start: Fraction
    length: Fraction
    begin: Fraction
    speed: Fraction = Fraction(1)
    transition: str | None = None
    ahead: Fraction = Fraction(0)
    beyond: Fraction = Fraction(0)

    @property
    def end(self) -> Fraction:
        return self.start + self.length


@dataclass
class _Lane:
    """What becomes a track: events in order that do not overlap."""

    kind: str
    where: str
    own: dict[str, Any]
    events: list[_Event]


@dataclass
class _Eye:
    """What is the same for all of a file that is read."""

    media: Media
    notes: Notes
    numbers: dict[str, float] = field(default_factory=dict)
    rates: list[Fraction] = field(default_factory=list)
    items: int = 0

    def take(self, into: dict[str, Any], model: type[BaseModel], name: str, value: Any, where: str) -> None:
        """Of our own metadata what is still what it should be."""
        if value is None:
            return
        rest = {"title": "x"} if model is Document else {"type": "audio"} if model is AudioTrack else {}
        try:
            model.model_validate({**rest, name: value})
        except ValidationError:
            self.notes.add(f"{where}/metadata/{KEY}", f"{name}: not what we have written there")
        else:
            into[name] = value

    def lanes(self, item: otio.core.Composable, where: str, kind: str) -> list[_Lane]:
        """The item as lanes that begin at 0, the lowest first."""
        self.items += 1
        if self.items > MOST_ITEMS:
            raise NotImportable(f"{where}: more than {MOST_ITEMS:,} items")
        self.remark(item, where)
        if isinstance(item, otio.schema.Track):
            lanes = self.sequence(item, where)
        elif isinstance(item, otio.schema.Stack):
            children = enumerate(item)
            lanes = [lane for number, one in children for lane in self.lanes(one, f"{where}/children/{number}", kind)]
        else:
            return self.single(item, where, kind)
        window = item.source_range
        if window is not None:
            first = self.time(window.start_time, where)
            lanes = [_cut(lane, first, first + self.time(window.duration, where), self.notes) for lane in lanes]
        return lanes

    def single(self, item: otio.core.Composable, where: str, kind: str) -> list[_Lane]:
        if not isinstance(item, otio.schema.Clip | otio.schema.Gap):
            self.notes.add(where, f"items of the kind {item.schema_name()}")
            return []
        length, begin = self.extent(item, where)
        if length is None:
            self.notes.add(where, "clips of no known length")
            return []
        event = _Event(item, where, Fraction(0), length, begin, self.speed(item, where))
        return [_Lane(kind, where, {}, [event] if length > 0 else [])]

    def sequence(self, track: otio.schema.Track, where: str) -> list[_Lane]:
        main, others, at = _Lane(track.kind, where, _own(track), []), list[_Lane](), Fraction(0)
        pending: tuple[otio.schema.Transition, str] | None = None
        for number, child in enumerate(track):
            here = f"{where}/children/{number}"
            if isinstance(child, otio.schema.Transition):
                if not main.events or main.events[-1].end != at:
                    self.notes.add(here, "transitions without a clip on both sides")
                else:
                    pending = (child, here)
                continue
            before = len(main.events)
            for lane in self.lanes(child, here, track.kind):
                for event in lane.events:
                    event.start += at
                if lane.kind == track.kind and len(main.events) == before:
                    main.events += lane.events
                else:
                    others.append(lane)
            if pending and len(main.events) > before and main.events[before].start == at and before:
                self.join(main.events[before - 1], *pending)
            elif pending:
                self.notes.add(pending[1], "transitions without a clip on both sides")
            pending = None
            at += self.length(child, here) or Fraction(0)
        if pending:
            self.notes.add(pending[1], "transitions without a clip on both sides")
        return [main, *others]

    def join(self, event: _Event, transition: otio.schema.Transition, where: str) -> None:
        kind = str(_own(transition).get("type"))
        if kind not in get_args(timeline.Transitions):
            kind = "crossfade"
            if transition.transition_type != otio.schema.TransitionTypes.SMPTE_Dissolve:
                self.notes.add(where, f"the transition {transition.transition_type}: a crossfade instead")
        event.transition = kind
        event.ahead = self.time(transition.in_offset, where)
        event.beyond = self.time(transition.out_offset, where)

    def remark(self, item: otio.core.Composable, where: str) -> None:
        """Note what an item has that no clip of ours has."""
        if isinstance(item, otio.core.Item):
            if len(item.markers):
                self.notes.add(where, "markers")
            for effect in item.effects:
                if not isinstance(item, otio.schema.Clip) or not isinstance(effect, otio.schema.LinearTimeWarp):
                    self.notes.add(where, f"the effect {effect.effect_name or effect.schema_name()}")
        for name in item.metadata:
            if name != KEY:
                self.notes.add(f"{where}/metadata", f"the metadata of {name}")
        if isinstance(item, otio.schema.Clip) and len(item.media_references()) > 1:
            self.notes.add(where, "other media of a clip than the one that is active")
        if item.name and not _own(item) and isinstance(item, otio.schema.Clip):
            self.notes.add(where, "names of clips")

    def speed(self, item: otio.core.Item, where: str) -> Fraction:
        speed = Fraction(1)
        for effect in item.effects:
            if isinstance(effect, otio.schema.LinearTimeWarp):
                scalar = effect.time_scalar
                speed *= Fraction(repr(scalar)) if math.isfinite(scalar) else 0
        if not SLOWEST <= speed <= FASTEST:
            said = "a frozen frame" if speed == 0 else f"the speed {float(speed):g}"
            self.notes.add(where, f"{said}: it plays at its own speed")
            return Fraction(1)
        return speed

    def extent(self, item: otio.core.Item, where: str) -> tuple[Fraction | None, Fraction]:
        """How long a clip is on the timeline, and where in its medium it begins; a medium may begin at a time code."""
        reference = item.media_reference if isinstance(item, otio.schema.Clip) else None
        known = reference.available_range if reference is not None else None
        shown = item.source_range or known
        if shown is None:
            return None, Fraction(0)
        begin = self.time(shown.start_time, where)
        if known is not None:
            begin -= self.time(known.start_time, where)
        if begin < 0:
            self.notes.add(where, "what a clip shows from before its medium begins: it begins there")
        return max(Fraction(0), self.time(shown.duration, where)), max(Fraction(0), begin)

    def length(self, item: otio.core.Composable, where: str) -> Fraction | None:
        if not isinstance(item, otio.core.Item):
            return None
        if item.source_range is not None:
            return max(Fraction(0), self.time(item.source_range.duration, where))
        if isinstance(item, otio.schema.Track):
            return sum((self.length(child, where) or Fraction(0) for child in item), Fraction(0))
        if isinstance(item, otio.schema.Stack):
            return max((self.length(child, where) or Fraction(0) for child in item), default=Fraction(0))
        return self.extent(item, where)[0]

    def time(self, at: otio.opentime.RationalTime, where: str) -> Fraction:
        """Exact seconds. Raises NotImportable."""
        if not math.isfinite(at.value) or not math.isfinite(at.rate) or at.rate <= 0:
            raise NotImportable(f"{where}: {at.value} at a rate of {at.rate} is no time")
        rate = timeline.rate(round(at.rate, timeline.DECIMALS))
        if 1 <= rate <= 120:
            self.rates.append(rate)
        return Fraction(at.value) / rate

    def begin_with(self, variables: dict[str, Any]) -> None:
        """With the variables that the document has; those of unknown media are added."""
        self.media.variables = variables
        self.numbers = {
            name: one["default"] for name, one in variables.items() if isinstance(one.get("default"), float)
        }

    def fps(self) -> int | str:
        """The first rate that is one of pictures."""
        if not self.rates:
            self.notes.add("", "no rate is told: 30 frames a second")
            return 30
        found = self.rates[0]
        if any(rate != found for rate in self.rates):
            self.notes.add("", f"several rates: {float(found):g} frames a second for all")
        return int(found) if found.denominator == 1 else f"{found.numerator}/{found.denominator}"

    # Lanes as tracks

    def tracks(self, lanes: list[_Lane]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        silent = any(lane.kind == otio.schema.TrackKind.Audio and lane.events and not lane.own for lane in lanes)
        for lane in lanes:
            kind = self.kind(lane, made)
            track: dict[str, Any] = {"type": kind, "clips": self.clips(lane, kind, silent=silent)}
            if kind == "audio":
                self.take(track, AudioTrack, "role", lane.own.get("role"), lane.where)
            if track["clips"] or lane.own:
                made.append(track)
        return made

    def kind(self, lane: _Lane, made: Iterable[Mapping[str, Any]]) -> Literal["video", "overlay", "text", "audio"]:
        if lane.kind == otio.schema.TrackKind.Audio:
            return "audio"
        if lane.kind != otio.schema.TrackKind.Video:
            self.notes.add(lane.where, f"tracks of the kind {lane.kind}: as pictures")
        told = lane.own.get("type")
        if told == "text" or (told is None and _texts(lane)):
            return "text"
        return "overlay" if told == "overlay" or any(track["type"] == "video" for track in made) else "video"

    def clips(self, lane: _Lane, kind: str, *, silent: bool) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        at = Fraction(0)
        events = _roomy(lane.events, self.notes) if kind == "video" else lane.events
        for number, event in enumerate(events):
            if event.transition and kind != "video":
                self.notes.add(event.where, "transitions beside the video track: a cut instead")
            if kind == "video" and event.start - at > SAME:
                made.append({"gap": True, "duration": seconds(event.start - at)})
            clip = self.clip(event, events[number - 1] if number else None, kind)
            if clip and silent and "asset" in clip and kind in {"video", "overlay"} and not _own(event.item):
                clip["volume"] = 0.0
                self.notes.add(event.where, "the sound of pictures: the file has tracks of sound")
            made += [clip] if clip else []
            at = event.end
        return made

    def clip(self, event: _Event, before: _Event | None, kind: str) -> dict[str, Any] | None:
        """A clip of a track of that kind; None for what has no place in it."""
        base = self.base(event, kind)
        shown = self.shown(event, kind)
        if not shown.keys() - {"gap"} and kind != "video":
            return None
        ahead = before.ahead if before and before.transition and kind == "video" else Fraction(0)
        beyond = event.beyond if event.transition and kind == "video" else Fraction(0)
        begin, length = event.begin - ahead * event.speed, event.length + ahead + beyond
        clip = {name: value for name, value in base.items() if name not in NATIVE or name == "id"} | shown
        if "asset" in shown and event.speed != 1:
            clip["speed"] = seconds(event.speed)
        if kind != "video":
            clip["start"] = _kept(base.get("start"), event.start)
        if "asset" in shown and "duration" not in base and not _still(event.item):
            clip["in"] = _kept(base.get("in", 0.0), begin)
            clip["out"] = _kept(base.get("out"), begin + length * event.speed)
        else:
            if "asset" in shown and begin > SAME:
                clip["in"] = _kept(base.get("in"), begin)
            clip["duration"] = self.duration(base.get("duration"), length)
        if kind == "video" and event.transition:
            told = _own(event.item).get("transition") or {}
            both = event.ahead + event.beyond
            clip["transition"] = {"type": event.transition, "duration": _kept(_object(told).get("duration"), both)}
        return clip

    def base(self, event: _Event, kind: str) -> dict[str, Any]:
        """What our metadata say of a clip, if that is still one."""
        own = _own(event.item)
        models: dict[str, type[BaseModel]] = {"video": VideoClip, "overlay": OverlayClip, "text": TextClip}
        try:
            models.get(kind, AudioClip).model_validate({**own, "start": 0.0} if kind != "video" else own)
        except ValidationError:
            if own:
                self.notes.add(f"{event.where}/metadata/{KEY}", "clips: not what we have written there")
            return {}
        return own

    def duration(self, told: Any, length: Fraction) -> float | str:
        """The variable that our metadata name, if it is what the clip lasts."""
        if isinstance(told, str):
            name = timeline.PLACEHOLDER.fullmatch(told)
            if name and name[1] in self.numbers and abs(exact(self.numbers[name[1]]) - length) <= SAME:
                return told
            self.notes.add("", "durations that are a variable: another was given")
            return seconds(length)
        return _kept(told, length)

    def shown(self, event: _Event, kind: str) -> dict[str, Any]:
        """The asset, colour or text of a clip; a gap where there is none."""
        item = event.item
        if isinstance(item, otio.schema.Gap):
            return {"gap": True}
        if not item.enabled:
            self.notes.add(event.where, "clips that are switched off: left out")
            return {"gap": True}
        reference = item.media_reference
        if isinstance(reference, otio.schema.GeneratorReference):
            return self.generated(reference, event, kind)
        return {"asset": self.asset(reference, item, event.where)}

    def generated(self, reference: otio.schema.GeneratorReference, event: _Event, kind: str) -> dict[str, Any]:
        text, color = reference.parameters.get("text"), reference.parameters.get("color")
        if kind == "text" and isinstance(text, str):
            return {"text": text}
        if kind == "video" and reference.generator_kind.lower() in {"black", "solidcolor"}:
            try:
                return {"color": VideoClip(color=color if color else "#000000").color}
            except ValidationError:
                self.notes.add(event.where, "colours that are not written as #rrggbb")
        self.notes.add(event.where, f"the generator {reference.generator_kind}: left out")
        return {"gap": True}

    def asset(self, reference: otio.core.MediaReference, item: otio.schema.Clip, where: str) -> str:
        url = getattr(reference, "target_url", "") or getattr(reference, "target_url_base", "")
        names = [url, url.rpartition("/")[2], reference.name, item.name]
        return self.media.asset(names, where, own=_own(item).get("asset"))


def _parsed(data: bytes) -> otio.core.SerializableObject:
    """Raises NotImportable."""
    if len(data) > MOST_BYTES:
        raise NotImportable(f"{len(data):,} bytes, at most {MOST_BYTES:,} are read")
    try:
        raw = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise NotImportable(f"this is no JSON: {error}") from error
    _check(raw, "", 0)
    try:
        return otio.core.deserialize_json_from_string(json.dumps(raw))
    except (otio.exceptions.OTIOError, ValueError, TypeError, LookupError) as error:
        said = CPP_TYPE.sub("", str(error.args[0] if error.args else error))
        raise NotImportable(f"this is no OpenTimelineIO: {said}") from error


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _check(raw: Any, where: str, depth: int) -> None:
    """Refuse what is nested too deeply, and objects that stand in for others: they could be their own parents."""
    if depth > MOST_DEPTH:
        raise NotImportable(f"{where[:80]}: nested more than {MOST_DEPTH} deep")
    if isinstance(raw, dict):
        if str(raw.get("OTIO_SCHEMA", "")).startswith("SerializableObjectRef"):
            raise NotImportable(f"{where}: references between objects are not read")
        for name, value in raw.items():
            _check(value, f"{where}/{name}", depth + 1)
    elif isinstance(raw, list):
        for number, value in enumerate(raw):
            _check(value, f"{where}/{number}", depth + 1)


def _timeline(tree: Any, notes: Notes) -> otio.schema.Timeline:
    """Raises NotImportable."""
    if isinstance(tree, otio.schema.SerializableCollection):
        found = [child for child in tree if isinstance(child, otio.schema.Timeline)]
        if len(found) != 1:
            raise NotImportable(f"the collection has {len(found)} timelines; one is read")
        if len(tree) > 1:
            notes.add("", "what else is in the collection")
        return found[0]
    if isinstance(tree, otio.schema.Timeline):
        return tree
    if isinstance(tree, otio.core.Composable) and not isinstance(tree, otio.schema.Transition):
        made = otio.schema.Timeline(tree.name)
        made.tracks.append(tree)
        return made
    raise NotImportable(f"a {type(tree).__name__} is no timeline")


def _cut(lane: _Lane, first: Fraction, last: Fraction, notes: Notes) -> _Lane:
    """The part of a lane between two times, beginning at 0."""
    kept = []
    for event in lane.events:
        start, end = max(event.start, first), min(event.end, last)
        if end <= start:
            continue
        begin = event.begin + (start - event.start) * event.speed
        fresh = replace(event, start=start - first, length=end - start, begin=begin)
        if end < event.end or event.end == last:
            if event.transition:
                notes.add(event.where, "transitions without a clip on both sides")
            fresh.transition = None
        kept.append(fresh)
    return replace(lane, events=kept)


def _roomy(events: list[_Event], notes: Notes) -> list[_Event]:
    """The events with transitions no longer than their clips have room and media for."""
    fit: list[_Event] = []
    used = Fraction(0)
    for number, event in enumerate(events):
        following = events[number + 1] if number + 1 < len(events) else None
        fresh = replace(event)
        if fresh.transition:
            here = following is not None and abs(following.start - event.end) <= SAME
            handle = following.begin / following.speed if following else Fraction(0)
            if following and not isinstance(following.item, otio.schema.Gap) and fresh.ahead - handle > SAME:
                notes.add(event.where, "transitions that begin before their medium: they are shorter")
                fresh.ahead = handle
            if (
                not here
                or used + fresh.ahead > event.length
                or fresh.ahead + fresh.beyond <= 0
                or (following is not None and fresh.beyond > following.length)
            ):
                notes.add(event.where, "transitions without room: a cut instead")
                fresh.transition = None
        used = fresh.beyond if fresh.transition else Fraction(0)
        fit.append(fresh)
    return fit


def _texts(lane: _Lane) -> bool:
    shown = [event.item for event in lane.events if isinstance(event.item, otio.schema.Clip)]
    return bool(shown) and all(
        isinstance(clip.media_reference, otio.schema.GeneratorReference)
        and isinstance(clip.media_reference.parameters.get("text"), str)
        for clip in shown
    )


def _still(item: otio.core.Item) -> bool:
    """Whether a medium is a picture, by its name."""
    url = getattr(getattr(item, "media_reference", None), "target_url", "")
    return url.lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp"))


def _kept(told: Any, value: Fraction) -> float:
    """What our metadata say, if it is the same time."""
    if isinstance(told, int | float) and not isinstance(told, bool) and abs(exact(told) - value) <= SAME:
        return told
    return max(0.0, seconds(value))


def _own(item: otio.core.SerializableObjectWithMetadata) -> dict[str, Any]:
    """Our metadata of an item, as JSON values."""
    found = item.metadata.get(KEY)
    return _object(json.loads(otio.core.serialize_json_to_string(found)) if found is not None else None)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
