"""A batch that was accepted is made, whatever becomes of the process or of the catalogue before all of it is split."""

from uuid import uuid4

import pytest

from local.cloud import Stack
from shared.core.clock import now
from shared.credits import ledger
from shared.jobs import batches, catalog
from tests.inside import inside
from tests.support import Studio, job_rows


def test_a_half_split_batch_goes_on_though_its_model_has_left_the_catalogue(
    stack: Stack, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    generations = [{"kind": "image", "prompt": f"number {number} [sim delay=0]"} for number in range(3)]
    with inside(stack):
        ledger.commit(studio.account, lambda account: (ledger.grant(account, amount=10, now=now(), reason=None), []))
        with monkeypatch.context() as dying:
            dying.setattr(batches, "split", lambda _: None)
            batch, _ = batches.create(studio.account, generations, idempotency_key=None, request_id=f"r-{uuid4().hex}")
        assert job_rows(stack, studio.account) == []
        studio.check_invariants()

        with monkeypatch.context() as changed:
            changed.setattr(catalog, "models", dict)
            found = batches.find(batch.id)
            assert found == batch
            batches.split(found)

    ended = [studio.wait(job.id) for job in batch.jobs]
    assert [(job["status"], job["credits"]["charged"]) for job in ended] == [("succeeded", 3)] * 3
    assert studio.http.get(f"/batches/{batch.id}").json()["finished"]
