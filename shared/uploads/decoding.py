"""What the process of `apart` does: inspect a file that it asks for in parts. It speaks JSON, as `apart.Told` says."""

import io
import json
import sys
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from shared.uploads import inspection
from shared.uploads.limits import Rejected

PREVIEWS = ("thumbnail", "peaks", "waveform")


class Remote(io.RawIOBase):
    """The file, as somebody else reads it."""

    def __init__(self, reader: Connection, size: int) -> None:
        self._reader = reader
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        say(self._reader, read=[self._position, len(buffer)])
        data = self._reader.recv_bytes()
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def say(reader: Connection, **told: Any) -> None:
    reader.send_bytes(json.dumps(told).encode())


def main(descriptor: str, size: str, declared: str, seconds: str, block: str) -> None:
    until = time.monotonic() + float(seconds)
    with Connection(int(descriptor)) as reader:
        file = io.BufferedReader(Remote(reader, int(size)), int(block))
        try:
            found = inspection.inspect(file, declared, lambda: until - time.monotonic())
        except Rejected as rejected:
            say(reader, rejected=[rejected.code, rejected.detail])
            return
        previews = {name: data for name in PREVIEWS if (data := getattr(found, name)) is not None}
        say(reader, found=asdict(found.probe), previews=list(previews))
        for data in previews.values():
            reader.send_bytes(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
