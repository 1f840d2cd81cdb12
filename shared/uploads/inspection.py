"""Whether an uploaded file is what it was said to be, and whether it can be used. It is read in parts."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from shared.media.types import HEAD_BYTES, sniff
from shared.uploads import limits
from shared.uploads.limits import Rejected
from shared.uploads.probe import Probe

THUMBNAIL_QUALITY = 80

# What a cue or an event of each format has in its times.
CUES = {
    "application/x-subrip": re.compile(r"^\s*(?:\d+:)?\d+:\d\d[,.]\d{1,3}\s*-->\s*(?:\d+:)?\d+:\d\d[,.]\d{1,3}", re.M),
    "text/vtt": re.compile(r"^\s*(?:\d+:)?\d\d:\d\d\.\d{3}\s+-->\s+(?:\d+:)?\d\d:\d\d\.\d{3}", re.M),
    "text/x-ssa": re.compile(r"^Dialogue:[^,]*,\s*\d+:\d\d:\d\d[.:]\d+,", re.M),
}


@dataclass(frozen=True)
class Inspection:
    """A file that can be used: its probe, a small picture (WebP), and of a sound its waveform (JSON and PNG)."""

    probe: Probe
    thumbnail: bytes | None = None
    peaks: bytes | None = None
    waveform: bytes | None = None


def inspect(file: BinaryIO, declared: str, time_left: Callable[[], float]) -> Inspection:
    """What a seekable file has that was declared to be of the type `declared`. Raises Rejected.

    Gives up when `time_left()` (seconds) is used up.
    """
    size = file.seek(0, io.SEEK_END)
    limits.check_size(declared, size)
    file.seek(0)
    if declared in limits.CAPTIONS:
        return Inspection(_captions(file.read(), declared))
    media_type = sniff(file.read(HEAD_BYTES))
    if media_type is None:
        raise Rejected("unknown_type", f"the file is not {declared}, and nothing else that is known")
    # Slow to import; captions need none of it.
    if media_type.startswith("image/"):
        from shared.uploads import still

        _check_type(media_type, declared)
        found = still.examine(file, media_type)
        return Inspection(found.probe, _webp(found.thumbnail))
    from shared.uploads import film

    found = film.examine(file, media_type, time_left)
    real = found.probe.content_type
    _check_type(real, declared)
    if not real.startswith("audio/"):
        return Inspection(found.probe, _webp(found.thumbnail))
    from shared.uploads import waveform

    drawn = waveform.draw(file, media_type, found.probe.duration_s or 0, time_left)
    return Inspection(found.probe, peaks=drawn.document().encode(), waveform=drawn.png())


def _check_type(real: str, declared: str) -> None:
    if real != declared:
        raise Rejected("wrong_type", f"the file is {real} and was declared to be {declared}")


def _captions(data: bytes, declared: str) -> Probe:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Rejected("wrong_type", "captions must be UTF-8 text") from None
    real = _kind_of_captions(text)
    if real is None:
        raise Rejected("unknown_type", "the file has no captions in it")
    _check_type(real, declared)
    return Probe(real, cues=len(CUES[real].findall(text)))


def _kind_of_captions(text: str) -> str | None:
    """WebVTT begins with its name (www.w3.org/TR/webvtt1, 4.1), ASS has its section; SRT has nothing but its times."""
    if re.match(r"WEBVTT(?:[ \t\n\r]|$)", text):
        return "text/vtt"
    if re.search(r"^\[Script Info\]", text, re.M | re.I):
        return "text/x-ssa"
    return "application/x-subrip" if CUES["application/x-subrip"].search(text) else None


def _webp(image: Image.Image | None) -> bytes | None:
    if image is None:
        return None
    file = io.BytesIO()
    image.save(file, "WEBP", quality=THUMBNAIL_QUALITY)
    return file.getvalue()
