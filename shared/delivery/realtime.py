"""Realtime: every change of a job is told to the WebSocket connections of its account, and a connection may ask for the
state of all that is under way (docs/REALTIME.md).

A connection gets every change that follows its opening, or it is closed: one that does not take a message within a
second is forgotten, so that nobody else waits for it again. Its client comes back with a new ticket and syncs.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import aws, limits, standing
from shared.core.clock import now as current_time
from shared.core.errors import RateLimited, Unauthorized
from shared.core.log import about, count, logger
from shared.delivery import connections
from shared.delivery.connections import Connection, Holder, Spent
from shared.jobs import unfinished
from shared.jobs.table import Job
from shared.jobs.view import JobView

LARGEST_MESSAGE = 30_000
"""Bytes of what we send: API Gateway meters 32 KB, and that is the largest frame it takes."""
LARGEST_REQUEST = 1_000
OPENING_S = 30
"""For so long after its ticket was taken a connection that cannot be reached may be one that is only just opening."""

SYNC, PING = "sync", "ping"

Json = dict[str, Any]


def push(old: Job | None, new: Job | None) -> None:
    """Tell the account's connections of a change of its job, of which these are the images."""
    if new is None or (old is not None and old.seq == new.seq):
        return
    with about(new.id, new.request_id):
        held = [each for each in connections.of_account(new.account) if _holds(each)]
        if held:
            _send_all(held, update(new))


def update(job: Job) -> str:
    """The message of a change."""
    return _text({"type": "job.updated", **_state(job)})


def states(jobs: Iterable[Job]) -> Iterator[str]:
    """The messages of a sync, each as large as one may be; only the last says so."""
    page: list[Json] = []
    size = 0
    for job in jobs:
        state = _state(job)
        length = len(_text(state).encode()) + 1
        if page and size + length > LARGEST_MESSAGE:
            yield _text({"type": SYNC, "jobs": page, "last": False})
            page, size = [], 0
        page.append(state)
        size += length
    yield _text({"type": SYNC, "jobs": page, "last": True})


def admit(connection_id: str, ticket: str, address: str) -> None:
    """Record a connection that comes with this ticket. Raises Unauthorized for a ticket that is not good (any more),
    RateLimited for an address that tries too often, Unavailable."""
    bucket, rule = limits.of_address(address, "open")
    verdict = limits.take(bucket, rule)
    if verdict is not None and not verdict.allowed:
        raise RateLimited(limit=rule.name, retry_after=verdict.reset_s)
    now = current_time()
    holder = connections.holder(ticket, now)
    if holder is None or not _is_good(holder, now):
        raise Unauthorized("A valid ticket is needed.")
    try:
        lost = connections.add(connection_id, ticket, holder, now)
    except Spent:
        raise Unauthorized("A valid ticket is needed.") from None
    logger.info("connected", account=holder.account, connection=connection_id)
    for each in lost:
        if each.ends_at > now:
            _post(each, _text({"type": "closing", "code": "too_many_connections"}))
        _close(each)


def leave(connection_id: str) -> None:
    """The connection was closed."""
    connection = connections.get(connection_id)
    if connection is not None:
        connections.forget(connection.account, connection_id)
        logger.info("disconnected", account=connection.account, connection=connection_id)


def answer(connection_id: str, body: str) -> None:
    """Answer what a client has sent. One that we do not know, or whose credential is no longer good, is closed."""
    connection = connections.get(connection_id)
    if connection is None:
        _hang_up(connection_id)
        return
    logger.append_keys(account=connection.account)
    if not _holds(connection):
        return
    known = standing.of_account(connection.account)
    bucket, rule = limits.of_account(connection.account, known.plan, "read")
    verdict = limits.take(bucket, rule)
    if verdict is not None and not verdict.allowed:
        count("RateLimited", limit=rule.name)
        _post(connection, _text(error("rate_limited", "Too many messages.") | {"retry_after": verdict.reset_s}))
        return
    for text in _replies(connection.account, body):
        if not _post(connection, text):
            return


def error(code: str, detail: str) -> Json:
    """The message that something was not understood, or not done."""
    return {"type": "error", "code": code, "detail": detail}


def apologize(connection_id: str) -> None:
    """Say that a message was not answered, if that can be said."""
    connection = connections.get(connection_id)
    if connection is not None:
        _post(connection, _text(error("internal_error", "Something went wrong here; nothing was lost.")))


def _replies(account: str, body: str) -> Iterator[str]:
    match _action(body):
        case "ping":
            yield _text({"type": "pong"})
        case "sync":
            yield from states(unfinished.of_account(account))
        case dict() as problem:
            yield _text(problem)


def _action(body: str) -> str | Json:
    """What is asked for, or the message that it was not understood."""
    if len(body.encode("utf-8", "surrogatepass")) > LARGEST_REQUEST:
        return error("too_large", f"A message may have {LARGEST_REQUEST} bytes.")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return error("malformed_json", "The message is not valid JSON.")
    action = request.get("action") if isinstance(request, dict) else None
    if action not in (SYNC, PING):
        return error("unknown_action", f"The actions are {SYNC} and {PING}.")
    return str(action)


def _state(job: Job) -> Json:
    """The job as the API shows it. Metadata that would not fit into a message is left out (null): the job has it."""
    view = JobView.of(job).model_dump(mode="json")
    if len(_text(view).encode()) > LARGEST_MESSAGE - 100:
        view["metadata"] = None
    return {"job": view, "seq": job.seq}


def _holds(connection: Connection) -> bool:
    """Whether the connection may hear anything. One that has ended, or whose credential was revoked, is closed."""
    now = current_time()
    if connection.ends_at > now and _is_good(connection, now):
        return True
    logger.info("connection closed: its credential is no longer good", connection=connection.id)
    _close(connection)
    return False


def _is_good(holder: Holder | Connection, now: float) -> bool:
    """Whether the credential that a ticket was asked for with still lets in."""
    # What was asked for just after a revocation may have been granted from memory.
    surely_known = holder.asked_at - standing.MAX_AGE_S
    if holder.is_key:
        key = standing.of_key(holder.credential)
        known = standing.of_account(holder.account)
        return bool(key and "hash" in key and key["expires_at"] > now) and known.holds(surely_known)
    known, revoked = standing.of_token(holder.account, holder.credential)
    return not revoked and known.holds(surely_known)


def _send_all(to: list[Connection], text: str) -> None:
    if len(to) == 1:
        _post(to[0], text)
        return
    with ThreadPoolExecutor(len(to)) as pool:
        list(pool.map(lambda connection: _post(connection, text), to))


def _post(connection: Connection, text: str) -> bool:
    """Send it; whether that went well. A connection that is gone is forgotten, one that fails is closed as well."""
    try:
        aws.sockets().post_to_connection(ConnectionId=connection.id, Data=text.encode())
    except (ClientError, BotoCoreError) as problem:
        gone = isinstance(problem, ClientError) and problem.response["Error"]["Code"] == "GoneException"
        if gone and current_time() - connection.opened_at < OPENING_S:
            logger.info("connection is not open yet", connection=connection.id)
            return False
        logger.info("connection lost", connection=connection.id, reason=str(problem))
        if gone:
            count("ConnectionGone")
            connections.forget(connection.account, connection.id)
        else:
            count("ConnectionFailed")
            _close(connection)
        return False
    return True


def _close(connection: Connection) -> None:
    connections.forget(connection.account, connection.id)
    _hang_up(connection.id)


def _hang_up(connection_id: str) -> None:
    try:
        aws.sockets().delete_connection(ConnectionId=connection_id)
    except (ClientError, BotoCoreError) as problem:
        logger.info("connection was closed already", connection=connection_id, reason=str(problem))


def _text(message: Json) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
