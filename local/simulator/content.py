"""The bytes of a file that may be far larger than what is held of it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CHUNK = 64 * 1024
MP4 = "video/mp4"


@dataclass(frozen=True, slots=True)
class Content:
    """`made`, and zeros behind it up to `size`, which players skip."""

    made: bytes
    size: int
    media_type: str

    def slices(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to `stop` in pieces of at most `CHUNK`."""
        stop = self.size if stop is None else min(stop, self.size)
        while start < stop:
            end = min(start + CHUNK, stop)
            piece = self.made[start:end]
            yield piece + bytes(end - start - len(piece))
            start = end


def content(made: bytes, media_type: str, at_least: int | None = None) -> Content:
    """Never smaller than the real file. In an MP4 the zeros are in a `free` box, so that the file stays valid."""
    if at_least is None or at_least <= len(made):
        return Content(made, len(made), media_type)
    if media_type == MP4:
        # ISO 14496-12: size 1 announces a size of 64 bits after the type.
        made += struct.pack(">I4sQ", 1, b"free", max(16, at_least - len(made)))
    return Content(made, max(at_least, len(made)), media_type)
