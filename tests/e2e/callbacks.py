"""A receiver of callbacks at the simulator, and what the tests of callbacks ask of it."""

import json
import time
from typing import Any
from uuid import uuid4

import httpx
from standardwebhooks import Webhook

from local.cloud import Stack
from tests.e2e.helpers import eventually
from tests.support import Json, Studio

TIMEOUT_S = 3
"""CallbackTimeoutSeconds of samconfig.toml."""

ARRIVES_S = 30


class Receiver:
    """A receiver with a name of its own."""

    def __init__(self, stack: Stack) -> None:
        self.url = f"{stack.simulator_url}/_sim/callbacks/{uuid4().hex}"

    def calls(self) -> list[Json]:
        """What has come, oldest first; each with its body as JSON in `event`."""
        found = httpx.get(self.url, timeout=30, trust_env=False).json()["calls"]
        return [{**call, "event": json.loads(call["body"])} for call in found]

    def behaves(self, **manner: Any) -> None:
        """From now on it answers like this; without arguments all is well."""
        assert httpx.put(self.url, json=manner, timeout=30, trust_env=False).status_code == 204

    def got(self, count: int, *, timeout: float = ARRIVES_S) -> list[Json]:
        """The calls, once there are so many."""

        def enough() -> list[Json] | None:
            calls = self.calls()
            return calls if len(calls) >= count else None

        return eventually(enough, timeout=timeout, what=f"{count} calls of {self.url}")


def new_secret(studio: Studio) -> str:
    """Rotate; the secret that is current then."""
    answer = studio.http.post("/callbacks/secret/rotate")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["secret"])


def verify(call: Json, *secrets: str) -> None:
    """The reference library takes the callback for genuine, with each of the secrets."""
    for secret in secrets:
        Webhook(secret).verify(call["body"], call["headers"])


def ended(studio: Studio, receiver: Receiver, **fields: Any) -> Json:
    """A job that was told to fail, so that it ends soon, and tells the receiver."""
    job = studio.create("[sim outcome=failed]", callback_url=receiver.url, **fields)
    return studio.wait(job["id"])


def log(studio: Studio, job_id: str) -> Json:
    """The delivery log."""
    answer = studio.http.get(f"/jobs/{job_id}/callback")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(studio: Studio, job_id: str, state: str, *, timeout: float = ARRIVES_S) -> Json:
    """The delivery log, once it is in that state."""

    def there() -> Json | None:
        found = log(studio, job_id)
        return found if found["state"] == state else None

    return eventually(there, timeout=timeout, what=f"{state} callback of {job_id}")


def redeliver(studio: Studio, job_id: str, **headers: str) -> httpx.Response:
    """Ask for it again; while an attempt is just being made, or was a moment ago, ask once more."""
    deadline = time.monotonic() + ARRIVES_S
    while True:
        answer = studio.http.post(f"/jobs/{job_id}/callback/redeliver", headers=headers)
        if answer.status_code != 429 or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)
