"""Stock photos and videos: searched at Pexels through a cache, imported as assets that keep who made them."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from shared.core import clock, ids
from shared.core.errors import NotFound, Unavailable
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.media import assets, fetch, library
from shared.media.assets import Asset, BadOutput, Family, Origin
from shared.providers import keys
from shared.providers.outcomes import Gone, ProviderError, Throttled
from shared.stock import pexels, table
from shared.stock.pexels import Allowance, Found, Kind, Orientation, StockItem

STOCK_ID = re.compile(r"(photo|video)-([0-9]{1,15})", re.ASCII)
FAMILIES: dict[Kind, Family] = {"photo": "image", "video": "video"}
LARGEST: dict[Kind, int] = {"photo": 30_000_000, "video": 200_000_000}
REST_S = 60.0
"""A 429 of Pexels does not say for how long."""
LONGEST_REST_S = 3600.0
"""The quota is one of an hour, and one of a month that begins anew long after. Asking once an hour costs nothing."""


@dataclass(frozen=True)
class Imported:
    """An asset from stock; `known` if the account had it already."""

    asset: Asset
    known: bool


def search(kind: Kind, query: str, *, orientation: Orientation | None, page: int, per_page: int) -> Found:
    """A page of what there is. Raises Unavailable while Pexels cannot be asked and nothing is remembered."""
    words = " ".join(query.casefold().split())

    def ask(key: str) -> tuple[dict[str, Any], Allowance]:
        connection = pexels.connection(key)
        found, left = pexels.search(connection, kind, words, orientation=orientation, page=page, per_page=per_page)
        return found.document(), left

    return Found.of(_remembered(table.name("search", kind, words, orientation, page, per_page), ask))


def find(stock_id: str) -> StockItem:
    """One photo or video. Raises NotFound, and Unavailable as `search`."""
    match = STOCK_ID.fullmatch(stock_id)
    if match is None:
        raise NotFound("There is no such photo or video.")
    kind, number = cast(Kind, match[1]), match[2]

    def ask(key: str) -> tuple[dict[str, Any], Allowance]:
        item, left = pexels.one(pexels.connection(key), kind, number)
        return asdict(item), left

    return StockItem.of(_remembered(table.name("one", kind, number), ask))


def take(account: str, stock_id: str, *, longest_side: int) -> Imported:
    """The asset of a photo or a video, with its attribution. The same one taken twice is one asset, also when it was
    deleted in between.

    Raises NotFound; Conflict where the account has no room for it; Unavailable while its file cannot be had.
    """
    asset_id = ids.derived("as", account, stock_id, str(longest_side))
    known = assets.find_even_deleted(asset_id, account=account)
    if known is not None:
        return Imported(_restored(known), known=known.deleted_at is None)
    item = find(stock_id)
    rendition = pexels.chosen(item, longest_side)
    if rendition is None:
        raise NotFound("There is no file of this photo or video.")
    try:
        with fetch.download(rendition.url, allowed=settings().allowed_private_origins) as file:
            _check_room(account, file.length or 0)
            asset = assets.store(
                file.chunks,
                asset_id,
                Origin(
                    account,
                    stock_id,
                    FAMILIES[item.kind],
                    source="stock",
                    prompt=item.title or None,
                    attribution=item.attribution,
                ),
                length=file.length,
                family=FAMILIES[item.kind],
                largest=LARGEST[item.kind],
                now=clock.now(),
                room=settings().storage_quota,
            )
    except (fetch.FetchError, BadOutput) as error:
        logger.warning("the file of a stock item cannot be had", stock=stock_id, reason=str(error))
        count("StockImportFailed")
        raise Unavailable("The file cannot be had now.", code="stock_unavailable") from error
    return Imported(asset, known=False)


def _restored(asset: Asset) -> Asset:
    try:
        return library.restore(asset, clock.now())
    except NotFound as error:
        # Until its row is gone as well, its file may be removed at any moment: also one that was just stored.
        raise Unavailable("It is being deleted; import it again later.", code="busy", retry_after=600) from error


def _check_room(account: str, size: int) -> None:
    """Raises Conflict before anything of the file is read; what others store meanwhile is seen when it is recorded."""
    used, _ = assets.stored(account)
    if used + size > settings().storage_quota:
        raise assets.no_room(account, size)


def _remembered(name: str, ask: Callable[[str], tuple[dict[str, Any], Allowance]]) -> dict[str, Any]:
    """What was answered within a day; else what Pexels says now; else, rather than nothing, what it said last."""
    now = clock.now()
    known = table.get(name)
    if known is not None and now < known[1] + table.KEEP_S:
        return known[0]
    wait = table.resting_until() - now
    if wait <= 0:
        try:
            answer, left = keys.with_one("pexels", ask)
        except Gone as error:
            raise NotFound("There is no such photo or video.") from error
        except ProviderError as error:
            logger.warning("Pexels has not answered", code=error.code, reason=error.detail)
            wait = min(error.retry_after or REST_S, LONGEST_REST_S)
            if isinstance(error, Throttled):
                table.rest(now + wait)
        else:
            table.keep(name, answer, now)
            _heed(left, now)
            return answer
    if known is not None:
        return known[0]
    count("StockUnavailable")
    raise Unavailable("Stock is not available now.", code="stock_unavailable", retry_after=max(1, round(wait)))


def _heed(left: Allowance, now: float) -> None:
    """The last request of the allowance was this one: the next is for when there are new ones."""
    if left.remaining == 0:
        count("StockQuotaSpent")
        table.rest(min(left.reset_at or now + REST_S, now + LONGEST_REST_S))
