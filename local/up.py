"""`make up`: the local cloud, up until Ctrl-C."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.cloud import Stack

ROOT = Path(__file__).resolve().parent.parent


def state_dir() -> Path:
    """Where this run keeps its stack.json and logs."""
    return Path(os.environ.get("ATELIER_STATE_DIR") or ROOT / ".local")


def teller() -> Callable[[str], None]:
    """A `say` that puts the elapsed seconds before every line."""
    start = time.monotonic()
    return lambda line: print(f"[{time.monotonic() - start:5.1f}s] {line}", flush=True)


def main() -> int:
    """Bring the cloud up, say how to use it, stay until a signal; the exit code."""
    say = teller()
    try:
        return _stay_up(say)
    except KeyboardInterrupt:
        say("interrupted before it was ready; nothing is left running")
        return 130


def _stay_up(say: Callable[[str], None]) -> int:
    # Imported here because it takes a moment, in which a Ctrl-C should find someone to catch it.
    from local.cloud import CloudError, local_cloud

    ready = False
    simulator_url = os.environ.get("SIMULATOR_URL") or None
    try:
        with local_cloud(root=ROOT, state_dir=state_dir(), simulator_url=simulator_url, say=say) as stack:
            ready = True
            say("ready")
            print(_manual(stack), flush=True)
            stack.watch()
    except CloudError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if not ready:
            raise
        say("everything is stopped. Goodbye.")
    return 0


def _manual(stack: "Stack") -> str:
    authorization = f'-H "Authorization: Bearer {stack.tokens["alice"]}"'
    return f"""
  API        {stack.api_url}/v1
  webhooks   {stack.webhook_url}
  providers  {stack.simulator_url} (simulated)
  AWS        {stack.aws_endpoint_url} (emulator; AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test)

  Create a portrait as alice, look at the job (put its id for JOB), look at the credits:

  curl -s {stack.api_url}/v1/portraits {authorization} -H "Content-Type: application/json" -H "Idempotency-Key: first" \
-d '{{"prompt": "a lighthouse keeper at dawn, oil on canvas"}}'
  curl -s {stack.api_url}/v1/jobs/JOB {authorization}
  curl -s {stack.api_url}/v1/credits {authorization}

  Tokens for others: make -s token SUB=carol SCOPE=studio TTL=3600. Stop with Ctrl-C.
"""


if __name__ == "__main__":
    sys.exit(main())
