"""Films and sounds made on the spot, so that what reads them has something real to read."""

import io
import math
import tempfile
from array import array
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import av
from av.container import OutputContainer
from PIL import Image

RATE = 48_000
FRAMES_A_SECOND = 10

# By media type: the muxer, the codec.
SOUNDS = {
    "audio/mpeg": ("mp3", "libmp3lame"),
    "audio/aac": ("adts", "aac"),
    "audio/mp4": ("ipod", "aac"),
    "audio/wav": ("wav", "pcm_s16le"),
    "audio/flac": ("flac", "flac"),
    "audio/ogg": ("ogg", "libopus"),
}
FILMS = {
    "video/mp4": ("mp4", "libx264"),
    "video/quicktime": ("mov", "libx264"),
    "video/webm": ("webm", "libvpx"),
}


@cache
def sound(media_type: str = "audio/mpeg", seconds: float = 3.0, *, codec: str | None = None) -> bytes:
    """A tone of this length, in the usual codec or another that the container takes."""
    muxer, usual = SOUNDS[media_type]
    codec = codec or usual
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream: Any = container.add_stream(codec, rate=RATE, layout="mono")
        tone = array("h", (round(9000 * math.sin(at / 17)) for at in range(round(RATE * seconds))))
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(tone))
        frame.planes[0].update(tone.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        fifo = av.AudioFifo()
        converted = av.AudioResampler(stream.format, "mono", RATE).resample(frame)
        for part in converted:
            fifo.write(part)
        while (piece := fifo.read(stream.frame_size or 1024, partial=True)) is not None:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return file.getvalue()


def picture(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """One of many pictures that look different from each other, and nothing like a plain one."""
    image = Image.new("L", (9, 8))
    image.putdata([(7919 * (number + 1) * (at + 3) ** 2) % 251 for at in range(72)])
    return image.resize(size, Image.Resampling.NEAREST).convert("RGB")


@cache
def film(
    media_type: str = "video/mp4", scenes: tuple[tuple[int, float], ...] = ((0, 3.0),), *, fast: bool = False
) -> bytes:
    """A film of scenes (which picture, for how many seconds); `fast` puts the index of an MP4 first."""
    muxer, codec = FILMS[media_type]
    options = {"movflags": "faststart"} if fast else {}
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=muxer, options=options) as container:
            _shoot(container, codec, scenes)
        return file.read()


def _shoot(container: OutputContainer, codec: str, scenes: Sequence[tuple[int, float]]) -> None:
    stream: Any = container.add_stream(codec, rate=FRAMES_A_SECOND)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.gop_size = FRAMES_A_SECOND
    for number, seconds in scenes:
        frame = av.VideoFrame.from_image(picture(number))  # type: ignore[no-untyped-call]
        for _ in range(round(seconds * FRAMES_A_SECOND)):
            frame.pts = None
            container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
