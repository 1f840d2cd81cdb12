"""Videos and sound: how long, how large, and whether they decode at both ends.

FFmpeg takes a WAV or Ogg file that was cut off for a shorter one; for those two the container is read here as well. Of
raw AAC, and of an MP3 without a Xing header, only the length that was announced tells a part from the whole.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.subtitles.subtitle import SubtitleSet

from shared.media.types import EXTENSIONS

# Containers that fetch other files (playlists, concat scripts) are none of these.
DEMUXERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "audio/mp4": "mov",
    "video/webm": "matroska",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/webm": "matroska",
}
TAIL_S = 1.0
MISSING_S = 1.0
# A WAV that was streamed had its sizes written before they were known: as 0xFFFFFFFF, 0x7FFFFFFF, two thousand million,
# or nothing. No file that we take is so large.
PLACEHOLDER_FROM = 1_000_000_000
MOST_CHUNKS = 64
PAGE_HEADER = 27
LARGEST_PAGE = PAGE_HEADER + 255 + 255 * 255


class NotMedia(Exception):
    """The file has no stream of the family, does not decode, or ends too early."""


@dataclass(frozen=True)
class Probe:
    """Seconds, and pixels where there is a picture."""

    duration_s: float
    width: int | None = None
    height: int | None = None


def measure(file: BinaryIO, media_type: str) -> Probe:
    """What a seekable file of `media_type` has. Decodes its beginning and its last second. Raises NotMedia."""
    family = media_type.partition("/")[0]
    try:
        check_whole(file, media_type)
        with av.open(file, "r", format=DEMUXERS[media_type], options={"protocol_whitelist": ""}) as container:
            streams = container.streams.video if family == "video" else container.streams.audio
            if not streams:
                raise NotMedia(f"the {EXTENSIONS[media_type]} has no {family}")
            stream = streams[0]
            duration = _duration(container, stream)
            _decodes(container, stream, duration)
            if family == "audio":
                return Probe(duration)
            picture = container.streams.video[0]
            return Probe(duration, picture.width, picture.height)
    except (FFmpegError, OSError, ValueError, EOFError) as error:
        raise NotMedia(str(error)) from error


def check_whole(file: BinaryIO, media_type: str) -> None:
    """Raises NotMedia for a WAV or Ogg file that says of itself that more was to come."""
    size = file.seek(0, io.SEEK_END)
    if media_type == "audio/wav":
        promised = _end_of_sound(file)
        if promised is not None and promised > size:
            raise NotMedia(f"the file ends after {size} of {promised} bytes")
    elif media_type == "audio/ogg":
        file.seek(max(0, size - LARGEST_PAGE))
        if not _ends_with_a_page(file.read(LARGEST_PAGE)):
            raise NotMedia("the file ends within a page")
    file.seek(0)


def _end_of_sound(file: BinaryIO) -> int | None:
    """Where the `data` chunk of a WAV ends by its own header; None where that is not told."""
    at = 12
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if len(header) < 8:
            return None
        if header[:4] == b"data":
            return at + 8 + length if 0 < length < PLACEHOLDER_FROM else None
        at += 8 + length + length % 2  # A chunk of odd length is padded.
    return None


def _ends_with_a_page(tail: bytes) -> bool:
    """Whether the last bytes of an Ogg file are those of a page (RFC 3533, section 6). That a page says it is the last
    of its stream is not asked for: encoders that stream may not know."""
    at = tail.rfind(b"OggS")
    while at >= 0:
        header = tail[at : at + PAGE_HEADER]
        if len(header) == PAGE_HEADER:
            body = at + PAGE_HEADER + header[26]
            if body + sum(tail[at + PAGE_HEADER : body]) == len(tail):
                return True
        at = tail.rfind(b"OggS", 0, at)
    return False


def _duration(container: InputContainer, stream: Stream) -> float:
    """Seconds: what the container says, else where the last packet ends (raw AAC and some MP3 say nothing)."""
    if container.duration:
        return round(container.duration / av.time_base, 3)
    end = 0.0
    for packet in container.demux(stream):
        if packet.pts is not None and stream.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * stream.time_base)
    if end <= 0:
        raise NotMedia("the file is empty")
    container.seek(0)
    return round(end, 3)


def _decodes(container: InputContainer, stream: Stream, duration: float) -> None:
    if next(iter(container.decode(stream)), None) is None:
        raise NotMedia("nothing of the file decodes")
    start = (container.start_time or 0) / av.time_base
    container.seek(int((start + max(0.0, duration - TAIL_S)) * av.time_base))
    last: float | None = None
    for frame in container.decode(stream):
        if not isinstance(frame, SubtitleSet) and frame.time is not None:
            last = frame.time
    if last is None:
        raise NotMedia("the end of the file does not decode")
    # A container may promise more than the file has: a truncated download, most often.
    if last - start < duration - MISSING_S:
        raise NotMedia(f"the file ends after {last - start:.1f} of {duration:.1f} s")
