"""What a model is asked for, read from its input, and what comes of it once the input's files are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from local.simulator import directives
from local.simulator.directives import Directives, Kind
from local.simulator.inputs import Given, Unreachable
from local.simulator.media import ImageFormat, Picture, frame
from local.simulator.models import SOUND_FIELDS, kind_of
from local.simulator.recordings import SOUND_TYPES, Film, Recipe, Sound, SoundFormat, Voice, seed_of, spoken_seconds
from local.simulator.transcripts import Transcript, transcribe

TEXT_FIELDS = ("prompt", "text", "input", "lyrics", "script", "initial_prompt")
COUNT_FIELDS = ("num_outputs", "num_images", "n")
LENGTH_FIELDS = ("duration", "seconds", "n_frames", "length", "music_length")
# Fields that ask for a film with or without sound.
FILM_SOUND_FIELDS = ("generate_audio", "sound", "audio", "with_audio")
MODELS_WITH_SOUND = ("veo", "sora")
FILM_SIDE = 640
DEFAULT_SECONDS: dict[Kind, float] = {"video": 5.0, "character-video": 5.0, "music": 8.0}
LONGEST_S = 1_200.0
RATIOS_BY_NAME = {
    "landscape": "16:9",
    "portrait": "9:16",
    "square": "1:1",
    "square_hd": "1:1",
    "portrait_4_3": "3:4",
    "portrait_16_9": "9:16",
    "landscape_4_3": "4:3",
    "landscape_16_9": "16:9",
    # What the input picture decides at the provider is decided here without it.
    "match_input_image": "",
    "adaptive": "",
    "auto": "",
}
FOUR_STEMS = ("vocals", "drums", "bass", "other")


class Unfit(ValueError):
    """An input the model would refuse; `field` names what is wrong."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.field = field


@dataclass(frozen=True, slots=True)
class Order:
    """`seconds` None: as long as the sound that is given, or as usual. `caption` is the text without directives."""

    kind: Kind
    caption: str
    given: Mapping[str, Any]
    seed: int
    pictures: tuple[Picture, ...] = ()
    seconds: float | None = None
    size: tuple[int, int] = (FILM_SIDE, 360)
    sound: Voice | None = None
    format: SoundFormat = "mp3"
    tracks: int = 1
    stems: tuple[str, ...] = ()
    say: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Files by name: stems by theirs, others by number. `seconds` is the length of the first."""

    kind: Kind
    files: dict[str, Recipe]
    transcript: Transcript | None = None
    seconds: float = 0.0


def prompt_of(given: Mapping[str, Any]) -> str:
    """The text of an input. Raises Unfit."""
    for name in TEXT_FIELDS:
        if name in given and given[name] is not None:
            if not isinstance(given[name], str):
                raise Unfit(name, f"{name} must be a string")
            return str(given[name])
    return ""


def read(model: str, given: Mapping[str, Any], asked: Directives, *, tracks: int = 1) -> Order:
    """Raises Unfit for an input the model would refuse."""
    prompt = prompt_of(given)
    kind = asked.kind or kind_of(model, given.keys())
    caption = directives.caption(prompt)
    seed = _seed(given, prompt)
    seconds = asked.seconds or _length(given)
    match kind:
        case "image":
            return Order(kind, caption, given, seed, pictures=_pictures(given, caption, seed))
        case "video" | "character-video":
            size = _size(given, FILM_SIDE, "16:9")
            return Order(kind, caption, given, seed, seconds=seconds, size=size, sound=_film_sound(kind, model, given))
        case "speech" | "music":
            sound = _sound_format(given, "wav" if "musicgen" in model else "mp3")
            return Order(kind, caption, given, seed, seconds=seconds, format=sound, tracks=tracks)
        case "stems":
            _require_sound(given)
            sound, stems = _sound_format(given, "mp3"), _stems(model, given)
            return Order(kind, caption, given, seed, seconds=seconds, format=sound, stems=stems)
        case "transcription":
            _require_sound(given)
            return Order(kind, caption, given, seed, seconds=seconds, say=asked.say)


def carry_out(order: Order, files: Mapping[str, Given]) -> Made:
    """What the model makes of its order and the files it fetched. Raises Unreachable for one it cannot read."""
    heard = _heard(order, files)
    seconds = order.seconds or (heard.probe.seconds if heard and heard.probe else None)
    match order.kind:
        case "image":
            return Made("image", {str(picture.index): picture for picture in order.pictures})
        case "video" | "character-video":
            seconds = round(seconds or _usual(order), 2)
            film = Film(order.caption, seconds, *order.size, order.seed, order.sound)
            return Made(order.kind, {"0": film}, seconds=seconds)
        case "speech" | "music":
            # The sound that is given is a sample of the voice or the tune, and its length means nothing.
            seconds = order.seconds or (spoken_seconds(order.caption) if order.kind == "speech" else _usual(order))
            voice: Voice = "speech" if order.kind == "speech" else "music"
            made = [Sound(voice, seconds, order.seed + track, order.format) for track in range(order.tracks)]
            return Made(order.kind, {str(number): sound for number, sound in enumerate(made)}, seconds=seconds)
        case "stems":
            seconds = seconds or _usual(order)
            return Made("stems", {name: _stem(name, seconds, order) for name in order.stems}, seconds=seconds)
        case "transcription":
            seconds = seconds or _usual(order)
            return Made("transcription", {}, transcribe(seconds, order.say), seconds)


def _heard(order: Order, files: Mapping[str, Given]) -> Given | None:
    """The sound that was given; for stems and transcripts anything that can be heard will do."""
    needed = order.kind in ("stems", "transcription")
    candidates = [file for name, file in files.items() if needed or name in SOUND_FIELDS or "audio" in name]
    for file in candidates:
        if file.probe is not None and file.probe.has_audio:
            return file
    if candidates:
        field = candidates[0].field
        raise Unreachable(field, f"cannot read {field}: it has no sound")
    return None


def _usual(order: Order) -> float:
    return DEFAULT_SECONDS.get(order.kind, 5.0)


def _stem(name: str, seconds: float, order: Order) -> Sound:
    voice: Voice = "speech" if name == "vocals" else "music"
    return Sound(voice, round(seconds, 2), seed_of(name) % 12 + order.seed, order.format)


def _require_sound(given: Mapping[str, Any]) -> None:
    if not any(
        isinstance(value, str) and value.startswith(("http://", "https://", "data:")) for value in given.values()
    ):
        raise Unfit("audio", "audio is required")


def _seed(given: Mapping[str, Any], prompt: str) -> int:
    seed = given.get("seed")
    if seed is None:
        return seed_of(prompt)
    if type(seed) is not int:
        raise Unfit("seed", "seed must be a whole number")
    return seed


def _length(given: Mapping[str, Any]) -> float | None:
    """Seconds, which some models want as a number and others as text, `8` or `8s`."""
    for name in LENGTH_FIELDS:
        if name in given and given[name] is not None:
            try:
                seconds = float(str(given[name]).removesuffix("s"))
            except ValueError:
                seconds = 0.0
            if not 0 < seconds <= LONGEST_S:
                raise Unfit(name, f"{name} must be a number of seconds, at most {LONGEST_S:.0f}")
            return seconds
    return None


def _film_sound(kind: Kind, model: str, given: Mapping[str, Any]) -> Voice | None:
    for name in FILM_SOUND_FIELDS:
        if isinstance(given.get(name), bool):
            return "speech" if given[name] else None
    return "speech" if kind == "character-video" or any(name in model for name in MODELS_WITH_SOUND) else None


def _sound_format(given: Mapping[str, Any], usual: SoundFormat) -> SoundFormat:
    for name in ("output_format", "audio_format", "format"):
        if isinstance(given.get(name), str):
            if given[name] not in SOUND_TYPES:
                raise Unfit(name, f"{name} must be one of {', '.join(SOUND_TYPES)}")
            return cast(SoundFormat, given[name])
    return usual


def _stems(model: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    wanted = given.get("two_stems") or given.get("stem")
    if isinstance(wanted, str) and wanted.lower() not in ("", "none", "all"):
        return (wanted.lower(), "other")
    return FOUR_STEMS if "demucs" in model.lower() else ("vocals", "accompaniment")


def _pictures(given: Mapping[str, Any], caption: str, seed: int) -> tuple[Picture, ...]:
    name = next((name for name in COUNT_FIELDS if name in given), "num_outputs")
    count = given.get(name, 1)
    if type(count) is not int or not 1 <= count <= 4:
        raise Unfit(name, f"{name} must be a whole number from 1 to 4")
    picture_format = given.get("output_format", "png")
    # Models name JPEG in both ways.
    picture_format = "jpg" if picture_format == "jpeg" else picture_format
    if picture_format not in get_args(ImageFormat):
        raise Unfit("output_format", "output_format must be one of png, webp, jpg")
    width, height = _size(given, None, "1:1")
    kind = cast(ImageFormat, picture_format)
    return tuple(Picture(caption, seed, index, width, height, kind) for index in range(count))


def _size(given: Mapping[str, Any], long_side: int | None, usual: str) -> tuple[int, int]:
    """Width and height in pixels; with `long_side` the shape that was asked for in that size, in even numbers."""
    asked = given.get("image_size")
    exact = asked if isinstance(asked, dict) else given
    if "width" in exact or "height" in exact:
        width, height = exact.get("width"), exact.get("height")
        if not (type(width) is int and type(height) is int and 16 <= min(width, height) <= max(width, height) <= 2048):
            raise Unfit("width", "width and height must be whole numbers from 16 to 2048")
    else:
        width, height = _shape(given, usual)
    if long_side is None:
        return width, height
    scale = long_side / max(width, height)
    return round(width * scale / 2) * 2, round(height * scale / 2) * 2


def _shape(given: Mapping[str, Any], usual: str) -> tuple[int, int]:
    name = next((name for name in ("aspect_ratio", "aspectRatio", "image_size") if name in given), "aspect_ratio")
    ratio = given.get(name, usual)
    try:
        return frame(RATIOS_BY_NAME.get(ratio.lower(), ratio) or usual)
    except (ValueError, AttributeError):
        raise Unfit(name, f"{name} must be a ratio such as 16:9") from None
