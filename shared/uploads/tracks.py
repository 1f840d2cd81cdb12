"""What MediaInfo says of a file. It reads the parts that it needs, through the file that it is given.

Where it is blind (no length of header-less MP3, ADTS and GIF, no size of WebP, no channels of Opus in MP4) or wrong
(mirrored clips, clips that do not start at zero), FFmpeg is asked: see `film`.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

from pymediainfo import MediaInfo

from shared.uploads.limits import Rejected

# The least that MediaInfo reads: headers and indexes, and no frames to guess from.
PARSE_SPEED = 0.0
BUFFER = 64 * 1024


@dataclass(frozen=True)
class Told:
    """MediaInfo's word: None where it has none. `variable` is whether the frames are unevenly long."""

    format: str | None
    tracks: int
    truncated: bool
    duration_s: float | None
    frames: int | None
    variable: bool
    interlaced: bool
    chroma: str | None


def read(file: BinaryIO) -> Told:
    """What MediaInfo finds in a seekable file. Raises Rejected."""
    file.seek(0)
    try:
        tracks = MediaInfo.parse(file, parse_speed=PARSE_SPEED, buffer_size=BUFFER).tracks
    except (RuntimeError, SyntaxError) as error:  # ParseError of its XML is a SyntaxError.
        raise Rejected("corrupt", "the file cannot be read") from error
    general = _first(tracks, "General")
    video = _first(tracks, "Video")
    return Told(
        format=general.get("format"),
        tracks=sum(track.track_type in ("Video", "Audio") for track in tracks),
        truncated=general.get("istruncated") == "Yes",
        duration_s=_seconds(general.get("duration")),
        frames=_whole(video.get("frame_count")),
        variable=video.get("frame_rate_mode") == "VFR",
        interlaced=video.get("scan_type") in ("Interlaced", "MBAFF"),
        chroma=video.get("chroma_subsampling"),
    )


def _first(tracks: Any, kind: str) -> dict[str, Any]:
    return next((track.to_data() for track in tracks if track.track_type == kind), {})


def _seconds(milliseconds: Any) -> float | None:
    try:
        return float(milliseconds) / 1000
    except (TypeError, ValueError):
        return None


def _whole(number: Any) -> int | None:
    try:
        return int(number)
    except (TypeError, ValueError):
        return None
