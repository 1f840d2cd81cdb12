"""The corpus of EXPORT.md, section 6: every file is ready with the right probe, or rejected for the right reason."""

import io
import json
import re
import subprocess
import tempfile
from fractions import Fraction
from functools import cache
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image, ImageChops, ImageStat

from shared.uploads import inspection
from shared.uploads.inspection import Inspection
from shared.uploads.limits import Rejected
from tests import corpus
from tests.corpus import RATES, SAMPLES

# By the name of the sample: what differs from `USUAL` in the probe of its picture.
USUAL = {
    "codec": "h264",
    "width": 128,
    "height": 96,
    "display_width": 128,
    "display_height": 96,
    "frame_rate": "30/1",
    "variable_frame_rate": False,
    "rotation": 0,
    "mirrored": False,
    "pixel_aspect": "1/1",
    "frames": 60,
    "pixel_format": "yuv420p",
    "bit_depth": 8,
    "chroma": "4:2:0",
    "interlaced": False,
    "hdr": None,
    "color_primaries": None,
    "color_transfer": None,
    "color_matrix": None,
}
BT2020 = {"color_primaries": "bt2020", "color_matrix": "bt2020nc"}
TEN_BITS = {"codec": "hevc", "pixel_format": "yuv420p10le", "bit_depth": 10}
PORTRAIT = {"display_width": 96, "display_height": 128}
PICTURES: dict[str, dict[str, Any]] = {
    **{f"rate {rate}": {"frame_rate": f"{Fraction(rate)}" if "/" in rate else f"{rate}/1"} for rate in RATES},
    "variable rate": {"frame_rate": "495/29", "variable_frame_rate": True, "frames": 33},
    "start at 2 s": {},
    "audio shorter": {},
    "audio longer": {},
    "one frame": {"frames": 1},
    "rotation 90": {"rotation": 90, **PORTRAIT},
    "rotation 180": {"rotation": 180},
    "rotation 270": {"rotation": 270, **PORTRAIT},
    "mirrored": {"mirrored": True},
    "HLG": {**TEN_BITS, **BT2020, "hdr": "hlg", "color_transfer": "arib-std-b67"},
    "PQ": {**TEN_BITS, **BT2020, "hdr": "pq", "color_transfer": "smpte2084"},
    "tagged colour": {"color_primaries": "bt709", "color_transfer": "bt709", "color_matrix": "bt709"},
    "untagged colour": {},
    "4:2:2": {"pixel_format": "yuv422p", "chroma": "4:2:2"},
    "4:4:4": {"pixel_format": "yuv444p", "chroma": "4:4:4"},
    "odd size": {
        "pixel_format": "yuv444p",
        "chroma": "4:4:4",
        "width": 127,
        "height": 95,
        "display_width": 127,
        "display_height": 95,
    },
    "non-square pixels": {"pixel_aspect": "4/3", "display_width": 171},
    "interlaced": {"interlaced": True, "frame_rate": "25/1", "frames": 50},
    "open GOP": {},
    "single keyframe": {"frames": 900},
    "VP9": {"codec": "vp9"},
    "ProRes": {"codec": "prores", "pixel_format": "yuv422p10le", "bit_depth": 10, "chroma": "4:2:2"},
    "no audio": {},
    "mono": {},
    "5.1": {},
    "several tracks": {},
    "Opus in MP4": {},
    "a film with a cover": {},
    "moov first": {},
    "moov at the end": {},
    "fragmented": {},
}
SECONDS = {"one frame": 1 / 30, "audio longer": 3, "single keyframe": 30, "variable rate": 58 / 30}
# Channels and rates of every track.
TRACKS = {
    "start at 2 s": [(1, 48000)],
    "audio shorter": [(1, 48000)],
    "audio longer": [(1, 48000)],
    "rotation 90": [(1, 48000)],
    "rotation 180": [(1, 48000)],
    "rotation 270": [(1, 48000)],
    "mirrored": [(1, 48000)],
    "VP9": [(1, 48000)],
    "mono": [(1, 48000)],
    "5.1": [(6, 48000)],
    "several tracks": [(1, 48000), (1, 44100)],
    "Opus in MP4": [(2, 48000)],
    "a film with a cover": [(1, 48000)],
    "moov first": [(1, 48000)],
    "moov at the end": [(1, 48000)],
    "fragmented": [(1, 48000)],
}
SOUNDS = {
    "all silence": (2, 48000),
    "no silence": (2, 48000),
    "MP3 with a cover": (1, 48000),
    "MP3 without a header": (1, 48000),
    "ADTS": (1, 48000),
    "FLAC": (2, 44100),
    "Ogg Opus": (1, 48000),
    "sound in an MP4": (1, 48000),
    "sound in a WebM": (1, 48000),
}
STILLS = {"JPEG": (False, 1), "alpha PNG": (True, 1), "WebP": (False, 1), "GIF": (False, 20)}
REJECTED = {
    "no moov": "no_index",
    "truncated": "truncated",
    "corrupt middle": "corrupt",
    "corrupt end": "corrupt",
    "shorter than it says": "truncated",
    "zero bytes": "empty",
    "an MP4 that is called a MOV": "wrong_type",
    "a PNG that is called a JPEG": "wrong_type",
    "a sound that is called a film": "wrong_type",
    "a playlist": "unknown_type",
    "a concat script": "unknown_type",
    "a file URL": "unknown_type",
    "a playlist of a link-local address": "unknown_type",
    "a truncated JPEG": "corrupt",
    "a truncated WAV": "truncated",
}
AAC_FRAME_S = 1024 / 48000


@cache
def inspect(name: str) -> Inspection:
    return inspection.inspect(io.BytesIO(corpus.make(name)), SAMPLES[name].media_type, lambda: 30)


def test_every_file_of_the_corpus_has_an_expectation() -> None:
    assert SAMPLES.keys() == PICTURES.keys() | SOUNDS.keys() | STILLS.keys() | REJECTED.keys()


@pytest.mark.parametrize("name", PICTURES)
def test_a_film_is_told_as_it_is(name: str) -> None:
    found = inspect(name)

    expected = {**USUAL, **PICTURES[name]}
    if "frames" not in PICTURES[name]:
        expected["frames"] = round(2 * Fraction(expected["frame_rate"]))
    assert found.probe.picture is not None
    assert vars(found.probe.picture) == expected
    assert [(track.channels, track.sample_rate) for track in found.probe.sounds] == TRACKS.get(name, [])
    assert found.probe.content_type == SAMPLES[name].media_type
    assert found.thumbnail
    assert found.peaks is None


@pytest.mark.parametrize("name", PICTURES)
def test_a_film_is_as_long_as_it_is_within_a_frame(name: str) -> None:
    probe = inspect(name).probe

    assert probe.picture is not None
    exact = SECONDS.get(name, 60060 / 30000 if "1001" in name else 2)
    assert probe.duration_s == pytest.approx(exact, abs=float(1 / Fraction(probe.picture.frame_rate)))


def test_the_time_that_a_film_begins_at_is_not_part_of_its_length() -> None:
    probe = inspect("start at 2 s").probe

    assert (probe.start_s, probe.duration_s) == (2, 2)


def test_a_track_of_sound_has_its_own_length() -> None:
    lengths = {name: inspect(name).probe.sounds[0].duration_s for name in ("audio shorter", "audio longer")}

    assert lengths == {
        "audio shorter": pytest.approx(1, abs=AAC_FRAME_S),
        "audio longer": pytest.approx(3, abs=AAC_FRAME_S),
    }


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_is_told_as_it_is_and_drawn(name: str) -> None:
    found = inspect(name)

    (track,) = found.probe.sounds
    assert (track.channels, track.sample_rate) == SOUNDS[name]
    assert found.probe.content_type == SAMPLES[name].media_type
    assert found.probe.picture is None
    # Encoders pad the first and the last frame.
    assert found.probe.duration_s == pytest.approx(2, abs=2.5 * AAC_FRAME_S)
    assert found.peaks is not None
    assert found.waveform is not None
    drawn = json.loads(found.peaks)
    length = drawn["length"] * drawn["samples_per_pixel"] / drawn["sample_rate"]
    assert length == pytest.approx(2, abs=0.06)
    with Image.open(io.BytesIO(found.waveform)) as image:
        assert image.width == drawn["length"]


def test_silence_is_drawn_as_silence_and_a_tone_as_a_tone() -> None:
    silent, loud = (json.loads(inspect(name).peaks or b"")["data"] for name in ("all silence", "no silence"))

    assert set(silent) == {0}
    # sine is an eighth of full scale.
    assert max(loud) == pytest.approx(16, abs=5)
    assert min(loud) == pytest.approx(-16, abs=5)


@pytest.mark.parametrize("name", STILLS)
def test_an_image_is_told_as_it_is(name: str) -> None:
    found = inspect(name)

    still = found.probe.still
    assert still is not None
    assert (still.width, still.height, still.alpha, still.frames) == (128, 96, *STILLS[name])
    assert found.thumbnail


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_used_is_rejected_with_the_reason(name: str) -> None:
    with pytest.raises(Rejected) as rejected:
        inspect(name)

    assert rejected.value.code == REJECTED[name]
    assert rejected.value.detail


@pytest.mark.parametrize("name", [*PICTURES, *SOUNDS])
def test_nothing_is_examined_longer_than_there_is_time(name: str) -> None:
    data = corpus.make(name)

    with pytest.raises(Rejected) as rejected:
        inspection.inspect(io.BytesIO(data), SAMPLES[name].media_type, lambda: 0)

    assert rejected.value.code == "too_slow"


@pytest.mark.parametrize("name", ["rotation 90", "rotation 180", "rotation 270", "mirrored", "non-square pixels"])
def test_a_thumbnail_shows_the_film_the_way_up_that_ffmpeg_does(name: str) -> None:
    found = inspect(name)
    assert found.thumbnail is not None
    assert found.probe.picture is not None
    size = (found.probe.picture.display_width, found.probe.picture.display_height)

    with Image.open(io.BytesIO(found.thumbnail)) as shown:
        difference = ImageChops.difference(shown.convert("RGB"), frame_by_ffmpeg(corpus.make(name), size))

    assert max(ImageStat.Stat(difference).mean) < 12


def frame_by_ffmpeg(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The frame at half a second, turned by ffmpeg itself."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        start = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-ss", "0.5", "-i", file.name]
        look = ["-frames:v", "1", "-vf", f"scale={size[0]}:{size[1]},setsar=1", "-c:v", "png", "-f", "image2pipe", "-"]
        shown = subprocess.run([*start, *look], check=True, capture_output=True, timeout=60).stdout
    return Image.open(io.BytesIO(shown)).convert("RGB")


# What is not made by ffmpeg


def oriented(orientation: int) -> bytes:
    """A photo, red on its left half and blue on its right one, as a camera stores it that was held otherwise."""
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("orientation", "rotation", "mirrored", "first"),
    [
        (1, 0, False, "red"),
        (2, 0, True, "blue"),
        (3, 180, False, "blue"),
        (6, 90, False, "red"),
        (8, 270, False, "blue"),
    ],
)
def test_a_photo_is_shown_as_the_camera_was_held(orientation: int, rotation: int, mirrored: bool, first: str) -> None:
    found = inspection.inspect(io.BytesIO(oriented(orientation)), "image/jpeg", lambda: 30)

    still = found.probe.still
    assert still is not None
    assert (still.rotation, still.mirrored) == (rotation, mirrored)
    assert found.probe.size == ((32, 64) if rotation % 180 else (64, 32))
    assert found.thumbnail is not None
    with Image.open(io.BytesIO(found.thumbnail)) as shown:
        assert shown.size == found.probe.size
        red, _, blue = shown.convert("RGB").getpixel((2, 2))
    assert ("red" if red > blue else "blue") == first


CAPTIONS = {
    "application/x-subrip": "1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nשלום\n",
    "text/vtt": "WEBVTT\n\n00:01.000 --> 00:02.500\nHello\n\n00:00:03.000 --> 00:00:04.000 line:0\n你好\n",
    "text/x-ssa": (
        "[Script Info]\nTitle: x\n\n[Events]\nFormat: Layer, Start, End, Style, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.50,Default,Hello\nDialogue: 0,0:00:03.00,0:00:04.00,Default,bye\n"
    ),
}


@pytest.mark.parametrize("media_type", CAPTIONS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_captions_are_known_by_what_is_in_them(media_type: str, mark: str, newline: str) -> None:
    data = (mark + CAPTIONS[media_type].replace("\n", newline)).encode()

    assert inspection.inspect(io.BytesIO(data), media_type, lambda: 30).probe.cues == 2


@pytest.mark.parametrize("real", CAPTIONS)
@pytest.mark.parametrize("declared", CAPTIONS)
def test_captions_must_be_of_the_declared_type(real: str, declared: str) -> None:
    if real == declared:
        return

    with pytest.raises(Rejected) as rejected:
        inspection.inspect(io.BytesIO(CAPTIONS[real].encode()), declared, lambda: 30)
    assert rejected.value.code == "wrong_type"


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "empty"), (b"hello", "unknown_type"), (b"\xff\xfe\x00", "wrong_type"), (b"x" * 1_000_001, "too_large")],
)
def test_what_is_no_captions_is_rejected(data: bytes, code: str) -> None:
    with pytest.raises(Rejected) as rejected:
        inspection.inspect(io.BytesIO(data), "application/x-subrip", lambda: 30)

    assert rejected.value.code == code


class Counting(io.BytesIO):
    """A file that knows how much of it was read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("name", ["moov first", "moov at the end"])
def test_of_a_large_film_only_a_small_part_is_read(name: str) -> None:
    """200 MB of another box lie between the film's own data and its end."""
    data = corpus.make(name)
    filler = bytes(200_000_000)
    box = (len(filler) + 8).to_bytes(4) + b"free" + filler
    at = re.search(rb"....mdat", data, re.DOTALL)
    assert at is not None
    file = Counting(data + box)

    inspection.inspect(file, "video/mp4", lambda: 30)

    assert file.count < 0.05 * len(data + box)
