"""What `make bench` says of what it has measured, and its measure of memory."""

import subprocess
import sys

import pytest

from benchmarks import memory
from benchmarks.lists import LIMIT, Taken
from benchmarks.report import Row, exit_code, table
from local.cloud import CloudError

MET = Row("memory", "150 MiB", "< 200 MiB")
MISSED = Row("time", "350 ms", "< 300 ms", met=False)
INFORMATIVE = Row("jobs accepted", "35 a second")


def test_every_row_says_whether_its_limit_is_met() -> None:
    assert table([MET, MISSED, INFORMATIVE]).splitlines()[2:] == [
        "memory         150 MiB      < 200 MiB  met",
        "time           350 ms       < 300 ms   MISSED",
        "jobs accepted  35 a second",
    ]


def test_one_missed_limit_fails_the_run() -> None:
    assert exit_code([MET, INFORMATIVE]) == 0
    assert exit_code([MET, MISSED, INFORMATIVE]) == 1


@pytest.mark.parametrize(
    ("long", "met"),
    [(Taken(1, 101, 9.0), True), (Taken(2, 100, 0.1), False), (Taken(1, 131, 0.1), False)],
)
def test_a_long_list_may_ask_no_more_of_dynamodb_than_a_short_one(long: Taken, met: bool) -> None:
    assert (long / Taken(1, 100, 0.1) <= LIMIT) == met


@pytest.mark.parametrize("held_mib", [1, 120])
def test_memory_is_the_most_that_a_process_of_the_function_has_had(held_mib: int) -> None:
    """Also when it has given it back since."""
    hold = f"held = b'x' * ({held_mib} * 1024**2); del held; print('done', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold],
        env={"AWS_LAMBDA_FUNCTION_NAME": f"bench-{held_mib}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()

        mib = memory.high_water_bytes(f"bench-{held_mib}") / 1024**2
        process.communicate("\n")

    assert held_mib < mib < held_mib + 60


def test_memory_of_a_function_that_never_ran_is_not_made_up() -> None:
    with pytest.raises(CloudError, match="no process of nobody"):
        memory.high_water_bytes("nobody")
