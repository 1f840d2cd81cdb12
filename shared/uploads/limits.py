"""What may be uploaded: types, sizes, lengths and dimensions."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["image", "audio", "video", "captions"]

MB = 1_000_000

LARGEST_BYTES: dict[Family, int] = {
    "image": 10 * MB,
    "audio": 25 * MB,
    "video": 500 * MB,
    "captions": 1 * MB,
}

LONGEST_S: dict[Family, float] = {"audio": 3 * 3600, "video": 2 * 3600}

LARGEST_PICTURE = 4096 * 2304
"""Pixels of a film: a picture of level 5.1 of H.264 and HEVC, which is 4K with a little room."""
LONGEST_SIDE = 8192
FASTEST_RATE = 240
MOST_TRACKS = 16

CAPTIONS = {"application/x-subrip", "text/vtt", "text/x-ssa"}

TYPES = (
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "audio/mpeg",
    "audio/aac",
    "audio/mp4",
    "audio/wav",
    "audio/flac",
    "audio/ogg",
    "audio/webm",
    *sorted(CAPTIONS),
)

# What browsers and other programs call some of them.
ALIASES = {
    "image/jpg": "image/jpeg",
    "video/x-quicktime": "video/quicktime",
    "audio/mp3": "audio/mpeg",
    "audio/x-aac": "audio/aac",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "application/ogg": "audio/ogg",
    "application/srt": "application/x-subrip",
    "text/srt": "application/x-subrip",
    "text/x-ass": "text/x-ssa",
}


@dataclass(frozen=True)
class Rejected(Exception):
    """Why a file is not taken: `code` for programs, `detail` for people."""

    code: str
    detail: str


def named(content_type: str) -> str | None:
    """The media type by the name that we use, without parameters; None for one that we do not take."""
    plain = content_type.partition(";")[0].strip().lower()
    plain = ALIASES.get(plain, plain)
    return plain if plain in TYPES else None


def family(media_type: str) -> Family:
    """Which limits hold for a type of TYPES."""
    if media_type in CAPTIONS:
        return "captions"
    if media_type.startswith("image/"):
        return "image"
    return "audio" if media_type.startswith("audio/") else "video"


def check_size(media_type: str, size: int) -> None:
    """Raises Rejected for an empty file, and for one that is larger than its family may be."""
    kind = family(media_type)
    if size < 1:
        raise Rejected("empty", "the file is empty")
    if size > LARGEST_BYTES[kind]:
        raise Rejected("too_large", f"the file has {size} bytes; {kind} may have {LARGEST_BYTES[kind]}")
