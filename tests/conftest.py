"""The deployed local stack, started once for everything that needs it, and a fresh account for every test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from local.cloud import Stack, local_cloud
from tests.support import Studio

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The local stack. `ATELIER_STACK=.local` takes the one that `make up` keeps up, for quick work on a test."""
    running = os.environ.get("ATELIER_STACK")
    if running:
        yield Stack.load(ROOT / running)
        return
    settings = {"CLOUDTRAIL_RECORDING": "1"}
    with local_cloud(root=ROOT, state_dir=tmp_path_factory.mktemp("cloud"), emulator_settings=settings) as started:
        yield started


@pytest.fixture
def new_studio(stack: Stack) -> Iterator[Callable[..., Studio]]:
    """Makes clients of new accounts; the invariants of each are checked when the test is over."""
    made: list[Studio] = []

    def make(credits: int = 100) -> Studio:
        studio = Studio(stack, f"test-{uuid4().hex[:12]}")
        made.append(studio)
        if credits:
            studio.grant(credits)
        return studio

    yield make
    for studio in made:
        studio.check_invariants()
        studio.close()


@pytest.fixture
def studio(new_studio: Callable[..., Studio]) -> Studio:
    """A client of a new account with 100 credits."""
    return new_studio()
