"""The local cloud as a developer meets it: what it says when something is wrong, and that it leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import jwt
import pytest

from local import cloud
from local.cloud import Stack
from tests.support import Studio

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT = 240

BROKEN = """
AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Nonsense:
    Type: AWS::No::Such
"""


class Up:
    """`python -m local.up` in a process of its own."""

    def __init__(self, root: Path, state_dir: Path, **environment: str) -> None:
        self.state_dir = state_dir
        self.output = state_dir.parent / f"{state_dir.name}.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.up"],
                cwd=root,
                env={**os.environ, "ATELIER_STATE_DIR": str(state_dir), **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def ended(self, timeout: float = START_TIMEOUT) -> int:
        return self.process.wait(timeout)

    def until_ready(self) -> Stack:
        deadline = time.monotonic() + START_TIMEOUT
        while not (self.state_dir / "stack.json").exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return Stack.load(self.state_dir)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


@contextmanager
def up(root: Path, state_dir: Path, **environment: str) -> Iterator[Up]:
    """Run it; whatever the test does, it is over afterwards."""
    run = Up(root, state_dir, **environment)
    try:
        yield run
    finally:
        run.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(30)
        run.process.kill()
        run.process.wait()


def processes_under(parent: int) -> set[int]:
    """The ids of everything that a process has started, however deep."""
    parents = {}
    for pid in _pids():
        with suppress(OSError, IndexError):
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    found = {parent}
    while more := {pid for pid, above in parents.items() if above in found} - found:
        found |= more
    return found - {parent}


def left_over(pids: set[int]) -> set[int]:
    """Those that still run; one that was killed a moment ago may take another to disappear."""
    deadline = time.monotonic() + 5
    while (left := {pid for pid in pids if _runs(pid)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def temporary_folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("atelier-*")}


@pytest.fixture
def broken_root(tmp_path: Path) -> Path:
    """A checkout whose template cannot be deployed, and which counts as built."""
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copytree(ROOT / "local", root / "local", ignore=shutil.ignore_patterns("__pycache__"))
    # Without the parameters, which are none of this template's.
    samconfig = (ROOT / "samconfig.toml").read_text()
    (root / "samconfig.toml").write_text(samconfig[: samconfig.index("# Seconds where AWS")])
    (root / "template.yaml").write_text(BROKEN)
    built = root / ".aws-sam" / "build" / "template.yaml"
    built.parent.mkdir(parents=True)
    built.write_text(BROKEN)
    (root / ".local").mkdir()
    (root / ".local" / "build.sha256").write_text(cloud._fingerprint(root))
    return root


def test_a_deploy_that_fails_says_why_and_leaves_nothing(broken_root: Path, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    before = temporary_folders()

    with up(broken_root, state_dir) as run:
        started: set[int] = set()
        while run.process.poll() is None:
            started |= processes_under(run.process.pid)
            time.sleep(0.2)
        code = run.ended()

    assert code == 1, run.said()
    assert "error: sam deploy failed" in run.said()
    assert "AWS::No::Such" in run.said()
    assert "Traceback" not in run.said()
    assert not (state_dir / "stack.json").exists()
    assert started
    assert left_over(started) == set()
    assert temporary_folders() <= before


def test_a_simulator_that_is_nowhere_is_named_with_both_addresses(stack: Stack, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"

    with up(ROOT, tmp_path / "state", SIMULATOR_URL=nowhere) as run:
        code = run.ended()

    assert code == 1, run.said()
    assert f"GET {nowhere}/replicate/v1/webhooks/default/secret" in run.said()
    assert f"GET {nowhere}/v1/webhooks/default/secret" in run.said()
    assert "Traceback" not in run.said()
    assert not (tmp_path / "state" / "stack.json").exists()


def test_a_second_cloud_in_the_same_place_is_refused(stack: Stack, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()

    with cloud._alone(state_dir), up(ROOT, state_dir) as run:
        code = run.ended()

    assert code == 1
    assert "a local cloud is up already" in run.said()
    assert "Traceback" not in run.said()


def test_no_token_without_a_cloud(tmp_path: Path) -> None:
    answer = token(tmp_path, "carol", "studio", "60")

    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "no local cloud is up" in answer.stderr
    assert "Traceback" not in answer.stderr


def token(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.tokens", *arguments],
        cwd=ROOT,
        env={**os.environ, "ATELIER_STATE_DIR": str(state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_cloud_with_somebody_elses_simulator_works_and_ends_with_sigterm(stack: Stack, tmp_path: Path) -> None:
    """One start for all that needs one: it takes half of this folder's time."""
    before = temporary_folders()
    state_dir = tmp_path / "state"
    with up(ROOT, state_dir, SIMULATOR_URL=f"{stack.simulator_url}/") as run:
        other = run.until_ready()
        started = processes_under(run.process.pid)

        assert other.simulator_url == stack.simulator_url
        assert other.aws_endpoint_url != stack.aws_endpoint_url
        assert (state_dir / "stack.json").stat().st_mode & 0o777 == 0o600
        check_a_job_reaches_that_simulator(other)
        check_tokens(other, state_dir)

        run.process.send_signal(signal.SIGTERM)
        assert run.ended(timeout=20) == 0, run.said()

    assert "Traceback" not in run.said()
    assert started
    assert left_over(started) == set()
    assert not (state_dir / "stack.json").exists()
    assert temporary_folders() <= before


def check_a_job_reaches_that_simulator(other: Stack) -> None:
    """Its webhooks go to the emulator it was started with, so the result is asked for."""
    studio = Studio(other, "carol")
    try:
        studio.grant(10)
        job = studio.create("a neighbour [sim delay=0 webhook=lost]")
        assert studio.simulated(job["id"])["prediction_count"] == 1
        assert studio.http.post(f"/jobs/{job['id']}/cancel").status_code == 200
        assert studio.wait(job["id"])["status"] == "succeeded"
        studio.check_invariants()
    finally:
        studio.close()


def check_tokens(other: Stack, state_dir: Path) -> None:
    good, expired = token(state_dir, "carol", "studio admin", "60"), token(state_dir, "carol", "studio", "-60")
    assert (good.returncode, good.stderr) == (0, "")

    secrets = other.client("secretsmanager")
    key = secrets.get_secret_value(SecretId=other.outputs["JwtSecretName"])["SecretString"]
    claims = jwt.decode(good.stdout.strip(), key, algorithms=["HS256"], audience="atelier-api", issuer="atelier")
    assert (claims["sub"], claims["scope"]) == ("carol", "studio admin")
    assert 50 < claims["exp"] - time.time() <= 60
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(expired.stdout.strip(), key, algorithms=["HS256"], audience="atelier-api")

    answers = [
        httpx.get(
            f"{other.api_url}/v1/credits",
            headers={"authorization": f"Bearer {printed.stdout.strip()}"},
            timeout=60,
            trust_env=False,
        ).status_code
        for printed in (good, expired)
    ]
    assert answers == [200, 401]
