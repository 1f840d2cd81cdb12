"""How much memory the steps take that move files: the high-water mark of the very processes that ran them.

The emulator runs a function in processes of its own, with nothing else in them, and keeps them; Linux tells the most
that each has ever had in memory (`VmHWM`). That is more than AWS would count by what the emulator's own loop takes.
"""

import io
import re
import zipfile
from pathlib import Path

from benchmarks.report import Row
from local.cloud import CloudError, Stack
from tests.support import Json, Studio

ROOT = Path(__file__).parent.parent
FILE_BYTES = 500_000_000
LIMIT_MIB = 200
GRANT = 1_000
PATIENCE_S = 300
LARGEST = re.compile(r"^largest_bytes = .*$", re.MULTILINE)


def store(stack: Stack) -> Row:
    """Store, with a video of 500 MB at Replicate."""
    video = {"prompt": "a lighthouse [sim bytes=500MB seconds=6]", "model": "minimax-video"}
    _make(stack, "bench-store", "videos", video)
    return _row(stack, "Store", "StoreFunction")


def generate(stack: Stack) -> Row:
    """Generate, with a recording of 500 MB at OpenAI, which the catalogue would refuse."""
    _take_larger_files(stack, "GenerateFunction")
    speech = {"text": "A lighthouse. [sim bytes=500MB]", "model": "gpt-4o-mini-tts", "format": "wav"}
    _make(stack, "bench-generate", "speech", speech)
    return _row(stack, "Generate", "GenerateFunction")


def _make(stack: Stack, account: str, path: str, request: Json) -> None:
    """A job whose one file has exactly so many bytes."""
    studio = Studio(stack, account)
    studio.grant(GRANT)
    job = studio.wait(studio.post(path, request)["id"], timeout=PATIENCE_S)
    assert job["status"] == "succeeded", job
    assert [asset["bytes"] for asset in job["assets"]] == [FILE_BYTES]
    studio.check_invariants()
    studio.close()


def _row(stack: Stack, step: str, function: str) -> Row:
    mib = high_water_bytes(stack.functions[function]) / 1024**2
    return Row(f"memory of {step}, a file of 500 MB", f"{mib:.0f} MiB", f"< {LIMIT_MIB} MiB", mib < LIMIT_MIB)


def high_water_bytes(function: str) -> int:
    """The most memory that any process of the function has had. Raises CloudError where that cannot be known."""
    marks = [re.search(rb"^VmHWM:\s*(\d+) kB$", _read(each / "status"), re.MULTILINE) for each in processes(function)]
    return max(int(mark[1]) * 1024 for mark in marks if mark)


def processes(function: str) -> list[Path]:
    """What the kernel tells of each process of the function. Raises CloudError where there is none to be seen."""
    variable = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode()
    found = [each for each in Path("/proc").glob("[0-9]*") if variable in _read(each / "environ").split(b"\0")]
    if not found:
        raise CloudError(f"no process of {function} can be looked into: this needs Linux")
    return found


def _read(file: Path) -> bytes:
    """What the kernel tells of a process; nothing of one that is not ours or has ended."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _take_larger_files(stack: Stack, function: str) -> None:
    """Give a deployed function the shared code once more, with a catalogue that allows files of such a size."""
    client, name = stack.client("lambda"), stack.functions[function]
    layers = [layer["Arn"] for layer in client.get_function_configuration(FunctionName=name)["Layers"]]
    made = client.publish_layer_version(LayerName="bench-shared", Content={"ZipFile": _shared_code()})
    changed = [made["LayerVersionArn"] if "SharedLayer" in layer else layer for layer in layers]
    assert changed != layers
    client.update_function_configuration(FunctionName=name, Layers=changed)


def _shared_code() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((ROOT / "shared").rglob("*.py")):
            archive.writestr(f"python/{path.relative_to(ROOT)}", path.read_bytes())
        catalog = LARGEST.sub(f"largest_bytes = {FILE_BYTES}", (ROOT / "shared" / "catalog.toml").read_text())
        archive.writestr("python/shared/catalog.toml", catalog)
    return packed.getvalue()
