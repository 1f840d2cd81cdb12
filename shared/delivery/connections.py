"""The connections table: tickets, the connections that were made with them, and which of those an account has.

    id                        item
    ticket#<name>             a ticket for one connection: its hash, who asked for it, spent_at
    connection#<id>           whose the connection is
    account#<account>         the account's connections, by id, in one map, so that an event needs one read

Every item has a TTL. What is in the map is not certain to be there still: whoever sends finds out, and forgets it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from shared.core import dynamo, ids
from shared.core.dynamo import Refused, Write
from shared.core.errors import Unavailable
from shared.core.settings import settings

TICKET_S = 60
LONGEST_S = 2 * 3600
"""API Gateway ends every connection after two hours."""
MOST = 20
"""Connections of an account; whoever makes one more loses the oldest."""
ATTEMPTS = 10

TICKET = re.compile(rf"(ticket_[{ids.ALPHABET}]{{{ids.LENGTH}}})_[0-9a-f]{{64}}")
# A repeated request gets the ticket that it got, as long as that is valid.
NO_SUCH_TICKET = "attribute_not_exists(id) OR expires_at <= :now"
STILL_GOOD = "attribute_not_exists(spent_at) AND expires_at > :now AND #hash = :hash"


@dataclass(frozen=True)
class Holder:
    """Who asked for a ticket, when, and with which credential (of `shared.core.auth.Caller`), which ends then."""

    account: str
    credential: str
    is_key: bool
    asked_at: float
    ends_at: float


@dataclass(frozen=True)
class Connection:
    """An open connection, and for how long we keep it at the most."""

    id: str
    account: str
    credential: str
    is_key: bool
    asked_at: float
    opened_at: float
    ends_at: float

    @staticmethod
    def of(item: Mapping[str, Any]) -> "Connection":
        return Connection(**{name: item[name] for name in Connection.__dataclass_fields__})


@dataclass(frozen=True)
class Ticket:
    """A ticket, until when it is valid, and whether it is that of the same request before."""

    text: str
    expires_at: int
    replayed: bool


def issue(holder: Holder, *, idempotency_key: str | None) -> Ticket:
    """A ticket for one connection. Of it the table has only the hash, and a salt: who knows the Idempotency-Key can be
    told the same ticket again."""
    asked = int(holder.asked_at)
    key = idempotency_key or secrets.token_hex(32)
    name = ids.derived("ticket", holder.account, key) if idempotency_key else ids.new("ticket")
    salt = secrets.token_hex(32)
    text = _spell(name, salt, key)
    write = dynamo.change(
        settings().connections_table,
        {"id": f"ticket#{name}"},
        "SET holder = :holder, #hash = :hash, salt = :salt, expires_at = :expires REMOVE spent_at",
        when=NO_SUCH_TICKET,
        names={"#hash": "hash"},
        values={
            "holder": asdict(holder),
            "hash": _digest(text),
            "salt": salt,
            "expires": asked + TICKET_S,
            "now": asked,
        },
    )
    try:
        dynamo.update(write)
    except Refused as refused:
        met = refused.found[0] or {}
        return Ticket(_spell(name, met["salt"], key), met["expires_at"], replayed=True)
    return Ticket(text, asked + TICKET_S, replayed=False)


def holder(text: str, now: float) -> Holder | None:
    """Who was given this ticket; None for one that is not ours, was used or is too old."""
    found = TICKET.fullmatch(text)
    item = dynamo.get(settings().connections_table, {"id": f"ticket#{found[1]}"}) if found else None
    if item is None or not hmac.compare_digest(item["hash"], _digest(text)):
        return None
    if "spent_at" in item or item["expires_at"] <= now:
        return None
    return Holder(**item["holder"])


class Spent(Exception):
    """Somebody else was faster with this ticket, or it has just expired."""


def add(connection_id: str, text: str, holder: Holder, now: float) -> list[Connection]:
    """Spend the ticket on this connection; those that the account has lost by it. Raises Spent, and Unavailable when
    too many come at once."""
    ends_at = min(now + LONGEST_S, holder.ends_at)
    told = {name: value for name, value in asdict(holder).items() if name != "ends_at"}
    connection = Connection(id=connection_id, opened_at=now, ends_at=ends_at, **told)
    for _ in range(ATTEMPTS):
        known = _roster(holder.account)
        lost = _surplus(list(known.values()), now) if known is not None else []
        writes = [_spend(text, now), _record(connection), _enter(connection, known, lost)]
        try:
            dynamo.transact(writes)
        except Refused as refused:
            if refused.refusals[0]:
                raise Spent from refused
            continue
        return lost
    raise Unavailable("Too many connections are made at once; try again.", code="busy", retry_after=1)


def of_account(account: str) -> list[Connection]:
    """The account's connections, as far as is known."""
    return list((_roster(account) or {}).values())


def get(connection_id: str) -> Connection | None:
    """The connection, if we know it."""
    item = dynamo.get(settings().connections_table, {"id": f"connection#{connection_id}"})
    return Connection.of(item["connection"]) if item else None


def forget(account: str, connection_id: str) -> None:
    """The connection is there no more."""
    leave = dynamo.change(
        settings().connections_table,
        {"id": f"account#{account}"},
        "REMOVE connections.#id",
        when="attribute_exists(connections.#id)",
        values={},
        names={"#id": connection_id},
    )
    with suppress(Refused):
        dynamo.update(leave)
    key = dynamo.attributes({"id": f"connection#{connection_id}"})
    dynamo.transact([{"Delete": {"TableName": settings().connections_table, "Key": key}}])


def _spell(name: str, salt: str, key: str) -> str:
    return f"{name}_{hmac.digest(bytes.fromhex(salt), key.encode(), 'sha256').hex()}"


def _digest(text: str) -> str:
    """What is kept of a ticket. It has 256 bits of chance, so a plain hash tells nothing of it."""
    return hashlib.sha256(text.encode()).hexdigest()


def _roster(account: str) -> dict[str, Connection] | None:
    """The account's connections by id; None while it has never had one."""
    item = dynamo.get(settings().connections_table, {"id": f"account#{account}"})
    return {name: Connection.of(told) for name, told in item["connections"].items()} if item else None


def _surplus(known: Sequence[Connection], now: float) -> list[Connection]:
    """Those that make room for one more: all that have ended, and the oldest beyond the number that is allowed."""
    ended = [connection for connection in known if connection.ends_at <= now]
    living = sorted((each for each in known if each.ends_at > now), key=lambda each: each.opened_at)
    return ended + living[: max(0, len(living) - (MOST - 1))]


def _spend(text: str, now: float) -> Write:
    return dynamo.change(
        settings().connections_table,
        {"id": f"ticket#{text.rpartition('_')[0]}"},
        "SET spent_at = :now",
        when=STILL_GOOD,
        names={"#hash": "hash"},
        values={"now": now, "hash": _digest(text)},
    )


def _record(connection: Connection) -> Write:
    key = f"connection#{connection.id}"
    return dynamo.put(
        settings().connections_table,
        {"id": key, "connection": asdict(connection), "expires_at": _expiry(connection)},
    )


def _enter(connection: Connection, known: Mapping[str, Connection] | None, lost: Sequence[Connection]) -> Write:
    """The map with one more, and without those that are lost, if it is still as large as it was."""
    table, key = settings().connections_table, {"id": f"account#{connection.account}"}
    expires = _expiry(connection)
    if known is None:
        return dynamo.put(table, {**key, "connections": {connection.id: asdict(connection)}, "expires_at": expires})
    leaving = {f"#lost{number}": each.id for number, each in enumerate(lost)}
    return dynamo.change(
        table,
        key,
        "SET connections.#new = :new, expires_at = :expires"
        + (" REMOVE " + ", ".join(f"connections.{name}" for name in leaving) if leaving else ""),
        when="size(connections) = :known",
        names={"#new": connection.id, **leaving},
        values={"new": asdict(connection), "expires": expires, "known": len(known)},
    )


def _expiry(connection: Connection) -> int:
    # Not that of its credential: the map must outlive the other connections in it.
    return int(connection.opened_at) + LONGEST_S + 60
