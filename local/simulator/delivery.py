"""Signing webhooks and bringing them to their receiver, faults included.

What is for a Lambda Function URL goes to the AWS emulator's port with its `Host`, as DNS would bring it to AWS.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx

from local.simulator.directives import Fault, WebhookFault

# Retries end about a minute after the first attempt, as Replicate documents it.
RETRY_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
ANSWER_WITHIN = 10.0
# A sender whose signatures are always wrong knocks twice: enough to see that both are refused.
ATTEMPTS_WITH_BAD_SIGNATURE = 2
BAD_PROOF = ("unsigned", "forged", "stale", "tampered")
STALE_BY = 600
BIG = 5_000_000
AWS_HOST = re.compile(r"[a-z0-9]+\.lambda-url\.[a-z0-9-]+\.on\.aws|(.+\.)?s3[.-][a-z0-9.-]*amazonaws\.com")
FILE_URL = re.compile(rb'https?://[^"\\]+/delivery/')
SOMEBODY_ELSES = b"https://files.attacker.example/"

type Signer = Callable[[bytes, int], dict[str, str]]
"""From the raw body and the time in Unix seconds to the headers that prove the sender."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """`forge` makes headers of the right shape that must not verify."""

    url: str
    event: str
    body: bytes
    sign: Signer
    forge: Signer


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of a delivery log. `status_code` is None when nobody answered; `at` is Unix time."""

    event: str
    attempt: int
    fault: WebhookFault
    status_code: int | None
    error: str | None
    at: float


@dataclass(slots=True)
class Mailbox:
    """What one job's webhooks share: the fault they suffer, the log, and whether the final one was tried yet."""

    fault: Fault[WebhookFault]
    log: list[Attempt] = field(default_factory=list)
    tried_completed: asyncio.Event = field(default_factory=asyncio.Event)


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Standard Webhooks 1.0.0, symmetric: `v1,` + base64(HMAC-SHA256(`id.timestamp.body`))."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def standard_signers(secret: str) -> tuple[Signer, Signer]:
    """The signer of one message, and a forger who knows its id but not the secret."""
    message_id = "msg_" + secrets.token_hex(14)
    return _signer(secret, message_id), _signer(new_secret(), message_id)


def _signer(secret: str, message_id: str) -> Signer:
    def headers(body: bytes, timestamp: int) -> dict[str, str]:
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret, message_id, timestamp, body),
        }

    return headers


class Courier:
    """Delivers webhooks over `client`, which must not follow redirects: a real sender loses the event there."""

    def __init__(self, client: httpx.AsyncClient, *, endpoint: str, pauses: Sequence[float] = RETRY_PAUSES) -> None:
        self._client = client
        self._endpoint = httpx.URL(endpoint)
        self._pauses = pauses

    async def deliver(self, webhook: Webhook, mailbox: Mailbox, *, retried: bool) -> None:
        """Attempt until something other than a 4xx, a 5xx or silence comes back, or the attempts run out."""
        pauses = list(self._pauses) if retried else []
        if mailbox.fault.kind in BAD_PROOF and mailbox.fault.times is None:
            pauses = pauses[: ATTEMPTS_WITH_BAD_SIGNATURE - 1]
        if mailbox.fault.kind == "lost" and mailbox.fault.times is None:
            pauses = []
        for number, pause in enumerate([*pauses, None], start=1):
            attempt = await self._attempt(webhook, number, mailbox.fault)
            mailbox.log.append(attempt)
            if webhook.event == "completed":
                mailbox.tried_completed.set()
            if pause is None or (attempt.status_code is not None and attempt.status_code < 400):
                return
            await asyncio.sleep(pause)

    async def _attempt(self, webhook: Webhook, number: int, fault: Fault[WebhookFault]) -> Attempt:
        at = time.time()
        struck = fault.strike()
        status_code, error = None, None
        if struck == "lost":
            error = "lost on the way"
        else:
            try:
                status_code = await self._post(*_signed(webhook, int(at), struck))
            except (httpx.TransportError, TimeoutError) as failure:
                error = f"{type(failure).__name__}: {failure}"
        return Attempt(webhook.event, number, struck, status_code, error, at)

    async def _post(self, webhook: Webhook, proof: dict[str, str]) -> int:
        url, host = to_emulator(httpx.URL(webhook.url), self._endpoint)
        headers = {"content-type": "application/json", "host": host, **proof}
        async with asyncio.timeout(ANSWER_WITHIN):
            answer = await self._client.post(url, content=webhook.body, headers=headers)
        return answer.status_code


def to_emulator(url: httpx.URL, endpoint: httpx.URL) -> tuple[httpx.URL, str]:
    """Where to connect for `url`, and the `Host` to say there: hosts of AWS are behind the emulator's port."""
    host = url.netloc.decode()
    if AWS_HOST.fullmatch(url.host):
        url = url.copy_with(scheme=endpoint.scheme, host=endpoint.host, port=endpoint.port)
    return url, host


def _signed(webhook: Webhook, now: int, fault: WebhookFault) -> tuple[Webhook, dict[str, str]]:
    """What is sent, and the headers that prove it or fail to."""
    match fault:
        case "unsigned":
            return webhook, {}
        case "forged":
            return webhook, webhook.forge(webhook.body, now)
        case "stale":
            return webhook, webhook.sign(webhook.body, now - STALE_BY)
        case "tampered":
            return replace(webhook, body=_tampered(webhook.body)), webhook.sign(webhook.body, now)
        case "rotated":
            good, bad = webhook.sign(webhook.body, now), webhook.forge(webhook.body, now)
            return webhook, {
                name: good[name] if good[name] == bad[name] else f"{bad[name]} {good[name]}" for name in good
            }
        case "big":
            # White space may follow a JSON document.
            webhook = replace(webhook, body=webhook.body.ljust(BIG))
            return webhook, webhook.sign(webhook.body, now)
        case _:
            return webhook, webhook.sign(webhook.body, now)


def _tampered(body: bytes) -> bytes:
    """Other files than the provider made; at least one more space, or the proof would hold."""
    return FILE_URL.sub(SOMEBODY_ELSES, body) + b" "
