"""The process that decodes uploads: whatever becomes of it, somebody is told, and it is gone."""

import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from shared.media.ranged import Unreachable
from shared.uploads import apart, inspection
from shared.uploads.limits import Rejected
from tests import corpus
from tests.corpus import SAMPLES


class Source(io.BytesIO):
    """As an object of the bucket is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size = len(data)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that a test starts: nothing is left of them when it is over."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*told: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(Popen(*told, **options))
        return processes[-1]

    Popen = subprocess.Popen
    monkeypatch.setattr(apart.subprocess, "Popen", start)
    yield processes
    assert processes
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def examine(data: bytes, media_type: str = "video/mp4", *, seconds: float = 30) -> inspection.Inspection:
    until = time.monotonic() + seconds
    source: Any = Source(data)
    return apart.inspect(source, media_type, lambda: until - time.monotonic())


@pytest.mark.parametrize("name", ["rotation 90", "FLAC", "alpha PNG"])
def test_what_is_found_there_is_what_would_be_found_here(name: str) -> None:
    data, media_type = corpus.make(name), SAMPLES[name].media_type

    assert examine(data, media_type) == inspection.inspect(io.BytesIO(data), media_type, lambda: 30)


@pytest.mark.parametrize("name", ["truncated", "a playlist", "corrupt end", "zero bytes"])
def test_what_is_rejected_there_is_rejected_here(name: str) -> None:
    with pytest.raises(Rejected) as here:
        inspection.inspect(io.BytesIO(corpus.make(name)), "video/mp4", lambda: 30)

    with pytest.raises(Rejected) as there:
        examine(corpus.make(name))

    assert (there.value.code, there.value.detail) == (here.value.code, here.value.detail)


def does(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let this be what the process does."""
    monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", script))


FOR_EVER = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(300)"


def test_a_decoder_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, FOR_EVER)

    with pytest.raises(Rejected) as rejected:
        examine(b"x", seconds=0.3)

    assert rejected.value.code == "too_slow"


def test_a_decoder_that_reads_no_more_is_ended_before_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, FOR_EVER)
    monkeypatch.setattr(apart, "SILENT_S", 0.3)

    with pytest.raises(Rejected) as rejected:
        examine(b"x", seconds=300)

    assert rejected.value.code == "too_slow"


def test_a_file_that_kills_its_decoder_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    with pytest.raises(Rejected) as rejected:
        examine(b"x")

    assert rejected.value.code == "corrupt"


def test_a_fault_of_ours_is_no_flaw_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, "1 / 0")

    with pytest.raises(RuntimeError):
        examine(b"x")


SAYS = """
import sys
from multiprocessing.connection import Connection
reader = Connection(int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "said",
    [
        "reader.send(print)",
        "reader.send_bytes(b'no JSON')",
        """reader.send_bytes(b'{"read": [-1, 10]}')""",
        """reader.send_bytes(b'{"found": {"content_type": "video/mp4", "evil": 1}}')""",
        """reader.send_bytes(b'{"found": {"content_type": "video/mp4"}, "previews": ["../key"]}')""",
        """reader.send_bytes(b'{"rejected": ["x", "' + b'y' * 1000 + b'"]}')""",
        "reader.send_bytes(bytes(100_000)); import time; time.sleep(300)",
    ],
)
def test_a_process_that_was_taken_over_is_not_believed(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(apart, "LINGER_S", 0.1)
    does(monkeypatch, SAYS + said)

    with pytest.raises(Rejected) as rejected:
        examine(b"x")

    assert rejected.value.code == "corrupt"


def test_a_process_cannot_have_us_read_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Source, "read", lambda _, size: (asked.append(size), b"")[1])
    does(monkeypatch, SAYS + """reader.send_bytes(b'{"read": [0, 999999999999]}'); reader.recv_bytes()""")

    with pytest.raises(RuntimeError):
        examine(b"x")

    assert asked == [apart.MOST_READ]


def test_the_process_knows_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    does(monkeypatch, "import os; assert not [name for name in os.environ if name.startswith('AWS')]; os.abort()")

    with pytest.raises(Rejected):
        examine(b"x")


def test_that_the_file_cannot_be_read_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> bytes:
        raise Unreachable("no answer")

    monkeypatch.setattr(Source, "read", unreachable)

    with pytest.raises(Unreachable):
        examine(corpus.make("no audio"))


# Whatever becomes of a file on its way

DAMAGES = 3
TIME_S = 20.0


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The file with some of its bytes changed, lost or doubled; mostly at its beginning, where the structure is."""
    file = bytearray(data)
    for _ in range(dice.choice((1, 3, 20))):
        at = int(len(file) * dice.random() ** dice.choice((1, 4)))
        length = dice.choice((1, 4, 64))
        match dice.choice(("change", "zero", "lose", "double", "end")):
            case "change":
                file[at : at + length] = dice.randbytes(len(file[at : at + length]))
            case "zero":
                file[at : at + length] = bytes(len(file[at : at + length]))
            case "lose":
                del file[at : at + length]
            case "double":
                file[at:at] = file[at : at + length]
            case "end" if dice.random() < 0.2:
                del file[at:]
    return bytes(file)


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if not sample.of][::3])
def test_a_damaged_file_is_ready_or_rejected_and_never_anything_else(name: str) -> None:
    """In time, whatever it does to its decoder: damage of this kind has kept MediaInfo busy for ever."""
    dice = random.Random(name)

    for _ in range(DAMAGES):
        data = damaged(corpus.make(name), dice)
        began = time.monotonic()
        with suppress(Rejected):
            found = examine(data, SAMPLES[name].media_type, seconds=TIME_S)
            assert found.probe.content_type == SAMPLES[name].media_type
            assert found.thumbnail or found.waveform
        assert time.monotonic() - began < TIME_S + 5
