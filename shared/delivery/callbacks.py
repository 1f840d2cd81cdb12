"""Callbacks, from the end of a job to an answer of its receiver.

A job that ends with a `callback_url` stays in the index of unfinished jobs until its delivery is written down, in one
transaction with its leaving the index; a delivery stays in its own index until it has ended. A message in the queue
only says that one is due: it may be lost, doubled or late, and the sweeper finds whatever it should have brought.
"""

import math
import random
from collections.abc import Callable
from typing import Any

from shared.core import callback_secrets, dynamo, ids
from shared.core.clock import iso
from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.errors import RateLimited
from shared.core.log import about, count, logger
from shared.core.settings import settings
from shared.delivery import deliveries, message, queue, schedule, send
from shared.delivery.deliveries import Attempt, Busy, Delivery, Gone
from shared.delivery.send import Answer
from shared.jobs import table as jobs
from shared.jobs.table import Job

LOOK_AFTER_S = 60
"""How long a message may take before the sweeper sends another."""

DYING_S = 15
"""How much longer than its request a worker may take before it is thought dead."""

LONGEST_WAIT_S = 60
REDELIVERY_GAP_S = 5.0
SKEW_S = 2.0
PAGE = 50
ENOUGH_TIME_S = 10


def take_on(job: Job) -> None:
    """Write down the delivery of an ended job's callback, once, and queue its first attempt."""
    if job.callback_url is None or not job.terminal:
        return
    now = current_time()
    delivery = Delivery(
        id=job.id,
        account=job.account,
        webhook_id=ids.derived("msg", job.id),
        type=message.event_type(job),
        url=job.callback_url,
        body=message.body(job),
        request_id=job.request_id,
        state="pending",
        created_at=iso(now),
        next_attempt_at=now,
    )
    with about(job.id, job.request_id):
        try:
            dynamo.transact([deliveries.create(delivery, _look_after(now), now), jobs.told(job, now)])
        except Refused as refused:
            logger.info("callback is taken on already", refusals=refused.refusals)
            return
        queue.send(delivery.id, delivery.account)
        logger.info("callback taken on", webhook_id=delivery.webhook_id, type=delivery.type)


def attempt(job_id: str, waits: int) -> None:
    """The attempt that a message is for, if it is due; `waits`: how often it met an account that was busy."""
    now = current_time()
    delivery = deliveries.get(job_id)
    if delivery is None or delivery.state != "pending" or delivery.next_attempt_at is None:
        logger.info("nothing to deliver", callback=delivery and delivery.state)
        return
    early = delivery.next_attempt_at - now
    with about(job_id, delivery.request_id):
        if early > 0:
            # Clocks differ a little. A message of an older plan is dropped: the newer plan has its own.
            if early <= SKEW_S:
                queue.send(job_id, delivery.account, delay=early)
            return
        try:
            claimed, slot = deliveries.claim(delivery, now, now + settings().callback_timeout + DYING_S)
        except Refused:
            logger.info("somebody else is delivering this")
        except Busy:
            _wait(delivery, waits, now)
        except Gone:
            _disable(delivery, None, now)
        else:
            try:
                _deliver(claimed)
            finally:
                deliveries.release(slot, claimed)


def _deliver(delivery: Delivery) -> None:
    at = current_time()
    answer = _post(delivery, at)
    line = Attempt(iso(at), answer.status_code, answer.error, round(answer.took * 1000))
    verdict = schedule.verdict(answer.status_code)
    logger.info("callback attempted", outcome=verdict, webhook_id=delivery.webhook_id, **vars(line))
    now = current_time()
    try:
        match verdict:
            case "delivered":
                deliveries.end(delivery, "delivered", line, now)
                count("CallbackDelivered")
            case "disabled":
                deliveries.mark_gone(delivery, now)
                _disable(delivery, line, now)
            case "failed":
                count("CallbackFailed")
                _plan(delivery, line, answer, now)
    except Refused:
        logger.warning("somebody else has gone on with this delivery")


def _post(delivery: Delivery, now: float) -> Answer:
    secrets = [each.secret for each in callback_secrets.read(delivery.account, now)]
    if not secrets:
        return Answer(None, "no_secret", None, 0)
    body = delivery.body.encode()
    return send.post(
        delivery.url,
        send.headers(secrets, delivery.webhook_id, int(now), body),
        body,
        timeout=settings().callback_timeout,
        allowed=settings().allowed_private_origins,
    )


def _plan(delivery: Delivery, line: Attempt, answer: Answer, now: float) -> None:
    """The next attempt, or the end of all."""
    pause = schedule.pause(
        delivery.tries,
        retry_after=schedule.retry_after(answer.retry_after, now),
        chance=random.random(),
        scale=settings().time_scale,
    )
    if pause is None:
        _give_up(delivery, line, now)
        return
    # The queue can keep a message for a quarter of an hour; what is due later is found by the sweeper.
    queued = pause <= queue.LONGEST_DELAY_S
    deliveries.plan(delivery, line, now + pause, _look_after(now + pause) if queued else now + pause)
    if queued:
        queue.send(delivery.id, delivery.account, delay=pause)


def _give_up(delivery: Delivery, line: Attempt | None, now: float) -> None:
    deliveries.end(delivery, "dead", line, now)
    logger.error("callback given up", webhook_id=delivery.webhook_id, tries=delivery.tries)
    count("CallbackDead")


def _disable(delivery: Delivery, line: Attempt | None, now: float) -> None:
    deliveries.end(delivery, "disabled", line, now)
    logger.warning("callbacks to this URL are disabled: it has answered 410")
    count("CallbackDisabled")


def _wait(delivery: Delivery, waits: int, now: float) -> None:
    """The account's slots are taken: come again soon, and less and less soon."""
    pause = max(1.0, min(2.0**waits, settings().scaled(LONGEST_WAIT_S)) * random.uniform(0.5, 1))
    deliveries.put_off(delivery, _look_after(now + pause))
    queue.send(delivery.id, delivery.account, delay=pause, waits=waits + 1)


def redeliver_once(delivery: Delivery, idempotency_key: str | None) -> tuple[Delivery, bool]:
    """Deliver it again, by the whole schedule, under the same webhook-id; a URL that was disabled is tried again. And
    whether this is a repeat of the request that was the last to ask for it.

    Raises RateLimited when that was asked for a moment ago, or an attempt is under way.
    """
    request = ids.derived("redelivery", delivery.account, delivery.id, idempotency_key) if idempotency_key else None
    if request and delivery.redelivery == request:
        return delivery, True
    now = current_time()
    try:
        again = deliveries.start_again(delivery, now, _look_after(now), gap=REDELIVERY_GAP_S, request=request)
    except Refused as error:
        raise RateLimited(limit="redelivery", retry_after=math.ceil(REDELIVERY_GAP_S)) from error
    deliveries.forget_gone(delivery)
    queue.send(delivery.id, delivery.account)
    logger.info("callback is delivered again", webhook_id=delivery.webhook_id, was=delivery.state)
    return again, False


def sweep(time_left: Callable[[], float]) -> dict[str, int]:
    """Take on what nobody has taken on, queue what is due and has no message, end what died with its last try."""
    found: dict[str, Any] = {"untold": 0, "queued": 0, "given_up": 0}
    for shard in jobs.UNTOLD_SHARDS:
        for job_id in jobs.due(shard, current_time(), limit=PAGE):
            if time_left() > ENOUGH_TIME_S:
                found["untold"] += _try(job_id, lambda job_id=job_id: _tell(job_id))  # type: ignore[misc]
    for number in range(deliveries.SHARDS):
        for delivery in deliveries.overdue(number, current_time(), limit=PAGE):
            if time_left() > ENOUGH_TIME_S:
                dead = delivery.tries >= len(schedule.DELAYS_S)
                look_after = _give_up_late if dead else _queue_again
                found["given_up" if dead else "queued"] += _try(
                    delivery.id,
                    lambda delivery=delivery, look_after=look_after: look_after(delivery),  # type: ignore[misc]
                )
    logger.info("swept callbacks", **found)
    for name, number in found.items():
        count(f"CallbackSweep_{name}", number)
    return found


def _try(job_id: str, look_after: Callable[[], None]) -> bool:
    """Look after one; whatever is wrong with it is no reason to leave the others alone."""
    try:
        look_after()
    except Exception:  # noqa: BLE001 It stays due, or comes again in a minute.
        logger.exception("could not look after this callback", job_id=job_id)
        return False
    return True


def _tell(job_id: str) -> None:
    job = jobs.get(job_id)
    if job is not None:
        take_on(job)


def _queue_again(delivery: Delivery) -> None:
    deliveries.put_off(delivery, _look_after(current_time()))
    queue.send(delivery.id, delivery.account)


def _give_up_late(delivery: Delivery) -> None:
    """Its last try has killed its worker."""
    with about(delivery.id, delivery.request_id):
        _give_up(delivery, None, current_time())


def _look_after(at: float) -> float:
    return at + settings().scaled(LOOK_AFTER_S)
