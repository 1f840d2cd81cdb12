"""The product's own modules in this process, against the tables and the bucket of the deployed stack."""

from collections.abc import Iterator

import pytest

from local.cloud import Stack
from tests.inside import inside


@pytest.fixture
def product(stack: Stack) -> Iterator[None]:
    """This process is a deployed function, with AWS's deadlines."""
    with inside(stack, TIME_SCALE="1"):
        yield
