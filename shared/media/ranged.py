"""An object of the media bucket as a seekable file: read by ranges, never as a whole."""

import io

from shared.core import aws
from shared.core.settings import settings

BLOCK = 1024 * 1024


class RangedObject(io.RawIOBase):
    """Random access to an object. Wrap it in `io.BufferedReader(..., BLOCK)`, so that small reads make few requests."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._position = 0
        head = aws.s3().head_object(Bucket=settings().media_bucket, Key=key)
        self.size = int(head["ContentLength"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self.size - self._position)
        if wanted <= 0:
            return 0
        span = f"bytes={self._position}-{self._position + wanted - 1}"
        answer = aws.s3().get_object(Bucket=settings().media_bucket, Key=self._key, Range=span)
        data = answer["Body"].read()
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def opened(key: str) -> io.BufferedReader:
    """The object as a buffered, seekable file."""
    return io.BufferedReader(RangedObject(key), BLOCK)
