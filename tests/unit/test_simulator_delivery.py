"""Signing by the published vector, and the courier's retries against receivers that misbehave."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
import standardwebhooks

from local.simulator.delivery import Courier, Mailbox, Webhook, new_secret, sign, standard_signers
from local.simulator.directives import Fault, WebhookFault

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"status": "succeeded"}'
PAUSES = (0.0, 0.0, 0.0, 0.0)


def delivered(
    answer: Callable[[httpx.Request], httpx.Response],
    *,
    url: str = "https://receiver.example/hook?job=1",
    fault: WebhookFault = "ok",
    times: int | None = None,
    retried: bool = True,
) -> tuple[list[httpx.Request], Mailbox]:
    """What a receiver saw of one delivery, and the log of it."""
    seen: list[httpx.Request] = []

    def receive(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(request)

    async def deliver() -> Mailbox:
        signer, forger = standard_signers(SECRET)
        mailbox = Mailbox(Fault(fault, times))
        async with httpx.AsyncClient(transport=httpx.MockTransport(receive)) as client:
            courier = Courier(client, endpoint="http://127.0.0.1:4566", pauses=PAUSES)
            await courier.deliver(Webhook(url, "completed", BODY, signer, forger), mailbox, retried=retried)
        return mailbox

    return seen, asyncio.run(deliver())


def verified(request: httpx.Request) -> bool:
    try:
        standardwebhooks.Webhook(SECRET).verify(request.content, dict(request.headers))
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(204)


def test_the_signature_is_the_published_vector() -> None:
    signature = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_reference_library_signs_alike() -> None:
    secret, moment = new_secret(), datetime.now(UTC)
    body = json.dumps({"status": "succeeded", "prompt": "ü"})

    expected = standardwebhooks.Webhook(secret).sign("msg_1", moment, body)

    assert sign(secret, "msg_1", int(moment.timestamp()), body.encode()) == expected


def test_a_delivery_verifies_and_is_made_once() -> None:
    seen, mailbox = delivered(ok)

    assert [verified(request) for request in seen] == [True]
    assert [(line.attempt, line.status_code) for line in mailbox.log] == [(1, 204)]


def test_a_function_url_goes_to_the_emulator_under_its_own_name() -> None:
    seen, _ = delivered(ok, url="https://abc123.lambda-url.eu-west-1.on.aws/replicate?job=job_01%2F&x=a+b")

    assert str(seen[0].url) == "http://127.0.0.1:4566/replicate?job=job_01%2F&x=a+b"
    assert seen[0].headers["host"] == "abc123.lambda-url.eu-west-1.on.aws"


def test_another_url_is_taken_as_it_stands() -> None:
    seen, _ = delivered(ok, url="http://127.0.0.1:8123/abc.lambda-url.eu-west-1.on.aws?x=1")

    assert str(seen[0].url) == "http://127.0.0.1:8123/abc.lambda-url.eu-west-1.on.aws?x=1"
    assert seen[0].headers["host"] == "127.0.0.1:8123"


@pytest.mark.parametrize("status_code", [400, 401, 404, 429, 500, 503])
def test_errors_are_retried_under_the_same_id(status_code: int) -> None:
    answers = iter([status_code, status_code, 200])

    seen, mailbox = delivered(lambda _: httpx.Response(next(answers)))

    assert [line.status_code for line in mailbox.log] == [status_code, status_code, 200]
    assert len({request.headers["webhook-id"] for request in seen}) == 1
    assert all(verified(request) for request in seen)


def test_silence_is_retried_until_the_attempts_run_out() -> None:
    def unreachable(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    _, mailbox = delivered(unreachable)

    assert [line.status_code for line in mailbox.log] == [None] * (len(PAUSES) + 1)
    assert "ConnectError" in (mailbox.log[0].error or "")


def test_a_redirect_loses_the_event() -> None:
    seen, _ = delivered(lambda _: httpx.Response(301, headers={"location": "https://elsewhere.example/"}))

    assert len(seen) == 1


def test_an_intermediate_webhook_is_tried_once() -> None:
    seen, _ = delivered(lambda _: httpx.Response(503), retried=False)

    assert len(seen) == 1


@pytest.mark.parametrize("fault", ["unsigned", "forged", "stale"])
def test_bad_proof_is_never_followed_by_good_proof(fault: WebhookFault) -> None:
    seen, _ = delivered(lambda _: httpx.Response(401), fault=fault)

    assert [verified(request) for request in seen] == [False, False]


@pytest.mark.parametrize("fault", ["unsigned", "forged", "stale"])
def test_bad_proof_with_a_count_becomes_good(fault: WebhookFault) -> None:
    seen, _ = delivered(lambda request: httpx.Response(200 if verified(request) else 401), fault=fault, times=2)

    assert [verified(request) for request in seen] == [False, False, True]


def test_each_bad_proof_is_bad_in_its_own_way() -> None:
    unsigned, forged, stale = (delivered(ok, fault=fault)[0][0] for fault in ("unsigned", "forged", "stale"))

    assert "webhook-signature" not in unsigned.headers
    assert abs(int(forged.headers["webhook-timestamp"]) - time.time()) < 5
    stale_id, stale_at = stale.headers["webhook-id"], int(stale.headers["webhook-timestamp"])
    assert 595 < time.time() - stale_at < 610
    assert stale.headers["webhook-signature"] == sign(SECRET, stale_id, stale_at, BODY)


def test_a_body_changed_after_signing_proves_nothing() -> None:
    seen, _ = delivered(ok, fault="tampered")

    assert [verified(request) for request in seen] == [False]
    assert json.loads(seen[0].content) == json.loads(BODY)


def test_after_a_rotation_one_of_two_signatures_is_good() -> None:
    seen, _ = delivered(ok, fault="rotated")

    assert len(seen[0].headers["webhook-signature"].split()) == 2
    assert verified(seen[0])


def test_a_big_body_verifies() -> None:
    seen, _ = delivered(ok, fault="big")

    assert len(seen[0].content) == 5_000_000
    assert verified(seen[0])


def test_what_is_for_a_bucket_goes_to_the_emulator() -> None:
    seen, _ = delivered(ok, url="https://media-1.s3.eu-west-1.amazonaws.com/a.mp3?X-Amz-Signature=1")

    assert str(seen[0].url) == "http://127.0.0.1:4566/a.mp3?X-Amz-Signature=1"
    assert seen[0].headers["host"] == "media-1.s3.eu-west-1.amazonaws.com"


def test_what_is_lost_reaches_nobody() -> None:
    seen, mailbox = delivered(ok, fault="lost")

    assert seen == []
    assert [(line.fault, line.status_code) for line in mailbox.log] == [("lost", None)]


def test_what_is_lost_once_arrives_by_retry() -> None:
    seen, mailbox = delivered(ok, fault="lost", times=1)

    assert len(seen) == 1
    assert [line.fault for line in mailbox.log] == ["lost", "ok"]
