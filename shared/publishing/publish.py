"""The steps of a publication: upload the file, create the posts once, follow them to their end, take them back.

Postiz publishes twice whatever is created twice. So an attempt is claimed before Postiz is called, and one whose answer
is lost is looked up until a list that is old enough shows that nothing was created; only then is it repeated, and only
for the channels that are missing.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from botocore.exceptions import ClientError

from shared.core.clock import now as current_time
from shared.core.dynamo import Refused
from shared.core.errors import Conflict, Unavailable
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.media import assets, ranged
from shared.providers import keys
from shared.providers.http import Connection
from shared.providers.outcomes import (
    Ambiguous,
    Failure,
    Gone,
    NothingCreated,
    OperatorNeeded,
    Permanent,
    ProviderError,
)
from shared.publishing import postiz, status, table
from shared.publishing.postiz import Post
from shared.publishing.status import ChannelState
from shared.publishing.steps import Step
from shared.publishing.table import Publication, Target

CREATE_LIMIT_S = 60
"""A create attempt whose outcome is not written after this long is lost: no function that makes one lives longer."""

TRIES = 4
NO_FILE = {"404", "NoSuchKey"}
DAY_S = 24 * 3600
PATIENCE_S = 3 * DAY_S
"""So long after its time a post that is still in Postiz's queue is given up."""

LATE_AFTER_S = 3600
"""So long after its time a publication that is not over is told of to the operator."""

UNKNOWN = Failure("outcome_unknown", "Nobody can say whether it was posted; look at the channels.")
NOT_TAKEN = Failure("provider_unavailable", "Postiz has not taken the post in time.")
GONE = Failure("asset_gone", "The asset was deleted before it was sent.")


def first_step(publication: Publication) -> Step:
    """Where an execution begins that takes a publication up as it is."""
    if publication.terminal:
        return Step("done")
    if publication.media is None:
        return Step("upload")
    return Step("submit" if "pending" in publication.states else "follow")


def upload(publication: Publication) -> Step:
    """Stream the asset from the bucket to Postiz; never more of it in memory than one block."""
    now = current_time()
    if publication.terminal or publication.media is not None:
        return first_step(publication)
    if assets.find(publication.asset_id, account=publication.account) is None:
        return _give_up(publication, GONE)
    try:
        with ranged.opened(publication.asset_key) as file:
            name = PurePosixPath(publication.asset_key).name
            media = postiz.upload(_connection(), file, name, publication.content_type)
    except ClientError as error:
        if error.response["Error"]["Code"] not in NO_FILE:
            raise
        return _give_up(publication, GONE)
    except Permanent as error:
        return _fail(publication, error)
    except ProviderError as error:
        logger.warning("the upload has not arrived", code=error.code, reason=error.detail)
        if now >= publication.give_up_at:
            return _give_up(publication, NOT_TAKEN)
        return Step("upload_again", _wait(publication, error))
    try:
        table.record_media(publication, media, current_time())
    except Refused:
        logger.info("the publication has changed meanwhile")
        return Step("upload_again", 1)
    return Step("submit")


def submit(publication: Publication) -> Step:
    """Find what an earlier attempt may have created, and only then create what is missing."""
    now = current_time()
    if publication.terminal or publication.media is None or not publication.wanted():
        return first_step(publication)
    if publication.attempt == "open" and now < publication.attempt_at + CREATE_LIMIT_S:
        return Step("submit_again", max(1, round(publication.attempt_at + CREATE_LIMIT_S - now)))
    if publication.attempt != "none":
        met = _look_up(publication, now)
        if isinstance(met, Step):
            return met
        publication = met
    if publication.cancel_requested_at is not None:
        return _take_back_the_rest(publication, now)
    if now >= publication.give_up_at:
        return _give_up(publication, NOT_TAKEN)
    try:
        publication = table.claim_attempt(publication, now)
    except Refused:
        logger.info("somebody else has this attempt")
        return Step("submit_again", 1)
    return _attempt(publication)


def _attempt(publication: Publication) -> Step:
    """Make the create call of an attempt that is open, and write its outcome down."""
    if publication.media is None:
        raise LookupError("nothing is uploaded")
    try:
        made = postiz.create(
            _connection(),
            publication.id,
            publication.wanted(),
            mode=publication.mode,
            publish_at=_post_time(publication),
            media=publication.media,
        )
    except Permanent as error:
        return _fail(publication, error)
    except NothingCreated as error:
        logger.warning("Postiz has taken nothing", code=error.code, reason=error.detail)
        count("PublishRetried")
        note_lateness(publication, current_time())
        wait = status.backoff(publication.tries, scale=settings().time_scale, asked=error.retry_after)
        _write(lambda: table.end_attempt(publication, "none", current_time(), wait=wait))
        return Step("submit_again", wait)
    except Ambiguous as error:
        logger.warning("Postiz's answer is lost", reason=error.detail)
        count("PublishAmbiguous")
        wait = status.backoff(0, scale=settings().time_scale)
        _write(lambda: table.end_attempt(publication, "unknown", current_time(), wait=wait))
        return Step("submit_again", wait)
    return _adopt(publication, made)


def _look_up(publication: Publication, now: float) -> Publication | Step:
    """What Postiz's list says after a lost answer: the publication with the posts that were found, once it is sure
    that no other was created; else what to do meanwhile."""
    at = _post_time(publication)
    try:
        found = postiz.posts(_connection(), at - DAY_S, max(at, now) + DAY_S)
    except ProviderError as error:
        logger.warning("cannot look the posts up", code=error.code, reason=error.detail)
        if now >= publication.give_up_at:
            count("PublicationUnknown")
            return _give_up(publication, UNKNOWN)
        return Step("submit_again", _wait(publication, error))
    ours = list(postiz.ours(found, publication.id, publication.wanted(), at))
    taken = table.others_posts([post.id for post in ours], publication.id)
    made: dict[str, str] = {}
    for post in ours:
        if post.id not in taken:
            made.setdefault(post.channel, post.id)
    if made:
        logger.info("found the posts of a lost answer", posts=sorted(made.values()))
        step = _adopt(publication, made)
        return step if len(made) == len(publication.wanted()) else Step("submit_again", 1)
    # What was created a moment ago need not be listed yet.
    sure_at = publication.attempt_at + settings().lookup_grace
    if now < sure_at:
        return Step("submit_again", max(1, round(sure_at - now)))
    return publication


def _adopt(publication: Publication, made: dict[str, str]) -> Step:
    """Write down which posts are the publication's. Whoever has changed it meanwhile (a cancel, a sweep) is no reason
    to forget them; if nothing helps, the list has them still."""
    for _ in range(TRIES):
        now = current_time()
        states: list[ChannelState] = [
            ("draft" if publication.mode == "draft" else "queued") if channel.id in made else channel.state
            for channel in publication.channels
        ]
        after = status.overall(publication.mode, states, publish_at=publication.publish_at, now=now)
        try:
            return first_step(table.adopt(publication, made, after, now))
        except Refused:
            latest = table.get(publication.id)
            if latest is not None and made.items() <= latest.posts().items():
                return first_step(latest)
            if latest is None or latest.terminal:
                logger.error("posts too many", posts=sorted(made.values()))
                count("SurplusPost")
                return Step("done")
            publication = latest
    return Step("submit_again", 1)


def follow(publication: Publication) -> Step:
    """Ask Postiz what has become of the posts; take them back first where the caller wants that."""
    now = current_time()
    if publication.terminal or "pending" in publication.states:
        return first_step(publication)
    try:
        publication = take_back(publication) if publication.cancel_requested_at is not None else publication
        if not publication.terminal:
            publication = look(publication)
    except ProviderError as error:
        logger.warning("cannot follow the posts", code=error.code, reason=error.detail)
        if _is_late(publication, now):
            return _abandon(publication, now)
        return Step("follow_again", _wait(publication, error))
    except Refused:
        return Step("follow_again", 1)
    if publication.terminal:
        return Step("done")
    note_lateness(publication, now)
    return Step("follow_again", _until_next_look(publication, now))


def cancel(publication: Publication) -> Publication:
    """Keep it from being published, at once where Postiz answers, else the workflow and the sweeper go on with it.
    Raises Conflict when it is too late."""
    for _ in range(TRIES):
        now = current_time()
        margin = settings().scaled(status.CANCEL_MARGIN_S)
        if publication.terminal:
            return publication
        at = publication.publish_at
        if not status.cancelable(publication.status, publication.mode, publish_at=at, now=now, margin=margin):
            raise Conflict("It is on its way out already.", code="already_publishing")
        try:
            if publication.status == "queued":
                channels = tuple(replace(channel, state="canceled") for channel in publication.channels)
                return _record(publication, channels, now)
            publication = table.request_cancel(publication, now)
            return take_back(publication) if publication.status == "scheduled" else publication
        except ProviderError as error:
            logger.warning("cannot take the posts back yet", code=error.code, reason=error.detail)
            return publication
        except Refused:
            publication = table.get(publication.id) or publication
    raise Unavailable("Too much is happening at once; try again.", code="busy", retry_after=1)


def look(publication: Publication) -> Publication:
    """The publication with what Postiz says of its posts. Raises ProviderError, and Refused when it has changed."""
    now = current_time()
    found = {post.id: post for post in _listed(publication, now)}
    late = _is_late(publication, now)
    channels = tuple(_seen(channel, found, late=late) for channel in publication.channels)
    return _record(publication, channels, now)


def take_back(publication: Publication) -> Publication:
    """Delete the posts that have not gone out, and believe only the list. Raises as `look`.

    A post that is published could be deleted as well, and would only vanish from the list: so nothing is deleted that
    is not in the queue, or whose time has come.
    """
    now = current_time()
    posts = {post.id: post for post in _listed(publication, now)}
    margin = settings().scaled(status.CANCEL_MARGIN_S)
    for channel in publication.channels:
        post = posts.get(channel.post_id or "")
        if post and post.state == "queued" and now < post.publish_at - margin:
            try:
                postiz.delete(_connection(), post.id)
            except Gone:
                logger.info("the post is gone already", post=post.id)
    left = {post.id: post for post in _listed(publication, now)}
    channels = tuple(
        replace(channel, state="canceled")
        if channel.state == "queued" and channel.post_id not in left
        else _seen(channel, left, late=False)
        for channel in publication.channels
    )
    return _record(publication, channels, now)


def _record(
    publication: Publication, channels: tuple[Target, ...], now: float, failure: Failure | None = None
) -> Publication:
    states = [channel.state for channel in channels]
    after = status.overall(publication.mode, states, publish_at=publication.publish_at, now=now)
    wait = _until_next_look(replace(publication, status=after), now)
    recorded = table.record_channels(publication, channels, after, now, wait=wait, failure=failure)
    if recorded.terminal:
        logger.info("publication ended", status=after)
        count(f"Publication_{after}")
    return recorded


def _seen(channel: Target, found: dict[str, Post], *, late: bool) -> Target:
    """The channel as the list shows its post."""
    if channel.state in status.CHANNEL_ENDED:
        return channel
    post = found.get(channel.post_id or "")
    if post is None:
        return replace(channel, state="error", error="The post was removed in Postiz.")
    if post.state == "error":
        return replace(channel, state="error", error="The network has not taken the post; Postiz tells why.")
    if post.state == "draft":
        return replace(channel, state="error", error="The post was made a draft in Postiz.")
    if post.state == "queued" and late:
        return replace(channel, state="error", error="Postiz has not published the post.")
    return replace(channel, state=post.state, url=post.url or channel.url)


def _listed(publication: Publication, now: float) -> list[Post]:
    """The publication's posts. They are looked for where they should be, and then wherever somebody may have moved
    them to in Postiz."""
    wanted = {channel.post_id for channel in publication.channels if channel.state not in status.CHANNEL_ENDED}
    at = _post_time(publication)
    found = _among(wanted, postiz.posts(_connection(), at - DAY_S, at + DAY_S))
    if len(found) < len(wanted):
        found = _among(wanted, postiz.posts(_connection(), publication.accepted_at - DAY_S, now + 366 * DAY_S))
    return found


def _among(wanted: set[str | None], posts: list[Post]) -> list[Post]:
    return [post for post in posts if post.id in wanted]


def _take_back_the_rest(publication: Publication, now: float) -> Step:
    """Canceled before all its posts were made: those that there are go, the others are never made."""
    channels = tuple(
        replace(channel, state="canceled") if channel.state == "pending" else channel
        for channel in publication.channels
    )
    try:
        publication = _record(publication, channels, now)
    except Refused:
        return Step("submit_again", 1)
    return first_step(publication)


def _fail(publication: Publication, error: ProviderError) -> Step:
    """Give up what is missing for the reason that Postiz has given."""
    if isinstance(error, OperatorNeeded):
        logger.error("operator needed", provider="postiz", reason=error.detail)
        count("OperatorNeeded", provider="postiz")
    return _give_up(publication, error.failure)


def _give_up(publication: Publication, failure: Failure) -> Step:
    """No further attempt for the posts that are missing; those that exist are followed."""
    for _ in range(TRIES):
        channels = tuple(
            replace(channel, state="error", error=failure.detail) if channel.state == "pending" else channel
            for channel in publication.channels
        )
        try:
            return first_step(_record(publication, channels, current_time(), failure))
        except Refused:
            latest = table.get(publication.id)
            if latest is None:
                raise
            publication = latest
    return Step("submit_again", 1)


def _abandon(publication: Publication, now: float) -> Step:
    """Days after its time nobody can say what has become of it."""
    count("PublicationUnknown")
    channels = tuple(
        channel if channel.state in status.CHANNEL_ENDED else replace(channel, state="error", error=UNKNOWN.detail)
        for channel in publication.channels
    )
    _write(lambda: _record(publication, channels, now, UNKNOWN))
    return Step("follow_again", 1)


def _wait(publication: Publication, error: ProviderError) -> int:
    """Seconds until the next try, which are longer with every try that has come to nothing."""
    note_lateness(publication, now := current_time())
    wait = status.backoff(publication.tries, scale=settings().time_scale, asked=error.retry_after)
    _write(lambda: table.note_try(publication, now, wait=wait))
    return wait


def _write(write: Callable[[], Publication]) -> None:
    """Write, unless somebody else has changed the publication: the next step reads what they have made of it."""
    try:
        write()
    except Refused:
        logger.info("the publication has changed meanwhile")


def note_lateness(publication: Publication, now: float) -> None:
    """Tell the operator of what should have been out for long."""
    if now >= publication.publish_at + settings().scaled(LATE_AFTER_S):
        count("PublicationLate")


def _is_late(publication: Publication, now: float) -> bool:
    return now >= publication.publish_at + settings().scaled(PATIENCE_S)


def _until_next_look(publication: Publication, now: float) -> int:
    at, scale = publication.publish_at, settings().time_scale
    return status.next_look(publication.status, publish_at=at, now=now, scale=scale)


def _post_time(publication: Publication) -> float:
    """The time that the posts have: what is published at once has the time of its attempt."""
    if publication.mode == "schedule":
        return publication.publish_at
    return max(publication.publish_at, publication.attempt_at)


def _connection() -> Connection:
    return postiz.connection(keys.pool("postiz")[0])
