"""The emulator, with at most a few processes per function: further invocations wait instead of starting one each.

AWS starts an environment for every parallel invocation; on a laptop a hundred cold starts at once take a minute and
gigabytes. `ATELIER_WORKERS` says how many processes a function may have (default 4).

It speaks plain HTTP on loopback, which nobody can listen to: policies that demand TLS take it for that.
"""

import os
import time
from typing import Any

from ministack import app
from ministack.core import iam_evaluator, lambda_runtime
from ministack.services import lambda_svc

WORKERS = int(os.environ.pop("ATELIER_WORKERS", "4"))
LONGEST_WAIT_S = 60.0

_acquire = lambda_runtime.acquire_worker


def acquire_or_wait(*args: Any, **options: Any) -> Any:
    """`lambda_runtime.acquire_worker`, asked again until a process is free; each call waits in a thread of its own."""
    give_up = time.monotonic() + LONGEST_WAIT_S
    while True:
        worker, reason = _acquire(*args, **{**options, "max_concurrency": WORKERS})
        if worker is not None or time.monotonic() > give_up:
            return worker, reason
        time.sleep(0.005)


def pin_secure_origin(source_ip: str, _: bool) -> None:
    """`iam_evaluator.pin_request_origin` of a request that came by TLS."""
    iam_evaluator.pin_request_origin(source_ip, True)


lambda_svc.acquire_worker = acquire_or_wait
app.pin_request_origin = pin_secure_origin

if __name__ == "__main__":
    app.main()
