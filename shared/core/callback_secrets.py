"""The secrets that an account's callbacks are signed with (Standard Webhooks), kept on its item of the access table.

A rotation makes a new one; for a day every callback is signed with both, so that a receiver can change over in between.
"""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from shared.core import dynamo, ids
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused
from shared.core.settings import settings

SECRET_BYTES = 32
OVERLAP_S = 24 * 3600
MOST = 5
"""Secrets at the same time: whoever rotates more often within a day retires the oldest earlier."""

ATTEMPTS = 5


@dataclass(frozen=True)
class Secret:
    """`whsec_` and base64. `until` (epoch seconds) is when a replaced one ends. `request` tells the rotation that made
    it, where that had an Idempotency-Key."""

    secret: str
    created_at: str
    until: float | None = None
    request: str | None = None


class TooManyRotations(Exception):
    """Others were rotating at the same time, again and again."""


def read(account: str, now: float) -> tuple[Secret, ...]:
    """The secrets that are good now, the current one first; empty while none was made."""
    return good(_known(account), now)


def rotate(account: str, now: float, *, idempotency_key: str | None = None) -> tuple[tuple[Secret, ...], bool]:
    """Make a new secret, the first or the next; all that are good then, and whether this was a repeat.

    Raises TooManyRotations.
    """
    request = ids.derived("rotation", account, idempotency_key) if idempotency_key else None
    for _ in range(ATTEMPTS):
        written = _known(account)
        known = good(written, now)
        if request and any(secret.request == request for secret in known):
            return known, True
        made = Secret("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode(), iso(now), None, request)
        rotated = rotation(known, made, now + settings().scaled(OVERLAP_S))
        try:
            _write(account, written, rotated)
        except Refused:
            continue
        return rotated, False
    raise TooManyRotations


def good(known: Sequence[Secret], now: float) -> tuple[Secret, ...]:
    """Those that have not ended."""
    return tuple(secret for secret in known if secret.until is None or now < secret.until)


def rotation(known: Sequence[Secret], made: Secret, until: float) -> tuple[Secret, ...]:
    """The new secret, and those before it with their ends."""
    ending = [Secret(old.secret, old.created_at, min(old.until or until, until), old.request) for old in known]
    return (made, *ending[: MOST - 1])


def _write(account: str, before: Sequence[Secret], secrets_: Sequence[Secret]) -> None:
    """Write them. Raises Refused if somebody has rotated since."""
    write = dynamo.change(
        settings().access_table,
        {"id": f"account#{account}"},
        "SET callback_secrets = :secrets",
        when="callback_secrets = :before" if before else "attribute_not_exists(callback_secrets)",
        values={"secrets": _items(secrets_), **({"before": _items(before)} if before else {})},
    )
    dynamo.update(write)


def _known(account: str) -> tuple[Secret, ...]:
    """What is written, also what has ended."""
    key = f"account#{account}"
    item = dynamo.get_all(settings().access_table, [key], attributes_of=("id", "callback_secrets")).get(key, {})
    return tuple(Secret(**secret) for secret in item.get("callback_secrets", ()))


def _items(secrets_: Sequence[Secret]) -> list[Item]:
    return [{name: value for name, value in asdict(secret).items() if value is not None} for secret in secrets_]
