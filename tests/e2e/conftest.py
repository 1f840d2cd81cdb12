"""What end-to-end tests are given beside `stack`, `studio` and `new_studio` of tests/conftest.py."""

from collections.abc import Iterator

import httpx
import pytest

from local.cloud import Stack
from tests.e2e.helpers import Provider, Recording


@pytest.fixture(scope="session")
def provider(stack: Stack) -> Iterator[Provider]:
    """The simulated Replicate."""
    made = Provider(stack)
    yield made
    made.close()


@pytest.fixture(scope="session")
def recording(stack: Stack) -> Recording:
    """The emulator's record of AWS calls; turned on here, should the stack be one that `make up` keeps up."""
    answer = httpx.post(
        f"{stack.aws_endpoint_url}/_ministack/config",
        json={"cloudtrail._recording_enabled": "true"},
        timeout=30,
        trust_env=False,
    )
    assert answer.json().get("applied") == {"cloudtrail._recording_enabled": True}, (
        f"the emulator does not record AWS calls, and nothing can be counted: {answer.text}"
    )
    return Recording(stack)
