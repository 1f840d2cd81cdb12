"""Where media are made: pictures by Pillow, recordings by FFmpeg, two processes at most, each recipe once."""

import asyncio
import os
import subprocess
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from local.simulator.media import Picture, caption_png, render
from local.simulator.recordings import Film, Probe, Recipe, Recording, cook, read_probe, repeat

MOST_PROCESSES = 2
DEADLINE_S = 60
LARGEST_CACHE = 192 * 1024**2


class Studio:
    """Remembers what it made, the newest of it up to `LARGEST_CACHE` bytes."""

    def __init__(self) -> None:
        self._workers = ThreadPoolExecutor(MOST_PROCESSES, thread_name_prefix="studio")
        self._lock = threading.Lock()
        self._made: OrderedDict[Recording, Future[bytes]] = OrderedDict()
        self.processes = 0

    async def make(self, recipe: Recipe) -> bytes:
        if isinstance(recipe, Picture):
            return await asyncio.to_thread(render, recipe)
        # Whoever stops waiting must not take the file away from the others who wait for it.
        return await asyncio.shield(asyncio.wrap_future(self._order(recipe)))

    async def probe(self, path: Path) -> Probe | None:
        """How long a file is and what is in it; None when FFmpeg cannot read it."""
        return await asyncio.wrap_future(self._workers.submit(self._probe, path))

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _order(self, recipe: Recording) -> Future[bytes]:
        with self._lock:
            if recipe not in self._made:
                self._made[recipe] = self._workers.submit(self._cook, recipe)
            self._made.move_to_end(recipe)
            self._forget_oldest()
            return self._made[recipe]

    def _forget_oldest(self) -> None:
        def size(made: Future[bytes]) -> int:
            return len(made.result()) if made.done() and not made.cancelled() and made.exception() is None else 0

        total = sum(map(size, self._made.values()))
        while total > LARGEST_CACHE and len(self._made) > 1:
            _, oldest = self._made.popitem(last=False)
            total -= size(oldest)

    def _cook(self, recipe: Recording) -> bytes:
        with tempfile.TemporaryDirectory(prefix="simulator-") as folder:
            target, part = f"{folder}/out", f"{folder}/part"
            repeated = recipe.repeated
            self._run(cook(repeated or recipe, part if repeated else target), _standard_input(recipe))
            if repeated:
                self._run(repeat(recipe, part, target), b"")
            return Path(target).read_bytes()

    def _probe(self, path: Path) -> Probe | None:
        probe = read_probe(self._run(["-i", str(path)], b"", quietly=False))
        if probe is not None and probe.seconds == 0:
            probe = read_probe(self._run(["-i", str(path), "-f", "null", "-"], b"", quietly=False))
        return probe

    def _run(self, arguments: list[str], standard_input: bytes, *, quietly: bool = True) -> str:
        """FFmpeg's report. Raises RuntimeError where it must succeed and does not: a mistake in a recipe."""
        with self._lock:
            self.processes += 1
        command = [ffmpeg(), "-hide_banner", "-y", *(["-v", "error"] if quietly else []), *arguments]
        done = subprocess.run(command, input=standard_input, capture_output=True, timeout=DEADLINE_S, check=False)
        report = done.stderr.decode(errors="replace")
        if quietly and done.returncode != 0:
            raise RuntimeError(f"ffmpeg failed: {report[-500:]}")
        return report


def ffmpeg() -> str:
    """The binary, which `IMAGEIO_FFMPEG_EXE` may name."""
    # Imported here: pictures alone need no FFmpeg installed.
    import imageio_ffmpeg

    return os.environ.get("IMAGEIO_FFMPEG_EXE") or str(imageio_ffmpeg.get_ffmpeg_exe())


def _standard_input(recipe: Recording) -> bytes:
    if isinstance(recipe, Film):
        return caption_png(recipe.caption, recipe.width, recipe.height)
    return b""
