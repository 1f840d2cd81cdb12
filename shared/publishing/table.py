"""The publications table: one item a publication, and every change of it under the condition that makes it safe to
repeat.

Two indexes, as the jobs table has them: `by_account` (account, created) for lists, `unfinished` (open_shard, sweep_at)
for the sweeper. Beside them `post#…`: which publication a post of Postiz belongs to, so that none belongs to two.
"""

import json
import zlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from shared.core import aws, dynamo, ids
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused, Write
from shared.core.settings import settings
from shared.providers.outcomes import Failure
from shared.publishing.postiz import Draft, Media
from shared.publishing.status import TERMINAL, UNFINISHED, ChannelState, Mode, Status, before

SHARDS = 4
KEEP_TERMINAL_S = 400 * 24 * 3600
SWEEP_AFTER_S = 60
"""How long a step may take before the sweeper looks whether somebody still works on it."""

# As for jobs: `open` from before Postiz is called until the outcome is written, `unknown` when the answer was lost.
Attempt = Literal["open", "unknown", "none"]


@dataclass(frozen=True)
class Target:
    """A channel of a publication, and what has become of its post; `settings` is the JSON that the network wants."""

    id: str
    name: str
    platform: str
    settings: str = "{}"
    state: ChannelState = "pending"
    post_id: str | None = None
    url: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Publication:
    """A publication as the table has it. Times `*_at` are epoch seconds, except created_at and updated_at (RFC 3339).

    `give_up_at` is when no further attempt to create its posts is made. `attempts` counts create attempts, `tries`
    every try that has come to nothing since the last success. `seq` counts the changes.
    """

    id: str
    account: str
    asset_id: str
    asset_key: str
    content_type: str
    mode: Mode
    publish_at: float
    content: str
    channels: tuple[Target, ...]
    status: Status
    request_hash: str
    created_at: str
    updated_at: str
    accepted_at: float
    give_up_at: float
    request_id: str
    media: Media | None = None
    attempts: int = 0
    attempt: Attempt = "none"
    attempt_at: float = 0
    claim: str | None = None
    tries: int = 0
    cancel_requested_at: float | None = None
    error: Failure | None = None
    executions: int = 0
    seq: int = 0

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def states(self) -> list[ChannelState]:
        return [channel.state for channel in self.channels]

    def posts(self) -> dict[str, str]:
        """The posts that are known to exist, by channel."""
        return {channel.id: channel.post_id for channel in self.channels if channel.post_id}

    def wanted(self) -> list[Draft]:
        """The posts that are not known to exist."""
        return [
            Draft(channel.id, channel.platform, self.content, json.loads(channel.settings))
            for channel in self.channels
            if channel.state == "pending"
        ]

    @staticmethod
    def of(item: Item) -> "Publication":
        values = {name: item[name] for name in Publication.__dataclass_fields__ if name in item}
        values["channels"] = tuple(Target(**channel) for channel in item["channels"])
        if "media" in values:
            values["media"] = Media(**values["media"])
        if "error" in values:
            values["error"] = Failure(**values["error"])
        return Publication(**values)

    def item(self) -> Item:
        """The item of a new publication, with the keys of both indexes."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return {
            **values,
            "channels": _channels(self.channels),
            "created": f"{self.created_at}#{self.id}",
            "open_shard": shard(self.id),
            "sweep_at": self.accepted_at + settings().scaled(SWEEP_AFTER_S),
        }


def shard(publication_id: str) -> str:
    """The partition of the `unfinished` index that the publication is in."""
    return f"open#{zlib.crc32(publication_id.encode()) % SHARDS}"


def create(publication: Publication) -> Write:
    """A transaction's write of a new publication; refused where it exists (a repeated Idempotency-Key)."""
    return dynamo.put(settings().publications_table, publication.item())


def get(publication_id: str) -> Publication | None:
    """The publication as it is now."""
    item = dynamo.get(settings().publications_table, {"id": publication_id})
    return Publication.of(item) if item and "status" in item else None


def page(
    account: str, *, limit: int, cursor: str | None, asset_id: str | None, status: str | None
) -> tuple[list[Publication], str | None]:
    """A page of the account's publications, newest first."""
    wanted = {name: value for name, value in (("asset_id", asset_id), ("status", status)) if value}
    items, after = dynamo.page(
        settings().publications_table,
        index="by_account",
        partition=("account", account),
        sort=("created", ""),
        also_key="id",
        limit=limit,
        cursor=cursor,
        where=wanted,
    )
    return [Publication.of(item) for item in items], after


def record_media(publication: Publication, media: Media, now: float) -> Publication:
    """Write what was uploaded. Raises Refused when the publication is over or has a file already."""
    return _change(
        publication.id,
        "SET media = :media, tries = :zero",
        "#status = :queued AND attribute_not_exists(media)",
        now=now,
        media=vars(media),
        queued="queued",
        zero=0,
    )


def note_try(publication: Publication, now: float, *, wait: int) -> Publication:
    """Count a try that has come to nothing. Raises Refused when somebody else has changed it or it is over."""
    return _change(
        publication.id,
        "SET tries = tries + :one",
        "seq = :seq AND attribute_exists(sweep_at)",
        now=now,
        wait=wait,
        seq=publication.seq,
    )


def claim_attempt(publication: Publication, now: float) -> Publication:
    """queued | submitting → submitting, one create attempt more. Raises Refused if somebody else has claimed it.

    As for a job, every claim has a name: botocore repeats a write whose answer was lost, and the repeat must not take
    the claim that it meets for another's.
    """
    claim = ids.new("claim")
    try:
        return _change(
            publication.id,
            "SET #status = :submitting, attempts = :next, attempt = :open, attempt_at = :now, claim = :claim",
            "attempts = :attempts AND seq = :seq AND #status IN (:queued, :submitting) AND attribute_exists(media)",
            now=now,
            submitting="submitting",
            queued="queued",
            next=publication.attempts + 1,
            attempts=publication.attempts,
            seq=publication.seq,
            open="open",
            claim=claim,
        )
    except Refused as refused:
        found = met(refused)
        if found is not None and (found.claim, found.attempt) == (claim, "open"):
            return found
        raise


def end_attempt(publication: Publication, attempt: Attempt, now: float, *, wait: int) -> Publication:
    """The attempt has created nothing (`none`), or nobody knows (`unknown`). Raises Refused when it is over."""
    return _change(
        publication.id,
        "SET attempt = :attempt, tries = tries + :one",
        "#status = :submitting AND attempts = :attempts",
        now=now,
        wait=wait,
        attempt=attempt,
        attempts=publication.attempts,
        submitting="submitting",
    )


# Another change in between may know more of the channels than we do.
UNCHANGED = "seq = :seq"


def adopt(publication: Publication, made: dict[str, str], status: Status, now: float) -> Publication:
    """The posts of these channels are known; `status` is what that makes of the publication.

    Raises Refused when somebody else has changed it, or a post is another publication's.
    """
    channels = tuple(
        replace(channel, state="draft" if publication.mode == "draft" else "queued", post_id=made[channel.id])
        if channel.id in made
        else channel
        for channel in publication.channels
    )
    complete = all(channel.post_id for channel in channels)
    write = _written(
        publication,
        "SET #status = :status, channels = :channels, attempt = :attempt, tries = :zero",
        status,
        now,
        channels=_channels(channels),
        attempt="none" if complete else publication.attempt,
        zero=0,
    )
    dynamo.transact([write, *(_claim_post(post_id, publication.id) for post_id in made.values())])
    return replace(
        publication,
        channels=channels,
        status=status,
        attempt="none" if complete else publication.attempt,
        tries=0,
        updated_at=iso(now),
        seq=publication.seq + 1,
    )


def record_channels(
    publication: Publication,
    channels: tuple[Target, ...],
    status: Status,
    now: float,
    *,
    wait: int = 0,
    failure: Failure | None = None,
) -> Publication:
    """Write what is known of the posts; `failure` is why, for a publication that fails with it. Raises Refused when
    somebody else has changed the publication."""
    error = (failure or _failure(channels)) if status == "failed" else None
    write = _written(
        publication,
        "SET #status = :status, channels = :channels, attempt = :none, tries = :zero"
        + (", #error = :error" if error else ""),
        status,
        now,
        wait=wait,
        names={"#error": "error"} if error else {},
        channels=_channels(channels),
        none="none",
        zero=0,
        **({"error": vars(error)} if error else {}),
    )
    return Publication.of(dynamo.update(write))


def request_cancel(publication: Publication, now: float) -> Publication:
    """Remember that the caller wants it taken back. Raises Refused when it has changed meanwhile."""
    return _change(
        publication.id,
        "SET cancel_requested_at = if_not_exists(cancel_requested_at, :now)",
        "seq = :seq AND attribute_exists(sweep_at)",
        now=now,
        seq=publication.seq,
    )


def due(shard_name: str, now: float, *, limit: int) -> list[str]:
    """Ids of unfinished publications that nobody has reported on for a while, the longest-waiting first."""
    answer = aws.dynamodb().query(
        TableName=settings().publications_table,
        IndexName="unfinished",
        KeyConditionExpression="open_shard = :shard AND sweep_at <= :now",
        ExpressionAttributeValues=dynamo.attributes({":shard": shard_name, ":now": now}),
        Limit=limit,
    )
    return [str(dynamo.plain(item)["id"]) for item in answer["Items"]]


def claim_sweep(publication_id: str, now: float, *, wait: int) -> Publication:
    """Claim the publication for this sweep. Raises Refused if another sweep was faster or it is over."""
    return _change(publication_id, "SET swept_at = :now", "sweep_at <= :now", now=now, wait=wait)


def next_execution(publication: Publication, now: float) -> Publication:
    """Count one execution more, whose name is then free. Raises Refused if somebody else has."""
    return _change(
        publication.id,
        "SET executions = :next",
        "executions = :executions AND attribute_exists(sweep_at)",
        now=now,
        next=publication.executions + 1,
        executions=publication.executions,
    )


def others_posts(post_ids: list[str], publication_id: str) -> set[str]:
    """Those of the posts that belong to another publication."""
    keys = [{"id": f"post#{post_id}"} for post_id in post_ids[:100]]
    found = dynamo.many(settings().publications_table, keys)
    return {item["id"].removeprefix("post#") for item in found if item["publication"] != publication_id}


def met(refused: Refused) -> Publication | None:
    """The publication that a refused change has found."""
    found = refused.found[0]
    return Publication.of(found) if found and "status" in found else None


def _claim_post(post_id: str, publication_id: str) -> Write:
    return dynamo.change(
        settings().publications_table,
        {"id": f"post#{post_id}"},
        "SET publication = :publication",
        when="attribute_not_exists(id) OR publication = :publication",
        values={"publication": publication_id},
    )


def _failure(channels: tuple[Target, ...]) -> Failure:
    told = next((channel.error for channel in channels if channel.error), None)
    return Failure("publishing_failed", told or "The network has not taken the post.")


def _channels(channels: tuple[Target, ...]) -> list[Item]:
    return [{name: value for name, value in vars(channel).items() if value is not None} for channel in channels]


def _written(
    publication: Publication,
    expression: str,
    status: Status,
    now: float,
    *,
    names: dict[str, str] | None = None,
    wait: int = 0,
    **values: Any,
) -> Write:
    """A change of the status along the drawn ways, by whoever has seen the last change."""
    origins = before(status) + ([status] if status in UNFINISHED else [])
    allowed = {f"from{number}": origin for number, origin in enumerate(origins)}
    if status in TERMINAL:
        values["expires"] = int(now + KEEP_TERMINAL_S)
        tail = ", expires_at = :expires REMOVE sweep_at, open_shard ADD seq :one"
    else:
        values["sweep"] = now + wait + settings().scaled(SWEEP_AFTER_S)
        tail = ", sweep_at = :sweep ADD seq :one"
    return dynamo.change(
        settings().publications_table,
        {"id": publication.id},
        f"{expression}, updated_at = :updated{tail}",
        when=f"{UNCHANGED} AND #status IN ({', '.join(f':{name}' for name in allowed)})",
        names={"#status": "status", **(names or {})},
        values={"status": status, "updated": iso(now), "one": 1, "seq": publication.seq, **allowed, **values},
    )


def _change(
    publication_id: str, expression: str, when: str, *, now: float, wait: int = 0, **values: Any
) -> Publication:
    """A change that leaves the publication unfinished; the sweeper leaves it alone for `wait` seconds more."""
    if ":now" in expression + when:
        values["now"] = now
    write = dynamo.change(
        settings().publications_table,
        {"id": publication_id},
        f"{expression}, updated_at = :updated, sweep_at = :sweep ADD seq :one",
        when=when,
        names={"#status": "status"} if "#status" in expression + when else {},
        values={
            "updated": iso(now),
            "sweep": now + wait + settings().scaled(SWEEP_AFTER_S),
            "one": 1,
            **values,
        },
    )
    return Publication.of(dynamo.update(write))
