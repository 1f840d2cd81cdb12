"""Frames of a video: sampled evenly, near duplicates dropped."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.error import FFmpegError
from PIL import Image

LONGEST_SIDE = 512
JPEG_QUALITY = 80
# Difference hash (dHash, 8 × 8): up to this many of 64 bits apart, two frames show the same.
SAME_WITHIN_BITS = 4


class NoFrames(Exception):
    """The file has no picture that decodes."""


@dataclass(frozen=True)
class Frame:
    """A frame at `at` seconds, as JPEG."""

    at: float
    jpeg: bytes


def sample(file: BinaryIO, *, every_s: float) -> Iterator[Frame]:
    """A frame every `every_s` seconds, without those that show what the one before showed. Raises NoFrames."""
    previous: int | None = None
    found = False
    for at, image in _at(file, every_s):
        found = True
        fingerprint = dhash(image)
        if previous is not None and (fingerprint ^ previous).bit_count() <= SAME_WITHIN_BITS:
            continue
        previous = fingerprint
        yield Frame(round(at, 3), _jpeg(image))
    if not found:
        raise NoFrames("the video has no picture")


def dhash(image: Image.Image) -> int:
    """64 bits that say where the picture gets brighter from left to right; they survive scaling and compression."""
    small = image.convert("L").resize((9, 8), Image.Resampling.BILINEAR).tobytes()
    bits = 0
    for row in range(8):
        for column in range(8):
            bits = bits << 1 | (small[row * 9 + column] < small[row * 9 + column + 1])
    return bits


def _at(file: BinaryIO, every_s: float) -> Iterator[tuple[float, Image.Image]]:
    try:
        with av.open(file, "r", options={"protocol_whitelist": ""}) as container:
            if not container.streams.video:
                raise NoFrames("the file has no picture")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            due = 0.0
            for frame in container.decode(stream):
                at = float(frame.time or 0.0)
                if at + 1e-6 >= due:
                    due = at + every_s
                    yield at, frame.to_image()  # type: ignore[no-untyped-call]
    except (FFmpegError, OSError, ValueError) as error:
        raise NoFrames(str(error)) from error


def _jpeg(image: Image.Image) -> bytes:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
