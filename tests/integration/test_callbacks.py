"""The deliveries table and its index, the jobs whose end nobody has told yet, and an account's secrets: each change
under its condition."""

import time
from dataclasses import replace
from uuid import uuid4

import pytest

from shared.core import callback_secrets, dynamo
from shared.core.dynamo import Refused
from shared.core.settings import settings
from shared.delivery import callbacks, deliveries
from shared.delivery.deliveries import SLOTS, Attempt, Busy, Delivery, Gone
from shared.jobs import table
from shared.providers.outcomes import Failure
from tests.e2e.helpers import at_once
from tests.unit.helpers import job as a_job

pytestmark = pytest.mark.usefixtures("product")

NOW = time.time()
LATER, MUCH_LATER = NOW + 30, NOW + 3600
FAR = 10**10
URL = "https://studio.example.com/callbacks"
LINE = Attempt("2026-10-01T10:00:00.000Z", 503, None, 12)
WHY = Failure("provider_failed", "Why not.")


def made(account: str | None = None, **changes: object) -> Delivery:
    """A delivery that is due now."""
    values: dict[str, object] = {
        "id": f"job_{uuid4().hex}",
        "account": account or f"account-{uuid4().hex}",
        "webhook_id": "msg_1",
        "type": "job.succeeded",
        "url": URL,
        "request_id": "request-1",
        "state": "pending",
        "created_at": "2026-10-01T10:00:00.000Z",
        "body": "{}",
        "next_attempt_at": NOW,
    }
    delivery = Delivery(**{**values, **changes})  # type: ignore[arg-type]
    dynamo.transact([deliveries.create(delivery, NOW + 60, NOW)])
    return delivery


def now_of(delivery: Delivery) -> Delivery:
    found = deliveries.get(delivery.id)
    assert found is not None
    return found


def is_looked_after(delivery: Delivery, at: float) -> bool:
    """Whether the sweeper would find it then."""
    return any(
        delivery.id == each.id
        for shard in range(deliveries.SHARDS)
        for each in deliveries.overdue(shard, at, limit=1000)
    )


# Attempts


def test_of_many_workers_one_has_the_delivery() -> None:
    delivery = made()

    def claim() -> bool:
        try:
            deliveries.claim(delivery, NOW, LATER)
        except (Refused, Busy):
            return False
        return True

    assert sum(at_once([claim] * 8)) == 1
    assert now_of(delivery).tries == 1


def test_an_account_has_two_attempts_under_way_and_another_account_its_own() -> None:
    several = [made("slow-" + uuid4().hex)]
    several += [made(several[0].account) for _ in range(SLOTS)]
    held = [deliveries.claim(each, NOW, LATER) for each in several[:SLOTS]]

    with pytest.raises(Busy):
        deliveries.claim(several[SLOTS], NOW, LATER)

    assert now_of(several[SLOTS]).tries == 0
    deliveries.claim(made(), NOW, LATER)
    claimed, slot = held[0]
    deliveries.release(slot, claimed)
    deliveries.claim(several[SLOTS], NOW, LATER)


def test_a_worker_that_has_died_is_followed_by_another_and_its_slot_is_free() -> None:
    delivery = made()
    dead, _ = deliveries.claim(delivery, NOW, LATER)

    with pytest.raises(Refused):
        deliveries.claim(now_of(delivery), LATER, MUCH_LATER)
    follower, slot = deliveries.claim(now_of(delivery), LATER + 1, MUCH_LATER)

    assert follower.tries == 2
    with pytest.raises(Refused):
        deliveries.end(dead, "delivered", LINE, NOW)
    deliveries.release(slot, dead)
    assert now_of(delivery).lease == follower.lease
    deliveries.end(follower, "delivered", LINE, NOW)
    assert now_of(delivery).state == "delivered"


def test_what_is_not_due_is_not_attempted() -> None:
    delivery = made(next_attempt_at=LATER)

    with pytest.raises(Refused):
        deliveries.claim(delivery, NOW, LATER)


@pytest.mark.parametrize("state", ["delivered", "disabled", "dead"])
def test_what_has_ended_is_out_of_sight_and_not_attempted(state: deliveries.State) -> None:
    delivery = made()
    claimed, _ = deliveries.claim(delivery, NOW, LATER)

    deliveries.end(claimed, state, LINE, NOW)

    found = now_of(delivery)
    assert (found.state, found.next_attempt_at, found.attempts, found.lease) == (state, None, (LINE,), None)
    assert not is_looked_after(delivery, FAR)
    with pytest.raises(Refused):
        deliveries.claim(found, MUCH_LATER, FAR)


def test_what_is_planned_is_looked_after_when_its_time_has_passed() -> None:
    delivery = made()
    claimed, _ = deliveries.claim(delivery, NOW, LATER)

    deliveries.plan(claimed, LINE, LATER, MUCH_LATER)

    found = now_of(delivery)
    assert (found.state, found.next_attempt_at, found.attempts) == ("pending", LATER, (LINE,))
    assert not is_looked_after(delivery, MUCH_LATER - 1)
    assert is_looked_after(delivery, MUCH_LATER + 1)


def test_an_attempt_under_way_is_looked_after_when_its_worker_must_be_dead() -> None:
    delivery = made()

    deliveries.claim(delivery, NOW, MUCH_LATER)

    assert not is_looked_after(delivery, MUCH_LATER - 1)
    assert is_looked_after(delivery, MUCH_LATER + 1)


def test_the_log_has_the_newest_thirty_attempts() -> None:
    delivery = made()
    for number in range(deliveries.MOST_ATTEMPTS + 5):
        claimed, slot = deliveries.claim(now_of(delivery), NOW, LATER)
        deliveries.plan(claimed, replace(LINE, duration_ms=number), NOW, LATER)
        deliveries.release(slot, claimed)

    assert [line.duration_ms for line in now_of(delivery).attempts] == list(range(5, 35))


# URLs that are gone, and asking again


def test_a_url_that_is_gone_is_gone_for_its_account_only() -> None:
    first = made()
    deliveries.mark_gone(first, NOW)

    with pytest.raises(Gone):
        deliveries.claim(made(first.account), NOW, LATER)
    deliveries.claim(made(first.account, url=URL + "/other"), NOW, LATER)
    deliveries.claim(made(), NOW, LATER)
    deliveries.forget_gone(first)
    deliveries.claim(made(first.account), NOW, LATER)


def test_what_was_given_up_is_in_the_list_of_the_dead_until_it_is_asked_for() -> None:
    delivery = made()
    claimed, _ = deliveries.claim(delivery, NOW, LATER)
    deliveries.end(claimed, "dead", LINE, FAR)

    def listed() -> bool:
        items, _ = deliveries.dead(limit=100, cursor=None)
        return delivery.id in [each.id for each in items]

    assert listed()
    again = deliveries.start_again(now_of(delivery), NOW, LATER, gap=5, request=None)
    assert (again.state, again.tries, again.next_attempt_at, again.attempts) == ("pending", 0, NOW, (LINE,))
    assert not listed()


def test_asking_again_counts_once_in_five_seconds_and_not_while_it_is_being_attempted() -> None:
    delivery = made()

    deliveries.start_again(delivery, NOW, LATER, gap=5, request="r1")
    with pytest.raises(Refused):
        deliveries.start_again(delivery, NOW + 4.9, LATER, gap=5, request="r2")
    deliveries.start_again(delivery, NOW + 5, LATER, gap=5, request="r3")
    deliveries.claim(now_of(delivery), NOW + 6, MUCH_LATER)
    with pytest.raises(Refused):
        deliveries.start_again(delivery, NOW + 20, LATER, gap=5, request="r4")

    assert now_of(delivery).redelivery == "r3"


# Jobs


def ended(prediction: str | None = None, callback_url: str | None = URL) -> table.Job:
    """A job that has timed out."""
    job = a_job(id=f"job_{uuid4().hex}", prediction=prediction, callback_url=callback_url)
    dynamo.transact([table.create(job)])
    dynamo.transact([table.fail(job, "timed_out", WHY, NOW)])
    found = table.get(job.id)
    assert found is not None
    return found


def untold(job: table.Job) -> bool:
    return job.id in table.due(table.untold_shard(job.id), FAR, limit=1000)


def test_a_job_that_ends_is_in_sight_until_its_callback_is_taken_on() -> None:
    job = ended()
    assert untold(job)

    dynamo.transact([table.told(job, NOW)])

    assert not untold(job)
    with pytest.raises(Refused):
        dynamo.transact([table.told(job, NOW)])


def test_a_job_that_may_yet_succeed_is_asked_about_once_its_callback_is_taken_on() -> None:
    job = ended(prediction="p1")
    assert untold(job)
    assert job.id not in table.due(table.lost_shard(job.id), FAR, limit=1000)

    dynamo.transact([table.told(job, NOW)])

    assert not untold(job)
    assert job.id in table.due(table.lost_shard(job.id), NOW, limit=1000)
    table.forget(job.id)


def test_a_job_without_a_callback_is_not_waited_for() -> None:
    assert not untold(ended(callback_url=None))


def test_a_callback_is_taken_on_once_however_often_its_end_is_told() -> None:
    job = ended()

    at_once([lambda: callbacks.take_on(job)] * 4)

    delivery = deliveries.get(job.id)
    assert delivery is not None
    assert (delivery.url, delivery.type, delivery.request_id) == (URL, "job.timed_out", "request-1")
    assert not untold(job)


# Secrets


def test_rotations_at_the_same_time_lose_no_secret() -> None:
    account = f"account-{uuid4().hex}"

    made_by = at_once([lambda: callback_secrets.rotate(account, NOW)[0][0].secret] * 3)

    assert {each.secret for each in callback_secrets.read(account, NOW)} == set(made_by)


def test_an_account_without_a_secret_has_none() -> None:
    assert callback_secrets.read(f"account-{uuid4().hex}", NOW) == ()


def test_a_rotation_leaves_the_rest_of_the_account_alone() -> None:
    account = f"account-{uuid4().hex}"
    dynamo.save(settings().access_table, {"id": f"account#{account}", "plan": "standard"})

    callback_secrets.rotate(account, NOW)

    item = dynamo.get(settings().access_table, {"id": f"account#{account}"})
    assert item is not None
    assert item["plan"] == "standard"
