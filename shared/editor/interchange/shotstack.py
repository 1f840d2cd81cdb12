"""Shotstack's edit JSON as a document (shotstack.io/docs/api): its timeline, its output and its merge fields.

Its tracks lie from the uppermost to the lowest, ours the other way round; its clips stand anywhere, and fade on their
own where ours go over into each other. What has no counterpart is listed with the JSON pointer of where it was.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.editor import check, timeline
from shared.editor.interchange.imported import Imported, Media, NotImportable, finished
from shared.editor.timeline import PLACEHOLDER, exact, seconds
from shared.media.notes import Notes

MOST_CLIPS = 5_000
MOST_DEPTH = 50
# How long something is seen that has no length of its own.
STILL_S = 3.0
# Of a clip, what is read; the rest is listed.
READ = {"asset", "start", "length", "fit", "scale", "position", "offset", "transition", "effect", "filter", "opacity"}
SAME = Fraction(1, 1_000_000)

FITS = {"crop": "cover", "cover": "stretch", "contain": "contain"}
# Against which edges a picture lies.
POSITIONS = {
    "center": (0.0, 0.0),
    "top": (0.0, -1.0),
    "topRight": (1.0, -1.0),
    "right": (1.0, 0.0),
    "bottomRight": (1.0, 1.0),
    "bottom": (0.0, 1.0),
    "bottomLeft": (-1.0, 1.0),
    "left": (-1.0, 0.0),
    "topLeft": (-1.0, -1.0),
}
EFFECTS = {
    "zoomIn": "zoom_in",
    "zoomOut": "zoom_out",
    "slideLeft": "pan_left",
    "slideRight": "pan_right",
    "slideUp": "pan_up",
    "slideDown": "pan_down",
}
FILTERS: dict[str, dict[str, Any]] = {
    "blur": {"type": "blur"},
    "greyscale": {"type": "grayscale"},
    "boost": {"type": "eq", "contrast": 1.2, "saturation": 1.4},
    "contrast": {"type": "eq", "contrast": 1.3},
    "darken": {"type": "eq", "brightness": -0.2},
    "lighten": {"type": "eq", "brightness": 0.2},
    "muted": {"type": "eq", "contrast": 0.9, "saturation": 0.6},
}
SPEED = re.compile(r"(Slow|Fast)$")
FADES_S = {"Slow": 2.0, "": 1.0, "Fast": 0.5}
SIZES = {"preview": (512, 288), "mobile": (640, 360), "sd": (1024, 576), "hd": (1280, 720), "1080": (1920, 1080)}
RATES = {"preview": 15}


type Json = dict[str, Any]


class _Whole(BaseModel):
    """What there must be; whatever else there is is read where it is wanted, or listed."""

    model_config = ConfigDict(extra="allow")


class _Asset(_Whole):
    type: str


class _Clip(_Whole):
    asset: _Asset
    start: Annotated[float, Field(ge=0, le=timeline.LONGEST_S)] | Literal["auto"] = "auto"
    length: Annotated[float, Field(gt=0, le=timeline.LONGEST_S)] | Literal["auto", "end"] = "auto"


class _Track(_Whole):
    clips: list[_Clip]


class _Line(_Whole):
    tracks: list[_Track]


class _Edit(_Whole):
    timeline: _Line
    output: Json = {}
    merge: list[Json] = []


@dataclass
class _Piece:
    """A clip of ours, where it lies, and what kind of track it goes on."""

    kind: Literal["picture", "text", "audio"]
    start: Fraction
    length: Fraction
    clip: Json

    @property
    def end(self) -> Fraction:
        return self.start + self.length


def read(raw: Any, media: Mapping[str, str] | None = None, lengths: Mapping[str, float] | None = None) -> Imported:
    """The document of an edit. `media` says which asset a `src` is (there is a variable for every other), `lengths` how
    long an asset is, for clips of automatic length. Raises NotImportable, and check.Flawed if it makes no document."""
    notes = Notes()
    known = Media(media or {}, notes)
    edit = _parsed(_merged(raw, known))
    reader = _Reader(known, notes, lengths or {})
    line: Json = dict(edit["timeline"])
    layers = reader.layers(line.pop("tracks"))
    end = max((piece.end for layer in layers for piece in layer), default=Fraction(0))
    made: Json = {"tracks": _tracks(layers)}
    reader.soundtrack(line.pop("soundtrack", None), end, made["tracks"])
    if reader.captions is not None:
        made["captions"] = {"asset": reader.captions}
    background = line.pop("background", None)
    if background is not None:
        made["background"] = background
    output, made["fps"] = reader.output(edit.get("output", {}))
    reader.leave(line, "/timeline")
    reader.leave({name: edit[name] for name in edit.keys() - {"timeline", "output", "merge"}}, "")
    return finished({"title": "Untitled", "timeline": made, "output": output, "variables": known.variables}, known)


def _parsed(raw: Any) -> Json:
    try:
        edit = _Edit.model_validate(raw)
    except ValidationError as error:
        flaw = check.told(error, raw)[0]
        raise NotImportable(f"{flaw.pointer}: {flaw.detail}") from error
    if sum(len(track.clips) for track in edit.timeline.tracks) > MOST_CLIPS:
        raise NotImportable(f"/timeline/tracks: more than {MOST_CLIPS:,} clips")
    return edit.model_dump()


def _merged(raw: Any, media: Media) -> Any:
    """The edit with its merge fields in place, but for those in texts, which become variables."""
    fields: Json = {}
    for one in raw.get("merge", []) if isinstance(raw, dict) and isinstance(raw.get("merge"), list) else []:
        if isinstance(one, dict) and isinstance(one.get("find"), str):
            fields[one["find"]] = one.get("replace", "")

    def put(value: Any, name: str, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise NotImportable(f"nested more than {MOST_DEPTH} deep")
        if isinstance(value, dict):
            return {key: put(inner, key, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [put(inner, name, depth + 1) for inner in value]
        if not isinstance(value, str):
            return value
        if name == "text":
            for found in PLACEHOLDER.findall(value):
                default = {"default": str(fields[found])} if found in fields else {}
                media.variables.setdefault(found, {"type": "text", **default})
            return value
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in fields:
            return fields[whole[1]]
        return PLACEHOLDER.sub(lambda found: str(fields.get(found[1], found[0])), value)

    return put(raw, "", 0)


@dataclass
class _Reader:
    """What is the same for all of an edit."""

    media: Media
    notes: Notes
    lengths: Mapping[str, float]
    captions: str | None = None

    def leave(self, rest: Json, where: str) -> None:
        """Note what nobody has read."""
        for name, value in rest.items():
            if value is not None:
                self.notes.add(f"{where}/{name}", f"{name}: left out")

    def layers(self, tracks: list[Json]) -> list[list[_Piece]]:
        """From the lowest to the uppermost. A clip that lasts until the end waits until that is known."""
        layers: list[list[_Piece]] = []
        open_ended: list[_Piece] = []
        for number, track in reversed(list(enumerate(tracks))):
            pieces: list[_Piece] = []
            at = Fraction(0)
            for index, clip in enumerate(track["clips"]):
                where = f"/timeline/tracks/{number}/clips/{index}"
                piece = self.piece(clip, at, where)
                if piece is None:
                    at = self.span(clip, at, None, where)[1]
                    continue
                at = piece.end
                pieces.append(piece)
                open_ended += [piece] if clip["length"] == "end" else []
            self.leave({name: value for name, value in track.items() if name != "clips"}, f"/timeline/tracks/{number}")
            layers.append(pieces)
        end = max((one.end for layer in layers for one in layer if one not in open_ended), default=Fraction(0))
        for piece in open_ended:
            piece.length = max(exact(STILL_S), end - piece.start)
            piece.clip["duration"] = seconds(piece.length)
        return layers

    def span(self, clip: Json, at: Fraction, asset: str | None, where: str) -> tuple[Fraction, Fraction]:
        start = at if clip["start"] == "auto" else exact(clip["start"])
        if isinstance(clip["length"], str):
            told = self.lengths.get(asset or "")
            if told is None and clip["length"] == "auto":
                self.notes.add(f"{where}/length", f"automatic lengths that are not known: {STILL_S:g} s")
            trim = _number(clip["asset"].get("trim"), 0.0)
            length = max(0.0, (told or STILL_S + trim) - trim) / (_number(clip["asset"].get("speed"), 1.0) or 1.0)
        else:
            length = clip["length"]
        return start, start + exact(round(length, timeline.DECIMALS))

    def piece(self, clip: Json, at: Fraction, where: str) -> _Piece | None:
        told: Json = dict(clip["asset"])
        kind = told.pop("type")
        if kind in {"video", "image", "audio"}:
            return self.sourced(clip, told, kind, at, where)
        text = told.pop("text", None)
        if kind in {"text", "title", "rich-text"} and isinstance(text, str) and text:
            return self.text(clip, told, text, at, where)
        if kind == "caption" and self.captions is None:
            self.captions = self.media.asset([str(told.pop("src", ""))], f"{where}/asset")
            self.leave(told, f"{where}/asset")
            return None
        self.notes.add(f"{where}/asset", f"clips of the type {kind}: left out")
        return None

    def sourced(self, clip: Json, told: Json, kind: str, at: Fraction, where: str) -> _Piece:
        src = str(told.pop("src", ""))
        asset = self.media.asset([src, src.partition("?")[0].rpartition("/")[2]], f"{where}/asset/src")
        start, end = self.span(clip, at, asset, where)
        made: Json = {"asset": asset, "duration": seconds(end - start)}
        trim, speed = told.pop("trim", None), told.pop("speed", None)
        if kind != "image":
            begin, pace = exact(_number(trim, 0.0)), exact(_number(speed, 1.0))
            del made["duration"]
            made |= {"in": seconds(begin), "out": seconds(begin + (end - start) * pace), "speed": seconds(pace)}
            made["volume"] = self.plain(told, "volume", 1.0, f"{where}/asset")
        made |= self.fades(clip, end - start, where)
        if kind != "audio":
            made |= self.looks(clip, where)
        self.leave(told, f"{where}/asset")
        self.leave({name: clip[name] for name in clip.keys() - READ}, where)
        return _Piece("audio" if kind == "audio" else "picture", start, end - start, made)

    def text(self, clip: Json, told: Json, text: str, at: Fraction, where: str) -> _Piece:
        start, end = self.span(clip, at, None, where)
        font = told.pop("font", None)
        style = {}
        for name, ours in (("family", "font"), ("size", "size"), ("color", "color")):
            value = font.pop(name, None) if isinstance(font, dict) else told.pop(name, None)
            if value is not None:
                style[ours] = value
        style = self.fitting(style, f"{where}/asset/font")
        made: Json = {"text": text, "duration": seconds(end - start), "style": style}
        made |= self.fades(clip, end - start, where)
        looks = self.looks(clip, where)
        made |= {name: looks[name] for name in ("position", "opacity") if name in looks}
        self.leave({name: looks[name] for name in looks.keys() - {"position", "opacity", "fit"}}, where)
        self.leave(font if isinstance(font, dict) else {}, f"{where}/asset/font")
        self.leave(told, f"{where}/asset")
        self.leave({name: clip[name] for name in clip.keys() - READ}, where)
        return _Piece("text", start, end - start, made)

    def fitting(self, style: Json, where: str) -> Json:
        """Of a style what we can show."""
        kept = {}
        for name, value in style.items():
            try:
                timeline.Style.model_validate({name: value})
            except ValidationError:
                self.notes.add(where, f"styles of texts: {name}")
            else:
                kept[name] = value
        return kept

    def fades(self, clip: Json, length: Fraction, where: str) -> Json:
        """Half a clip at most: it cannot come and go at once."""
        told = clip.get("transition")
        made = {}
        for name, ours in (("in", "fade_in"), ("out", "fade_out")):
            kind = told.get(name) if isinstance(told, dict) else None
            if not isinstance(kind, str) or kind == "none":
                continue
            pace = SPEED.search(kind)
            if SPEED.sub("", kind) != "fade":
                self.notes.add(f"{where}/transition/{name}", f"the transition {SPEED.sub('', kind)}: a fade instead")
            made[ours] = min(FADES_S[pace[1] if pace else ""], seconds(length / 2))
        return made

    def looks(self, clip: Json, where: str) -> Json:
        made: Json = {}
        fit = _word(clip.get("fit")) or "crop"
        if fit not in FITS:
            self.notes.add(f"{where}/fit", f"the fit {fit}: contain instead")
        made["fit"] = FITS.get(fit, "contain")
        for name in ("scale", "opacity"):
            if clip.get(name) is not None:
                made[name] = self.plain(clip, name, 1.0, where)
        place, offset = _word(clip.get("position")) or "center", clip.get("offset") or {}
        if place not in POSITIONS or not isinstance(offset, dict):
            self.notes.add(f"{where}/position", "positions that are not known: the middle")
            place, offset = "center", {}
        x, y = POSITIONS[place]
        # Against an edge lies an edge, and we place the middle; that is the same for a picture of the frame's shape.
        room = max(0.0, 1.0 - made.get("scale", 1.0))
        if (x or y) and "scale" in made:
            self.notes.add(f"{where}/position", "positions at an edge: as if the picture had the shape of the frame")
        x = x * room + 2 * self.plain(offset, "x", 0.0, f"{where}/offset")
        y = y * room - 2 * self.plain(offset, "y", 0.0, f"{where}/offset")
        if x or y:
            made["position"] = {"x": max(-4.0, min(4.0, x)), "y": max(-4.0, min(4.0, y))}
        return made | self.motion(clip, where)

    def motion(self, clip: Json, where: str) -> Json:
        made: Json = {}
        effect, chosen = clip.get("effect"), clip.get("filter")
        if isinstance(effect, str) and SPEED.sub("", effect) in EFFECTS:
            made["effect"] = EFFECTS[SPEED.sub("", effect)]
            if SPEED.search(effect):
                self.notes.add(f"{where}/effect", "the pace of effects")
        elif effect and effect != "none":
            self.notes.add(f"{where}/effect", f"the effect {str(effect)[:40]}")
        if isinstance(chosen, str) and chosen in FILTERS:
            made["filters"] = [FILTERS[chosen]]
        elif chosen and chosen != "none":
            self.notes.add(f"{where}/filter", f"the filter {str(chosen)[:40]}")
        return made

    def plain(self, told: Json, name: str, usual: float, where: str) -> float:
        """A number; where there is a list of key frames, what it is at first is not known to be meant."""
        value = told.pop(name, None) if name == "volume" else told.get(name)
        if value is None:
            return usual
        number = _number(value, math.nan)
        if math.isnan(number):
            self.notes.add(f"{where}/{name}", f"{name} that changes: {usual:g} throughout")
            return usual
        return number

    def soundtrack(self, told: Any, end: Fraction, tracks: list[Json]) -> None:
        if not isinstance(told, dict) or not told.get("src"):
            return
        if not end:
            self.notes.add("/timeline/soundtrack", "a soundtrack to nothing")
            return
        where = "/timeline/soundtrack"
        src = str(told["src"])
        asset = self.media.asset([src, src.partition("?")[0].rpartition("/")[2]], f"{where}/src")
        effect = str(told.get("effect") or "")
        fade = min(FADES_S["Slow"], seconds(end / 2))
        clip: Json = {"asset": asset, "start": 0.0, "in": 0.0, "duration": seconds(end)}
        clip["volume"] = self.plain(dict(told), "volume", 1.0, where)
        clip |= {"fade_in": fade} if "fadeIn" in effect else {}
        clip |= {"fade_out": fade} if "adeOut" in effect else {}
        self.leave({name: told[name] for name in told.keys() - {"src", "effect", "volume"}}, where)
        tracks.append({"type": "audio", "role": "music", "clips": [clip]})

    def output(self, told: Json) -> tuple[Json, float]:
        rest = dict(told)
        made: Json = {}
        kind = _word(rest.pop("format", "mp4"))
        if kind in {"mp4", "gif", "mp3"}:
            made["format"] = kind
        else:
            self.notes.add("/output/format", f"the format {kind}: mp4 instead")
        size, resolution = rest.pop("size", None), _word(rest.pop("resolution", None))
        if isinstance(size, dict) and isinstance(size.get("width"), int) and isinstance(size.get("height"), int):
            made |= {"width": size["width"], "height": size["height"]}
        elif resolution in SIZES:
            made |= self.sized(SIZES[resolution], rest.pop("aspectRatio", None))
        elif resolution:
            self.notes.add("/output/resolution", f"the resolution {resolution}")
        ratio = rest.pop("aspectRatio", None)
        if isinstance(ratio, str):
            made["aspect_ratio"] = ratio
        rate = _number(rest.pop("fps", None), RATES.get(resolution, 25))
        self.leave(rest, "/output")
        return made, rate

    def sized(self, size: tuple[int, int], ratio: Any) -> Json:
        """The short side stays what it is, whatever the shape."""
        short = min(size)
        found = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", ratio) if isinstance(ratio, str) else None
        if found is None:
            return {"width": size[0], "height": size[1]}
        across, down = int(found[1]), int(found[2])
        longer = 2 * round(short * max(across, down) / min(across, down) / 2)
        return {"width": longer, "height": short} if across >= down else {"width": short, "height": longer}


def _tracks(layers: Iterable[list[_Piece]]) -> list[Json]:
    """The lowest pictures are the video track; on every other track a clip says where it starts."""
    made: list[Json] = []
    for layer in layers:
        for kind in ("picture", "text", "audio"):
            for lane in _lanes([piece for piece in layer if piece.kind == kind]):
                if kind == "picture" and not any(track["type"] == "video" for track in made):
                    made.append({"type": "video", "clips": _in_a_row(lane)})
                else:
                    placed = [piece.clip | {"start": seconds(piece.start)} for piece in lane]
                    made.append({"type": "overlay" if kind == "picture" else kind, "clips": placed})
    return made


def _lanes(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Clips on as few tracks as they need not to overlap."""
    lanes: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda one: one.start):
        lane = next((lane for lane in lanes if lane[-1].end - piece.start <= SAME), None)
        if lane is None:
            lanes.append([piece])
        else:
            lane.append(piece)
    return lanes


def _in_a_row(lane: list[_Piece]) -> list[Json]:
    made: list[Json] = []
    at = Fraction(0)
    for piece in lane:
        if piece.start - at > SAME:
            made.append({"gap": True, "duration": seconds(piece.start - at)})
        made.append(piece.clip)
        at = piece.end
    return made


def _word(value: Any) -> str:
    return "" if value is None else str(value)[:40]


def _number(value: Any, usual: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return usual
    return float(value)
