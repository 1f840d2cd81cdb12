"""What the inspection of a film of 500 MB needs: memory, disk, and how much of the film it reads.

The film is a real one, with an index at its end and a keyframe every two seconds; its two seconds of noise come again
and again, because that is quickly made.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg

from benchmarks.memory import FILE_BYTES, high_water_bytes, processes
from benchmarks.report import Row
from local.cloud import CloudError, Stack
from tests.e2e.helpers import logged
from tests.support import Json, Studio

FUNCTION = "InspectUploadFunction"
LIMIT_MIB = 256
LIMIT_READ = 0.05
LIMIT_WRITTEN = 0.05
PATIENCE_S = 300
SECONDS, FRAMES = 2, 60
# About 94 Mbit/s, evenly; a phone's 4K has some 60.
NOISE, SCALE, QUANTIZER = "640x360", "scale=1920:1080", "44"


def inspection(stack: Stack) -> Row:
    """Upload the film in parts, and look into the process that has inspected it."""
    with tempfile.TemporaryDirectory(prefix="atelier-film-") as folder:
        upload = _upload(stack, _film(Path(folder)))
    told = _told(stack, upload["id"])
    # The decoders have a process of their own, which is gone.
    mib = high_water_bytes(stack.functions[FUNCTION]) / 1024**2 + told["decoders_kib"] / 1024
    read = told["read_bytes"] / FILE_BYTES
    # What the decoders were handed by a pipe counts as written, too.
    written = (_written_bytes(stack.functions[FUNCTION]) - told["read_bytes"]) / FILE_BYTES
    return Row(
        "inspection of a film of 500 MB: memory, read of it, written to disk",
        f"{mib:.0f} MiB, {read:.1%}, {written:.1%}",
        f"< {LIMIT_MIB} MiB, < {LIMIT_READ:.0%}, < {LIMIT_WRITTEN:.0%}",
        mib < LIMIT_MIB and read < LIMIT_READ and written < LIMIT_WRITTEN,
    )


def _film(folder: Path) -> Path:
    """The film, filled up to its size with a box of nothing."""
    piece, film = folder / "piece.mp4", folder / "film.mp4"
    noise = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", NOISE, "-framerate", "30", "-i", "/dev/urandom")
    tone = ("-f", "lavfi", "-i", f"sine=sample_rate=48000:duration={SECONDS}")
    code = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", QUANTIZER, "-g", str(FRAMES), "-c:a", "aac")
    _ffmpeg(*noise, *tone, "-vf", SCALE, "-frames:v", str(FRAMES), *code, str(piece))
    times = (FILE_BYTES - 1_000_000) // piece.stat().st_size
    _ffmpeg("-stream_loop", str(times - 1), "-i", str(piece), "-c", "copy", str(film))
    filler = FILE_BYTES - film.stat().st_size
    if filler < 8:
        raise CloudError(f"the film has become {-filler} bytes too large")
    with film.open("ab") as file:
        file.write(filler.to_bytes(4) + b"free")
        file.truncate(FILE_BYTES)
    return film


def _ffmpeg(*arguments: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments]
    subprocess.run(command, check=True, timeout=PATIENCE_S)


def _upload(stack: Stack, film: Path) -> Json:
    """The upload once it is ready."""
    studio = Studio(stack, "bench-upload")
    promise = {"content_type": "video/mp4", "bytes": FILE_BYTES}
    upload: Json = studio.http.post("/uploads", json=promise).raise_for_status().json()
    with film.open("rb") as file, httpx.Client(timeout=60, trust_env=False) as web:
        for part in upload["parts"]:
            web.put(part["url"], content=file.read(part["bytes"])).raise_for_status()
    studio.http.post(f"/uploads/{upload['id']}/complete").raise_for_status()
    deadline = time.monotonic() + PATIENCE_S
    while upload["state"] in ("waiting", "inspecting"):
        if time.monotonic() > deadline:
            raise CloudError(f"the film is still {upload['state']} after {PATIENCE_S} s")
        time.sleep(0.5)
        upload = studio.http.get(f"/uploads/{upload['id']}").raise_for_status().json()
    assert upload["state"] == "ready", upload["error"]
    assert upload["asset"]["bytes"] == FILE_BYTES
    studio.close()
    return upload


def _told(stack: Stack, upload_id: str) -> Json:
    """What the function has logged of the inspection."""
    lines = [json.loads(line) for line in logged(stack) if upload_id in line and '"inspected"' in line]
    found: list[dict[str, Any]] = [line for line in lines if "read_bytes" in line]
    if not found:
        raise CloudError("the inspection has not told how much it has read")
    return found[-1]


def _written_bytes(function: str) -> int:
    """The most that any process of the function has written, with its children; what was sent to S3 does not count."""
    lines = [line for process in processes(function) for line in (process / "io").read_text().splitlines()]
    return max(int(line.partition(":")[2]) for line in lines if line.startswith("wchar:"))
