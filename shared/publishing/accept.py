"""Taking a publication on: the request, the checks, the item, its workflow."""

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.core import dynamo, ids, web
from shared.core.clock import iso
from shared.core.dynamo import Refused
from shared.core.errors import Invalid, Unavailable
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.core.text import Text
from shared.media.assets import Asset
from shared.providers import keys
from shared.providers.outcomes import ProviderError
from shared.publishing import postiz, table, workflow
from shared.publishing.postiz import Channel
from shared.publishing.status import Mode
from shared.publishing.steps import Step
from shared.publishing.table import Publication, Target

LONGEST_AHEAD_S = 180 * 24 * 3600
GIVE_UP_AFTER_S = 6 * 3600
"""How long the posts may be tried to be created, after acceptance or after the time they are meant for."""

LARGEST_SETTINGS = 8000
# What Postiz takes, of what an asset can be.
PUBLISHABLE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "video/mp4"})
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def moment(text: str) -> str:
    """The text, if it is a time of RFC 3339. Raises ValueError."""
    if not RFC3339.fullmatch(text):
        raise ValueError("must be a time of RFC 3339, such as 2026-12-01T10:00:00Z")
    seconds(text)
    return text


def seconds(text: str) -> float:
    """Epoch seconds. Raises ValueError for a day or an hour that there is not."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError("there is no such time") from error


def _small(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError("must be JSON") from error
    if len(text) > LARGEST_SETTINGS:
        raise ValueError(f"must have at most {LARGEST_SETTINGS} characters of JSON")
    return value


class ChannelRequest(BaseModel):
    """A channel of `GET /v1/channels`; `settings` are what its network asks for (docs.postiz.com)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[Text, Field(min_length=1, max_length=100)]
    settings: Annotated[dict[str, Any], AfterValidator(_small)] = {}


class PublicationRequest(BaseModel):
    """What to say with an asset, where and when: `now`, `schedule` for `publish_at`, or `draft` for Postiz's editor."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Mode = "now"
    publish_at: Annotated[str, Field(json_schema_extra={"format": "date-time"}), AfterValidator(moment)] | None = None
    text: Annotated[Text, Field(min_length=1, max_length=10_000)]
    channels: Annotated[list[ChannelRequest], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def whole(self) -> "PublicationRequest":
        if (self.mode == "schedule") != (self.publish_at is not None):
            raise ValueError("publish_at goes with the mode schedule, and only with it")
        names = [channel.id for channel in self.channels]
        if len(set(names)) != len(names):
            raise ValueError("every channel may be named once")
        return self


@dataclass(frozen=True)
class Accepted:
    publication: Publication
    replayed: bool


def channels_of(account: str) -> list[Channel]:
    """The channels that an account may publish to: those that were given to it in Postiz (its customer has the
    account's name), and those that were given to nobody. Raises Unavailable while Postiz does not answer."""
    try:
        found = postiz.channels(postiz.connection(keys.pool("postiz")[0]))
    except ProviderError as error:
        logger.error("cannot list the channels", code=error.code, reason=error.detail)
        count("PublishingUnavailable")
        retry_after = max(1, round(error.retry_after or 30))
        raise Unavailable("Publishing is not available now.", code="busy", retry_after=retry_after) from error
    return [channel for channel in found if channel.owner in (None, account)]


def accept(
    account: str, asset: Asset, request: PublicationRequest, *, idempotency_key: str | None, now: float
) -> Accepted:
    """Record the publication and start its workflow. A repeat with the same key meets its own publication, whatever
    has become of its channels since. Raises Invalid and Unavailable."""
    asked = {"asset": asset.id, **request.model_dump()}
    digest = ids.derived("req", json.dumps(asked, sort_keys=True))
    new_id = ids.derived("pub", account, idempotency_key) if idempotency_key else ids.new("pub")
    known = table.get(new_id) if idempotency_key else None
    if known is None:
        made = replace(_made(account, asset, request, now), id=new_id, request_hash=digest)
        try:
            dynamo.transact([table.create(made)])
        except Refused as refused:
            known = table.met(refused)
        else:
            workflow.start(made, Step("upload"))
            return Accepted(made, replayed=False)
    if known is None or known.request_hash != digest:
        raise web.key_reused()
    return Accepted(known, replayed=True)


def _made(account: str, asset: Asset, request: PublicationRequest, now: float) -> Publication:
    """A new publication. Raises Invalid."""
    publish_at = seconds(request.publish_at) if request.publish_at else now
    flaws = _flaws(asset, request, publish_at, now)
    channels = {channel.id: channel for channel in channels_of(account)} if not flaws else {}
    if channels or not flaws:
        flaws += [flaw for number, one in enumerate(request.channels) for flaw in _flaw(number, channels.get(one.id))]
    if flaws:
        raise Invalid("The publication is not possible.", errors=flaws)
    return Publication(
        id=ids.new("pub"),
        account=account,
        asset_id=asset.id,
        asset_key=asset.key,
        content_type=asset.content_type,
        mode=request.mode,
        publish_at=publish_at,
        content=request.text,
        channels=tuple(
            Target(one.id, channels[one.id].name, channels[one.id].platform, json.dumps(one.settings))
            for one in request.channels
        ),
        status="queued",
        request_hash="",
        created_at=iso(now),
        updated_at=iso(now),
        accepted_at=now,
        give_up_at=max(now, publish_at) + settings().scaled(GIVE_UP_AFTER_S),
        request_id=web.request_id(),
    )


def _flaws(asset: Asset, request: PublicationRequest, publish_at: float, now: float) -> list[dict[str, str]]:
    flaws = []
    if asset.content_type not in PUBLISHABLE:
        flaws.append({"pointer": "", "detail": f"an asset of {asset.content_type} cannot be published"})
    if request.mode == "schedule" and not now < publish_at <= now + LONGEST_AHEAD_S:
        flaws.append({"pointer": "/publish_at", "detail": "must be in the future, at most 180 days ahead"})
    return flaws


def _flaw(number: int, channel: Channel | None) -> list[dict[str, str]]:
    if channel is None:
        return [{"pointer": f"/channels/{number}/id", "detail": "there is no such channel"}]
    if channel.disabled:
        return [{"pointer": f"/channels/{number}/id", "detail": "the channel must be connected again in Postiz"}]
    return []
