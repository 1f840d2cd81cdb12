"""Films and sounds as recipes, and the FFmpeg arguments that cook them. Equal recipes make equal media."""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from local.simulator.media import Picture

SoundFormat = Literal["mp3", "wav", "opus", "aac", "flac", "pcm", "ulaw", "alaw"]
Voice = Literal["speech", "music"]

# Longer ones are this long and repeated without encoding again, in the formats that allow it.
LOOP = 16.0
REPEATABLE = {"mp3", "aac"}
FRAMES_PER_SECOND = 12
CHARACTERS_PER_SECOND = 14
SHORTEST_SPEECH = 0.5
SOUND_TYPES: dict[SoundFormat, str] = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "pcm": "audio/pcm",
    "ulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
}
# The muxer and encoder of each, and whether a bitrate means anything to it.
ENCODINGS: dict[SoundFormat, tuple[str, str, bool]] = {
    "mp3": ("mp3", "libmp3lame", True),
    "wav": ("wav", "pcm_s16le", False),
    "opus": ("ogg", "libopus", True),
    "aac": ("adts", "aac", True),
    "flac": ("flac", "flac", False),
    "pcm": ("s16le", "pcm_s16le", False),
    "ulaw": ("mulaw", "pcm_mulaw", False),
    "alaw": ("alaw", "pcm_alaw", False),
}
# Semitones above the lowest root: I, V, vi, IV.
PROGRESSION = (0, 7, 9, 5)
CHORD_S = 2


@dataclass(frozen=True, slots=True)
class Sound:
    """`seed` chooses the pitch; `rate` is in Hz, `bitrate` in kbit/s."""

    voice: Voice
    seconds: float
    seed: int = 0
    format: SoundFormat = "mp3"
    rate: int = 44_100
    bitrate: int = 64

    @property
    def content_type(self) -> str:
        return SOUND_TYPES[self.format]

    @property
    def repeated(self) -> "Sound | None":
        """The recipe of the part that is repeated to make this one; None when it is made at once."""
        if self.seconds <= LOOP or self.format not in REPEATABLE:
            return None
        return Sound(self.voice, LOOP, self.seed, self.format, self.rate, self.bitrate)


@dataclass(frozen=True, slots=True)
class Film:
    """Moving test pictures under a caption; `sound` None is a silent film."""

    caption: str
    seconds: float
    width: int
    height: int
    seed: int = 0
    sound: Voice | None = None

    content_type = "video/mp4"
    format = "mp4"

    @property
    def repeated(self) -> "Film | None":
        if self.seconds <= LOOP:
            return None
        return Film(self.caption, LOOP, self.width, self.height, self.seed, self.sound)


type Recording = Sound | Film
type Recipe = Picture | Recording


def seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def spoken_seconds(text: str, speed: float = 1.0) -> float:
    """How long it takes to say: about 14 characters a second."""
    return round(max(SHORTEST_SPEECH, len(text) / CHARACTERS_PER_SECOND / speed), 2)


def cook(recipe: Recording, target: str) -> list[str]:
    """FFmpeg's arguments for a recipe that is made at once. A film reads its caption, a PNG, from standard input."""
    if isinstance(recipe, Sound):
        return [*_heard(recipe), "-t", f"{recipe.seconds:.3f}", *_encoding(recipe), target]
    inputs = ["-f", "lavfi", "-i", _seen(recipe), "-f", "png_pipe", "-i", "pipe:0"]
    maps = ["-filter_complex", "[0:v][1:v]overlay=format=auto[v]", "-map", "[v]"]
    audio: list[str] = []
    if recipe.sound is not None:
        inputs += _heard(Sound(recipe.sound, recipe.seconds, recipe.seed))
        audio = ["-map", "2:a", "-c:a", "aac", "-b:a", "48k"]
    picture = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "34", "-pix_fmt", "yuv420p", "-threads", "1"]
    ending = ["-t", f"{recipe.seconds:.3f}", "-movflags", "+faststart", "-f", "mp4", target]
    return [*inputs, *maps, *picture, *audio, *ending]


def repeat(recipe: Recording, part: str, target: str) -> list[str]:
    """FFmpeg's arguments to make `recipe` of the finished file of its `repeated` part, without encoding again."""
    muxer = (
        ["-f", ENCODINGS[recipe.format][0]] if isinstance(recipe, Sound) else ["-movflags", "+faststart", "-f", "mp4"]
    )
    return ["-stream_loop", "-1", "-i", part, "-t", f"{recipe.seconds:.3f}", "-c", "copy", *muxer, target]


def _seen(film: Film) -> str:
    pattern = ("testsrc2", "testsrc")[film.seed % 2]
    return f"{pattern}=size={film.width}x{film.height}:rate={FRAMES_PER_SECOND}:duration={film.seconds:.3f}"


def _heard(sound: Sound) -> list[str]:
    """Speech is a mumble whose volume comes and goes with its syllables; music is four chords in turn."""
    lowest = 110 * 2 ** (sound.seed % 12 / 12)
    if sound.voice == "speech":
        graph = f"sine=frequency={lowest:.1f}:beep_factor=2:sample_rate={sound.rate},volume=6,tremolo=f=4:d=0.9"
        return ["-f", "lavfi", "-i", graph]
    root = f"{lowest:.1f}*({_by_turns(PROGRESSION)})"
    tones = "+".join(f"sin(2*PI*t*{ratio}*{root})" for ratio in (1, 1.25, 1.5))
    length = len(PROGRESSION) * CHORD_S
    samples = length * sound.rate
    chords = f"aevalsrc='0.15*({tones})':sample_rate={sound.rate}:duration={length}"
    return ["-f", "lavfi", "-i", f"{chords},aloop=loop=-1:size={samples}"]


def _by_turns(semitones: tuple[int, ...]) -> str:
    """An expression that is each frequency ratio while its chord lasts."""
    return "+".join(f"{2 ** (tone / 12):.5f}*eq(floor(t/{CHORD_S}),{turn})" for turn, tone in enumerate(semitones))


def _encoding(sound: Sound) -> list[str]:
    muxer, encoder, has_bitrate = ENCODINGS[sound.format]
    bitrate = ["-b:a", f"{sound.bitrate}k"] if has_bitrate else []
    return ["-c:a", encoder, "-ar", str(sound.rate), "-ac", "1", *bitrate, "-f", muxer]


# What FFmpeg says about a file it was given.
DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
POSITION = re.compile(r"time=(\d+):(\d\d):(\d\d\.\d+)")


@dataclass(frozen=True, slots=True)
class Probe:
    """`seconds` is 0 for a still picture."""

    seconds: float
    has_audio: bool
    has_video: bool


def read_probe(report: str) -> Probe | None:
    """What FFmpeg's report on a file says; None when it found neither pictures nor sound."""
    has_audio, has_video = ("Audio: " in report), ("Video: " in report)
    if not (has_audio or has_video):
        return None
    found = [*DURATION.findall(report)[:1], *POSITION.findall(report)[-1:]]
    hours, minutes, seconds = found[0] if found else ("0", "0", "0")
    return Probe(int(hours) * 3600 + int(minutes) * 60 + float(seconds), has_audio, has_video)
