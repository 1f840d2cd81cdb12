"""How many jobs of a kind an account has under way: counted with the hold, limited there, and zero again in the end."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import now
from shared.core.errors import TooManyJobs
from shared.credits import ledger
from shared.jobs import accept, settle, table
from shared.jobs.requests import ImageRequest, SpeechRequest
from shared.providers.outcomes import Failure
from tests.inside import inside
from tests.support import Studio, rows

LIMIT = 5


def in_flight(studio: Studio) -> dict[str, int]:
    account = next(item for item in rows(studio.stack, "ledger", account=studio.account) if item["sort"] == "account")
    return {kind: int(number) for kind, number in account["in_flight"].items()}


def test_the_counts_are_zero_once_every_job_has_ended(studio: Studio) -> None:
    """Successes, a failure, a cancel, a batch; of providers that answer later and at once."""
    waiting = studio.create("waits [sim outcome=never]")["id"]
    made = [
        studio.create("an image [sim delay=0]")["id"],
        studio.create("a failure [sim delay=0 outcome=failed]")["id"],
        studio.create("a portrait [sim delay=0]", kind="portraits")["id"],
        studio.post("speech", {"text": "A speech."})["id"],
    ]
    generations = [{"kind": "image", "prompt": "one [sim delay=0]"}, {"kind": "speech", "text": "Two."}]
    batch = studio.post("batches", {"generations": generations})
    made += [job["id"] for job in batch["items"]]
    assert len(made) == 6
    assert in_flight(studio)["image"] >= 1

    ends = [studio.wait(job_id)["status"] for job_id in made]
    assert in_flight(studio) == {"image": 1, "portrait": 0, "speech": 0}
    assert studio.http.post(f"/jobs/{waiting}/cancel").status_code == 200
    assert studio.wait(waiting)["status"] == "canceled"

    assert ends == ["succeeded", "failed", "succeeded", "succeeded", "succeeded", "succeeded"]
    assert in_flight(studio) == {"image": 0, "portrait": 0, "speech": 0}


@pytest.fixture
def limited(stack: Stack, new_studio: Callable[..., Studio]) -> Iterator[Studio]:
    """An account of a deployment where five jobs of a kind may be under way."""
    with inside(stack, TIME_SCALE="1", JOBS_IN_FLIGHT=str(LIMIT)):
        studio = new_studio(0)
        ledger.grant_once(studio.account, key="start", amount=100, now=now(), reason=None)
        yield studio


def test_of_twenty_at_once_five_are_accepted_and_one_more_for_each_that_ends(limited: Studio) -> None:
    image = ImageRequest(prompt="one of twenty")

    def ask(number: int) -> str | None:
        made = accept.offer(limited.account, image)
        try:
            accepted = accept.accept(limited.account, image, made, idempotency_key=None, request_id=uuid4().hex)
        except TooManyJobs:
            return None
        return accepted.job.id

    with ThreadPoolExecutor(20) as pool:
        accepted = [job_id for job_id in pool.map(ask, range(20)) if job_id]
    assert len(accepted) == LIMIT
    assert in_flight(limited) == {"image": LIMIT}
    assert ask(20) is None

    end(accepted.pop())
    another = ask(21)
    assert another is not None
    assert ask(22) is None

    # Each kind has its own.
    speech = SpeechRequest(text="A speech.")
    made = accept.offer(limited.account, speech)
    talk = accept.accept(limited.account, speech, made, idempotency_key=None, request_id=uuid4().hex).job.id
    assert in_flight(limited) == {"image": LIMIT, "speech": 1}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, [*accepted, another, talk] * 2))
    assert in_flight(limited) == {"image": 0, "speech": 0}


def end(job_id: str) -> None:
    job = table.get(job_id)
    assert job is not None
    settle.fail(job, "failed", Failure("a_test", "A test."))
