"""`make client`: what it generates works against the deployed API, and compiles."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.clients import __main__ as clients
from local.cloud import Stack
from tests.e2e.helpers import IMAGE
from tests.support import Studio

ROOT = Path(__file__).parent.parent.parent

# What an integrator would write. It runs in a process of its own: nothing of ours can be imported there.
PROGRAM = """
import json, sys, time
from atelier_client import AuthenticatedClient
from atelier_client.api.generations import create_image
from atelier_client.api.jobs import get_job
from atelier_client.models import ImageRequest, Job, Problem

url, token = sys.argv[1:]
with AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True) as client:
    refused = create_image.sync(client=client, body=ImageRequest(prompt="x", model="nothing"))
    assert isinstance(refused, Problem), refused
    job = create_image.sync(client=client, body=ImageRequest(prompt="a lighthouse"), idempotency_key="order-1")
    assert isinstance(job, Job), job
    deadline = time.monotonic() + 60
    while job.status not in ("succeeded", "failed", "canceled", "timed_out") and time.monotonic() < deadline:
        time.sleep(0.2)
        job = get_job.sync(job.id, client=client)
print(json.dumps({"refused": refused.code, "status": job.status, "url": job.assets[0].url}))
"""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make client` makes."""
    target = tmp_path_factory.mktemp("client")
    made = subprocess.run(
        [sys.executable, "-m", "local.clients", str(target)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return target


def test_the_python_client_makes_an_image_and_waits_for_it(generated: Path, studio: Studio) -> None:
    stack: Stack = studio.stack
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(generated / "python"), "NO_PROXY": "*"}

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, stack.api_url, stack.token(studio.account)],
        cwd=generated,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["refused"], told["status"]) == ("invalid_request", "succeeded")
    assert told["url"].startswith("http")
    assert studio.credits() == {"available": 100 - IMAGE, "held": 0, "spent": IMAGE}


def test_the_typescript_types_are_there_and_the_sample_compiles_where_there_is_npm(generated: Path) -> None:
    # Making them ends with an error if the sample does not compile.
    types = generated / "typescript" / "atelier.d.ts"

    assert types.exists() == (shutil.which("npm") is not None)
    if types.exists():
        assert "export interface paths {" in types.read_text()


def test_without_npm_the_python_client_is_made_and_it_is_said_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["clients", str(tmp_path / "client")])
    monkeypatch.setattr(shutil, "which", lambda _: None)

    assert clients.main() == 0

    assert clients.NO_NPM in capsys.readouterr().out
    assert (tmp_path / "client/python/atelier_client/client.py").exists()
    assert not (tmp_path / "client/typescript").exists()


def test_the_lock_of_the_generator_names_no_registry_and_pins_every_package() -> None:
    lock = json.loads((ROOT / "local/clients/typescript/package-lock.json").read_text())
    packages = {name: told for name, told in lock["packages"].items() if name}

    assert packages
    assert all(told["integrity"].startswith("sha512-") for told in packages.values())
    assert not [name for name, told in packages.items() if "resolved" in told]
