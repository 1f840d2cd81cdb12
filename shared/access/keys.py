"""API keys: made, listed, deleted, replaced. Nothing here can tell a key again once its answer was given, but for the
repeat of the very request that made it, within a day.

A key is an item of the access table, `key#<name>` (see shared/core/standing.py). Its secret follows from a random salt
that is kept and a pepper that is not (shared/core/api_keys.py). A deleted key leaves its name behind until it would
have expired, so that no repeated request brings it back.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Any

from shared.access import once
from shared.core import api_keys, dynamo, ids, standing, web
from shared.core import secrets as stored
from shared.core.auth import Caller
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused
from shared.core.errors import Conflict, Forbidden, Invalid, NotFound
from shared.core.settings import settings

REPEATABLE_S = 24 * 3600
DAY_S = 24 * 3600

# Of its account, and neither deleted nor replaced meanwhile.
STILL_THERE = "account = :account AND attribute_exists(created)"
NOT_REPLACED = f"{STILL_THERE} AND attribute_not_exists(rotated_to)"


@dataclass(frozen=True)
class Key:
    """An API key without its secret. `lifetime_s` is what a key in its place gets as well."""

    name: str
    account: str
    label: str
    scopes: tuple[str, ...]
    issued_at: float
    expires_at: int
    lifetime_s: int
    salt: str
    hash: str
    request_hash: str
    last_used_at: float | None = None
    rotated_to: str | None = None

    @property
    def id(self) -> str:
        """Its id in the API."""
        return f"key_{self.name}"

    def item(self) -> Item:
        """The item to write."""
        kept = {name: value for name, value in vars(self).items() if name != "last_used_at" and value is not None}
        return {
            "id": standing.key_id(self.name),
            **kept,
            "scopes": list(self.scopes),
            "created": f"{iso(self.issued_at)}#{standing.key_id(self.name)}",
        }

    @staticmethod
    def of(item: Item) -> "Key":
        fields: dict[str, Any] = {name: item.get(name) for name in Key.__dataclass_fields__}
        return Key(**{**fields, "scopes": tuple(item["scopes"])})


@dataclass(frozen=True)
class Made:
    """A key, its secret (told this once), and whether this is the answer to a repeated request."""

    key: Key
    secret: str
    replayed: bool


def create(
    caller: Caller, *, label: str, scopes: tuple[str, ...], days: int, idempotency_key: str | None, now: float
) -> Made:
    """A new key. Raises Forbidden for scopes that the caller has not, Invalid for a key that makes one which outlives
    it, Conflict for the repeat of a request whose answer cannot be given again."""
    _within(caller, scopes)
    expires = int(now) + days * DAY_S
    if caller.is_key and expires > caller.expires_at:
        flaw = {"pointer": "/expires_in_days", "detail": "a key cannot make one that outlives it"}
        raise Invalid("The request is not valid.", errors=[flaw])
    key = Key(
        name=_name(caller, "create", idempotency_key),
        account=caller.account,
        label=label,
        scopes=scopes,
        issued_at=now,
        expires_at=expires,
        lifetime_s=days * DAY_S,
        salt=secrets.token_hex(16),
        hash="",
        request_hash=once.fingerprint([label, sorted(scopes), days]),
    )
    return _make(key, also=[], now=now)


def rotate(caller: Caller, name: str, *, overlap_s: int, idempotency_key: str | None, now: float) -> Made:
    """A key like the one of this name, which itself ends after the overlap. Raises NotFound, Forbidden, and Conflict
    for a key that was replaced already."""
    fresh_name = _name(caller, f"rotate {name}", idempotency_key)
    # The answer may have to be repeated when the old key is there no more.
    old = _find(caller.account, name) or (_find(caller.account, fresh_name) if idempotency_key else None)
    if old is None:
        raise NotFound("There is no such API key.")
    _within(caller, old.scopes)
    fresh = replace(
        old,
        name=fresh_name,
        issued_at=now,
        expires_at=int(now) + old.lifetime_s,
        salt=secrets.token_hex(16),
        request_hash=once.fingerprint([name, overlap_s]),
        rotated_to=None,
    )
    retired = dynamo.change(
        settings().access_table,
        {"id": standing.key_id(name)},
        "SET expires_at = :ends, rotated_to = :fresh",
        when=f"{NOT_REPLACED} AND expires_at > :now",
        values={
            "account": caller.account,
            "ends": min(old.expires_at, int(now) + overlap_s),
            "fresh": fresh.id,
            "now": int(now),
        },
    )
    try:
        return _make(fresh, also=[retired], now=now)
    finally:
        standing.forget(standing.key_id(name))


def delete(account: str, name: str, now: float) -> None:
    """Refuse the key from now on and take it off the list. Raises NotFound."""
    revoke(account, name, idempotency_key=None, now=now)


def revoke(account: str, name: str, *, idempotency_key: str | None, now: float) -> tuple[Item, bool]:
    """Delete the key; the answer, and whether it is a repeated one. Raises NotFound."""
    write = dynamo.change(
        settings().access_table,
        {"id": standing.key_id(name)},
        "SET deleted_at = :now REMOVE created, #hash, salt",
        when=STILL_THERE,
        names={"#hash": "hash"},
        values={"account": account, "now": iso(now)},
    )
    answer = {"revoked": "api_key", "effective_within_s": standing.MAX_AGE_S}
    try:
        return once.commit(
            account, "revoke", idempotency_key, request=["key", name], answer=answer, writes=[write], now=now
        )
    except Refused:
        raise NotFound("There is no such API key.") from None
    finally:
        standing.forget(standing.key_id(name))


def page(account: str, *, limit: int, cursor: str | None, now: float) -> tuple[list[Key], str | None]:
    """The account's keys that open something, newest first, and the cursor of the next page."""
    items, following = dynamo.page(
        settings().access_table,
        partition=("account", account),
        sort=("created", ""),
        index="by_account",
        limit=limit,
        cursor=cursor,
        also_key="id",
    )
    known = standing.of_account(account)
    keys = [Key.of(item) for item in items]
    return [key for key in keys if key.expires_at > now and known.holds(key.issued_at)], following


def _within(caller: Caller, scopes: tuple[str, ...]) -> None:
    missing = sorted(set(scopes) - caller.scopes)
    if missing:
        raise Forbidden(f"Who has not the scope '{missing[0]}' cannot give it.")


def _name(caller: Caller, operation: str, idempotency_key: str | None) -> str:
    made = ids.derived("key", caller.account, operation, idempotency_key) if idempotency_key else ids.new("key")
    return made.removeprefix("key_")


def _find(account: str, name: str) -> Key | None:
    item = dynamo.get(settings().access_table, {"id": standing.key_id(name)})
    return Key.of(item) if item and item["account"] == account and "created" in item else None


def _make(key: Key, *, also: list[dynamo.Write], now: float) -> Made:
    pepper = stored.text(settings().api_keys_secret)
    secret = api_keys.spell(key.name, salt=key.salt, pepper=pepper)
    key = replace(key, hash=api_keys.digest(secret))
    try:
        dynamo.transact([dynamo.put(settings().access_table, key.item()), *also])
    except Refused as refused:
        if not refused.refusals[0]:
            raise Conflict("This API key was replaced already, or has ended.", code="already_rotated") from refused
        return _repeated(key, refused.found[0] or {}, pepper, now)
    return Made(key, secret, replayed=False)


def _repeated(wanted: Key, met: Item, pepper: str, now: float) -> Made:
    """The answer of the request that has made the key before."""
    if met.get("request_hash") != wanted.request_hash or met.get("account") != wanted.account:
        raise web.key_reused()
    if "created" not in met or now - met["issued_at"] > REPEATABLE_S:
        raise Conflict("The key that this request has made is told no more.", code="secret_not_repeatable")
    known = Key.of(met)
    secret = api_keys.spell(known.name, salt=known.salt, pepper=pepper)
    if not api_keys.is_of(secret, known.hash):
        raise Conflict("The key that this request has made is told no more.", code="secret_not_repeatable")
    return Made(known, secret, replayed=True)
