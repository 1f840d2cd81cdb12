"""The bytes of a file that may be far larger than what is held of it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CHUNK = 64 * 1024
MP4 = "video/mp4"
WAV = "audio/wav"
MOST_A_WAV_TELLS = 2**32 - 1


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
    """Never smaller than the real file. In an MP4 the zeros are in a `free` box and in a WAV they are silence, so that
    the file stays valid."""
    if at_least is None or at_least <= len(made):
        return Content(made, len(made), media_type)
    if media_type == MP4:
        # ISO 14496-12: size 1 announces a size of 64 bits after the type.
        made += struct.pack(">I4sQ", 1, b"free", max(16, at_least - len(made)))
    if media_type == WAV:
        made = _announcing(made, at_least)
    return Content(made, max(at_least, len(made)), media_type)


def _announcing(wav: bytes, size: int) -> bytes:
    """The WAV with the lengths of a file of `size` bytes, in which its last chunk, the samples, goes on to the end."""
    chunk = 12
    while wav[chunk : chunk + 4] != b"data":
        (length,) = struct.unpack_from("<I", wav, chunk + 4)
        chunk += 8 + length + length % 2
    whole, samples = (struct.pack("<I", min(length, MOST_A_WAV_TELLS)) for length in (size - 8, size - chunk - 8))
    return wav[:4] + whole + wav[8 : chunk + 4] + samples + wav[chunk + 8 :]
