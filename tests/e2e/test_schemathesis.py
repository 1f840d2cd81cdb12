"""Schemathesis over the whole OpenAPI document: no 5xx, and no answer outside of what the document says.

`make test` asks every operation a few dozen times; `make fuzz` (ATELIER_FUZZ=thorough) asks 5,000 times and more.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from local.cloud import Stack
from tests.e2e import fuzzing
from tests.e2e.helpers import at_once
from tests.support import TERMINAL, Studio

THOROUGH = os.environ.get("ATELIER_FUZZ") == "thorough"
# Enough that every kind is made some times, and too little for thousands of requests: most are refused with 402.
CREDITS = 1500
REVOKE = "/v1/auth/revoke"


@pytest.fixture
def fuzzed(stack: Stack) -> Iterator[Studio]:
    """An account of which all jobs are over when the test is."""
    studio = Studio(stack, f"fuzz-{uuid4().hex[:12]}")
    studio.grant(CREDITS)
    yield studio
    unfinished = [job for job in jobs(studio) if job["status"] not in TERMINAL]
    at_once([lambda job=job: studio.http.post(f"/jobs/{job['id']}/cancel") for job in unfinished] or [list], workers=4)
    for job in unfinished:
        studio.wait(job["id"])
    studio.check_invariants()
    studio.close()


def jobs(studio: Studio) -> Iterator[dict[str, str]]:
    cursor = None
    while True:
        page = studio.http.get("/jobs", params={"limit": 100, **({"cursor": cursor} if cursor else {})}).json()
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def test_no_request_gets_an_answer_that_the_document_does_not_know(fuzzed: Studio, tmp_path: Path) -> None:
    stack = fuzzed.stack
    published = httpx.get(f"{stack.api_url}/v1/openapi.json", timeout=60, trust_env=False).json()
    document = fuzzing.aimed(fuzzing.strict(published), fuzzing.prepare(fuzzed))
    # Who revokes its own token ends a run, so that has one to itself.
    revoking = {**document, "paths": {REVOKE: document["paths"].pop(REVOKE)}}

    outcomes = [
        fuzzing.run(
            part,
            url=stack.api_url,
            token=stack.token(account, "studio admin", 3600),
            phases=("examples", "coverage", "fuzzing") if THOROUGH else ("examples", "fuzzing"),
            examples=110 if THOROUGH else 5,
            directory=tmp_path,
        )
        for part, account in ((document, fuzzed.account), (revoking, f"{fuzzed.account}-revoked"))
    ]

    statuses: dict[str, Counter[int]] = {}
    for outcome in outcomes:
        assert outcome.passed, outcome.report
        statuses |= outcome.statuses
    assert statuses.keys() == {key for key, _ in fuzzing.operations(published)}
    told = {operation: dict(answered) for operation, answered in statuses.items()}
    assert not {name: seen for name, seen in told.items() if not any(200 <= status < 400 for status in seen)}
    assert not {name: seen for name, seen in told.items() if any(status >= 500 for status in seen)}
    total = sum(statuses.values(), Counter())
    print(f"schemathesis: {total.total()} requests, {dict(sorted(total.items()))}")
    assert total.total() >= (5000 if THOROUGH else 200)
    assert {200, 201, 202, 204, 302, 404, 422} <= total.keys(), total
