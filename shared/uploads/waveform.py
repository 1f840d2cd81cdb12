"""The waveform of a sound: its peaks as JSON, and a picture of them.

The JSON is that of audiowaveform (github.com/bbc/audiowaveform, doc/DataFormat.md), version 2, 8 bits: `data` has the
lowest and the highest sample of each pixel in turn. Players draw it as it is.
"""

import io
import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
from av.error import FFmpegError
from PIL import Image, ImageDraw

from shared.media.probe import DEMUXERS
from shared.uploads.limits import Rejected

RATE = 8000
PIXELS = 1800
FINEST = 16
"""Samples of a pixel, at the least."""
HEIGHT = 200
COLOUR = (90, 90, 90, 255)


@dataclass(frozen=True)
class Waveform:
    """Lowest and highest sample of each pixel, -128 to 127."""

    samples_per_pixel: int
    data: tuple[int, ...]

    def document(self) -> str:
        """audiowaveform's JSON."""
        return json.dumps(
            {
                "version": 2,
                "channels": 1,
                "sample_rate": RATE,
                "samples_per_pixel": self.samples_per_pixel,
                "bits": 8,
                "length": len(self.data) // 2,
                "data": self.data,
            },
            separators=(",", ":"),
        )

    def png(self) -> bytes:
        """A picture, transparent but for the sound."""
        image = Image.new("RGBA", (max(1, len(self.data) // 2), HEIGHT))
        pen = ImageDraw.Draw(image)
        for x in range(len(self.data) // 2):
            low, high = self.data[2 * x : 2 * x + 2]
            pen.line([(x, _row(high)), (x, _row(low))], fill=COLOUR)
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()


def draw(file: BinaryIO, media_type: str, duration_s: float, time_left: Callable[[], float]) -> Waveform:
    """The waveform of the first track of sound, which is decoded from beginning to end. Raises Rejected."""
    size = max(FINEST, -(-int(duration_s * RATE) // PIXELS))
    data: list[int] = []
    held = array("h")
    try:
        file.seek(0)
        with av.open(file, "r", format=DEMUXERS[media_type], options={"protocol_whitelist": ""}) as container:
            for samples in _samples(container):
                if time_left() <= 0:
                    raise Rejected("too_slow", "the file could not be examined in time")
                held.extend(samples)
                whole = len(held) - len(held) % size
                for at in range(0, whole, size):
                    data += _peaks(held[at : at + size])
                del held[:whole]
    except (FFmpegError, OSError, ValueError, EOFError) as error:
        raise Rejected("corrupt", "the sound does not decode to its end") from error
    if held:
        data += _peaks(held)
    return Waveform(size, tuple(data))


def _samples(container: Any) -> Iterator[array[int]]:
    """Of all channels as one, 16 bits, RATE a second."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    for frame in container.decode(container.streams.audio[0]):
        for part in resampler.resample(frame):
            yield _plane(part)
    for part in resampler.resample(None):
        yield _plane(part)


def _plane(frame: Any) -> array[int]:
    return array("h", bytes(frame.planes[0])[: frame.samples * 2])


def _peaks(samples: array[int]) -> tuple[int, int]:
    return min(samples) >> 8, max(samples) >> 8


def _row(value: int) -> int:
    """The row of a sample: silence is in the middle."""
    return round((HEIGHT - 1) * (127 - value) / 255)
