"""Who is doing what is being done: told once at the edge of each function, written on every item that it changes.

    with as_actor("system:sweeper", request_id=context.aws_request_id):
        ...

`shared/core/dynamo` writes it as `changed_by`; the audit reads it from the tables' streams.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """`name` is an account (`alice`, with an API key `alice/…`), `webhook:replicate`, or a part of ours such as
    `system:workflow`: no account has a colon. `address` is the IP address of whoever sent the request, if anybody did.
    """

    name: str
    address: str = ""
    request_id: str = ""


UNKNOWN = Actor("system:unknown")

_actor: ContextVar[Actor] = ContextVar("actor", default=UNKNOWN)


def acting() -> Actor:
    """Who is acting in this context; UNKNOWN where nobody has said."""
    return _actor.get()


@contextmanager
def as_actor(name: str, *, address: str = "", request_id: str = "") -> Iterator[Actor]:
    """Within the block, this is who does what is done."""
    actor = Actor(name, address, request_id)
    before = _actor.set(actor)
    try:
        yield actor
    finally:
        _actor.reset(before)
