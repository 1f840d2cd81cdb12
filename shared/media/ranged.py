"""An object of the media bucket as a seekable file: read by ranges, never as a whole."""

import io
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import aws
from shared.core.settings import settings

BLOCK = 1024 * 1024


class Unreachable(Exception):
    """S3 has not answered, or not with this object, which says nothing of the file. Some of botocore's own exceptions
    are OSErrors: whoever decodes the file would take them for a flaw of it."""


class RangedObject(io.RawIOBase):
    """Random access to an object. Wrap it in `io.BufferedReader(..., BLOCK)`, so that small reads make few requests.

    It is the same object to the end: once another takes its place under the key, reading fails. Reading raises
    Unreachable, from the error of botocore.
    """

    def __init__(self, key: str, before: Callable[[], None] | None = None) -> None:
        self._key = key
        self._before = before
        self._position = 0
        head = aws.s3().head_object(Bucket=settings().media_bucket, Key=key)
        self.size = int(head["ContentLength"])
        self.etag = head["ETag"]
        self.read_bytes = 0

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
        if self._before is not None:
            self._before()
        span = f"bytes={self._position}-{self._position + wanted - 1}"
        try:
            answer = aws.s3().get_object(Bucket=settings().media_bucket, Key=self._key, Range=span, IfMatch=self.etag)
            data = answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise Unreachable(f"{self._key} could not be read") from error
        buffer[: len(data)] = data
        self._position += len(data)
        self.read_bytes += len(data)
        return len(data)


def opened(key: str, *, before: Callable[[], None] | None = None) -> io.BufferedReader:
    """The object as a buffered, seekable file; `before` is called before each block is read, and may raise."""
    return io.BufferedReader(RangedObject(key, before), BLOCK)
