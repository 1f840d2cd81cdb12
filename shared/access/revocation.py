"""Revoking: one token until it would have expired, or everything that an account was ever issued."""

from typing import Any

from shared.access import once
from shared.core import dynamo, standing
from shared.core.dynamo import Item, Refused, Write
from shared.core.settings import settings

LONGEST_S = 366 * 24 * 3600
"""A token that is valid for longer is revoked for so long only; no sane issuer makes one."""

# A later revocation has voided all of it already.
NOT_LATER = "attribute_not_exists(tokens_valid_after) OR tokens_valid_after <= :now"


def revoke_token(
    account: str, token: str, *, by: str, expires_at: float, idempotency_key: str | None, now: float
) -> tuple[Item, bool]:
    """Refuse the account's token from now on; the answer, and whether it is a repeated one. `by` is who asks."""
    expires = int(min(expires_at, now + LONGEST_S))
    item_id = standing.token_id(account, token)
    write = dynamo.change(
        settings().access_table,
        {"id": item_id},
        "SET account = :account, expires_at = :expires",
        # A second revocation may make it longer, never shorter.
        when="attribute_not_exists(expires_at) OR expires_at <= :expires",
        values={"account": account, "expires": expires},
    )
    request = ["token", account, token, expires]
    return _commit(write, item_id, by=by, what="token", request=request, idempotency_key=idempotency_key, now=now)


def revoke_all(account: str, *, by: str, idempotency_key: str | None, now: float) -> tuple[Item, bool]:
    """Refuse everything the account was issued until now, tokens and API keys; as `revoke_token`."""
    item_id = standing.account_id(account)
    write = dynamo.change(
        settings().access_table,
        {"id": item_id},
        "SET account = :account, tokens_valid_after = :now",
        when=NOT_LATER,
        values={"account": account, "now": now},
    )
    request = ["account", account]
    return _commit(write, item_id, by=by, what="account", request=request, idempotency_key=idempotency_key, now=now)


def set_plan(account: str, plan: str) -> None:
    """Count the account's requests by this plan from now on."""
    dynamo.update(
        dynamo.change(
            settings().access_table,
            {"id": standing.account_id(account)},
            "SET account = :account, #plan = :plan",
            when="attribute_not_exists(account) OR account = :account",
            names={"#plan": "plan"},
            values={"account": account, "plan": plan},
        )
    )
    standing.forget(standing.account_id(account))


def _commit(
    write: Write, item_id: str, *, by: str, what: str, request: list[Any], idempotency_key: str | None, now: float
) -> tuple[Item, bool]:
    answer = {"revoked": what, "effective_within_s": standing.MAX_AGE_S}
    try:
        return once.commit(by, "revoke", idempotency_key, request=request, answer=answer, writes=[write], now=now)
    except Refused:
        # It was revoked already, and for longer: that is what was asked for.
        return answer, False
    finally:
        standing.forget(item_id)
