"""`make bench`: what is promised of speed and memory, measured in one run on a local cloud of its own.

Ends with 1 if a limit is missed.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import lists, memory, posts, uploads
from benchmarks.report import Row, exit_code, table
from local.cloud import CloudError, Stack, local_cloud
from local.up import teller

ROOT = Path(__file__).parent.parent
ROWS: list[Callable[[Stack], Row]] = [
    posts.warm_post,
    posts.accepted_per_second,
    memory.store,
    memory.generate,
    uploads.inspection,
]


def main() -> int:
    try:
        rows = _measure()
    except CloudError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(rows))
    return exit_code(rows)


def _measure() -> list[Row]:
    say = teller()
    with (
        tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder,
        # With the deadlines of AWS: a slow machine is no reason to give a job up.
        local_cloud(root=ROOT, state_dir=Path(folder), say=say, parameters={"TimeScale": "1"}, grants=False) as stack,
    ):
        rows = []
        for measure in ROWS:
            say(f"measuring {measure.__name__.replace('_', ' ')}")
            rows.append(measure(stack))
        say("measuring lists")
        rows += lists.pages(stack)
        return rows


if __name__ == "__main__":
    sys.exit(main())
