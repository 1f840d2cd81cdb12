"""The inspection in a process of its own: a file that makes a decoder run for ever, or die, is rejected like any other.

Decoders are C code, which nobody can interrupt from within, and which a file may know how to take over. The process
(`decoding`) has no credentials and nothing but what it reads through us, so we know when it has come to a stop; what it
says is JSON and bytes of bounded length, and is believed of this file only.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.core.log import logger
from shared.media.ranged import RangedObject
from shared.uploads.inspection import Inspection
from shared.uploads.limits import Rejected
from shared.uploads.probe import Probe

COMMAND = (sys.executable, "-m", "shared.uploads.decoding")
BLOCK = 256 * 1024
"""What is read at once: an index and the ends of a film lie far apart, and what lies between need not be read."""
SILENT_S = 60.0
"""For how long a decoder may work without reading on."""
MOST_READ = 8 * 1024 * 1024
LONGEST_MESSAGE = 64 * 1024
LARGEST_PREVIEW = 4 * 1024 * 1024
LINGER_S = 5.0
"""For how long a process may live on without its connection."""


class Told(BaseModel):
    """What the process says: `[start, bytes]` to read, `[code, detail]` of a rejection, or what it has found and the
    names of the previews that follow, each as one message."""

    model_config = ConfigDict(extra="forbid", strict=True)

    read: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    rejected: tuple[Annotated[str, Field(max_length=50)], Annotated[str, Field(max_length=500)]] | None = None
    found: Probe | None = None
    previews: list[Annotated[str, Field(pattern="^(thumbnail|peaks|waveform)$")]] = []


def inspect(source: RangedObject, declared: str, time_left: Callable[[], float]) -> Inspection:
    """As `inspection.inspect`. Raises Rejected as well where the process has died or come to a stop."""
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as child, theirs:
        told = (str(theirs.fileno()), str(source.size), declared, str(time_left()), str(BLOCK))
        process = subprocess.Popen(  # noqa: S603 Nothing of it is the file's or its owner's but a type that we know.
            [*COMMAND, *told],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        try:
            return _serve(child, source, time_left)
        except (EOFError, OSError):
            raise _died(process) from None
        except ValidationError:
            logger.exception("an inspection says what it should not")
            raise UNFIT from None
        finally:
            process.kill()
            process.wait()


UNFIT = Rejected("corrupt", "the file cannot be examined")


def _died(process: subprocess.Popen[bytes]) -> Exception:
    """Why the process has hung up: the file has killed it, or it has met a fault of ours."""
    try:
        code = process.wait(LINGER_S)
    except subprocess.TimeoutExpired:
        code = None
    logger.error("an inspection has died", exit_code=code)
    return UNFIT if code is None or code < 0 else RuntimeError("the process of an inspection has failed")


def _serve(child: Connection, source: RangedObject, time_left: Callable[[], float]) -> Inspection:
    """Read for the process until it tells what it has found. Raises ValidationError for what is none of both."""
    while child.poll(max(0.0, min(SILENT_S, time_left()))):
        told = Told.model_validate_json(child.recv_bytes(LONGEST_MESSAGE))
        if told.read is not None:
            start, size = told.read
            source.seek(start)
            child.send_bytes(source.read(min(size, MOST_READ)))
        elif told.rejected is not None:
            raise Rejected(*told.rejected)
        elif told.found is not None:
            return Inspection(told.found, **{name: _preview(child, time_left) for name in told.previews})
    raise Rejected("too_slow", "the file could not be examined in time")


def _preview(child: Connection, time_left: Callable[[], float]) -> bytes:
    if not child.poll(max(0.0, min(SILENT_S, time_left()))):
        raise Rejected("too_slow", "the file could not be examined in time")
    return child.recv_bytes(LARGEST_PREVIEW)
