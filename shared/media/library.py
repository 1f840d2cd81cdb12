"""The library: what an account has, wherever it comes from, in one list.

An asset that is deleted leaves its account's shelf for `deleted#<account>`, does not count as stored any more, and
can be restored for a week. After that the index `due` names it, and `expire` removes it for good. An upload that
nobody has used is due after a week as well.
"""

import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from shared.core import dynamo
from shared.core.clock import iso
from shared.core.dynamo import Item, Refused
from shared.core.errors import NotFound
from shared.core.settings import settings
from shared.media import assets
from shared.media.assets import Asset
from shared.media.types import EXTENSIONS

DAY_S = 86400
RESTORABLE_S = 7 * DAY_S
UNUSED_S = 7 * DAY_S
SHARDS = 4

MOST_READ = 100
"""How many assets are looked at for a page of a search: a long library answers as fast as a short one, a page at a
time."""

# The account's, and not deleted.
ON_THE_SHELF = "account = :account AND attribute_exists(#key) AND attribute_not_exists(deleted_at)"
KEY = {"#key": "key"}

LONGEST_NAME = 120


@dataclass(frozen=True)
class Wanted:
    """What a page shows: those that match everything that is given. `query` is looked for in name and prompt."""

    kind: str | None = None
    source: str | None = None
    tag: str | None = None
    query: str | None = None
    deleted: bool = False

    def shows(self, asset: Asset) -> bool:
        text = f"{asset.name or ''}\n{asset.prompt or ''}".casefold()
        return (
            self.kind in (None, asset.kind)
            and self.source in (None, asset.source)
            and (self.tag is None or self.tag in asset.tags)
            and all(word in text for word in (self.query or "").casefold().split())
        )


def page(account: str, wanted: Wanted, *, limit: int, cursor: str | None) -> tuple[list[Asset], str | None]:
    """The account's assets, newest first, and the cursor of the next page. A page of a search may be short, or empty,
    and yet have a next one."""
    plain = wanted == Wanted(deleted=wanted.deleted)
    found: list[Asset] = []
    items, following = _read(account, wanted, limit if plain else MOST_READ, cursor)
    for number, item in enumerate(items):
        asset = Asset.of(item)
        if wanted.shows(asset):
            found.append(asset)
        if len(found) == limit:
            last = number == len(items) - 1 and following is None
            return found, None if last else dynamo.write_cursor(item["created"])
    return found, following


def rename(asset: Asset, *, name: str | None, tags: tuple[str, ...] | None) -> Asset:
    """Give it another name or other tags; None leaves what there is. Who does that wants to keep it. Raises NotFound
    if it was deleted meanwhile."""
    sets, values = [], {"account": asset.account}
    if name is not None:
        sets.append("#name = :name")
        values["name"] = name
    if tags is not None:
        sets.append("tags = :tags")
        values["tags"] = list(tags)  # type: ignore[assignment]
    expression = f"SET {', '.join(sets)} REMOVE due_shard, due_at" if sets else "REMOVE due_shard, due_at"
    names = {**KEY, "#name": "name"} if name is not None else KEY
    return _changed(asset.id, expression, ON_THE_SHELF, values, names)


def keep(asset_id: str, *, account: str) -> None:
    """From now on it is in use: an upload that nobody uses is deleted after a week."""
    unused = f"{ON_THE_SHELF} AND attribute_exists(due_at)"
    write = dynamo.change(
        settings().assets_table,
        {"id": asset_id},
        "REMOVE due_shard, due_at",
        when=unused,
        values={"account": account},
        names=KEY,
    )
    with suppress(Refused):  # It is no upload, or somebody has used it before.
        dynamo.update(write)


def delete(asset: Asset, now: float) -> None:
    """Take it off the shelf; it can be restored for a week. Raises NotFound if it is not on it."""
    write = dynamo.change(
        settings().assets_table,
        {"id": asset.id},
        "SET deleted_at = :deleted, shelf = :shelf, due_shard = :due_shard, due_at = :due_at",
        when=ON_THE_SHELF,
        values={
            "account": asset.account,
            "deleted": iso(now),
            "shelf": f"deleted#{asset.account}",
            **due(asset.id, now + RESTORABLE_S),
        },
        names=KEY,
    )
    try:
        dynamo.transact([write, assets.counted(asset.account, size=-asset.bytes, files=-1)])
    except Refused:
        raise NotFound("There is no such asset.") from None


def restore(asset: Asset, now: float) -> Asset:
    """Put it back on the shelf. Raises NotFound for one that is gone for good, Conflict where it has no room."""
    if asset.deleted_at is None:
        return asset
    quota = settings().storage_quota
    write = dynamo.change(
        settings().assets_table,
        {"id": asset.id},
        "SET shelf = :account REMOVE deleted_at, due_shard, due_at",
        when="account = :account AND deleted_at = :deleted AND due_at > :now AND attribute_not_exists(removing)",
        values={"account": asset.account, "deleted": asset.deleted_at, "now": int(now)},
    )
    try:
        dynamo.transact([write, assets.counted(asset.account, size=asset.bytes, files=1, room=quota)])
    except Refused as refused:
        if refused.refusals[0]:
            raise NotFound("There is no such asset any more.") from None
        raise assets.no_room(asset.account, asset.bytes) from None
    return assets.find(asset.id, account=asset.account) or asset


def due(item_id: str, at: float) -> Item:
    """What puts an item into the index `due`."""
    return {"due_shard": f"due#{zlib.crc32(item_id.encode()) % SHARDS}", "due_at": int(at)}


def disposition(asset: Asset, *, inline: bool) -> str:
    """The Content-Disposition of a download (RFC 6266), the name as RFC 8187 (once 5987) has it, and in ASCII for who
    does not know that."""
    name = file_name(asset)
    plain = re.sub(r'[^ !#-\[\]-~]|["\\%]', "_", name)
    how = "inline" if inline else "attachment"
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def file_name(asset: Asset) -> str:
    """The asset's name with the ending of its type, and nothing in it that a file system could misunderstand."""
    ending = EXTENSIONS.get(asset.content_type, "")
    name = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|\u202a-\u202e\u2066-\u2069]', "_", asset.name or "").strip(" .")
    if name.lower().endswith(ending):
        name = name[: len(name) - len(ending)]
    name = name[:LONGEST_NAME].strip(" .") or (f"{asset.kind}-{asset.role}" if asset.role else asset.kind)
    return f"{name}{ending}"


def _read(account: str, wanted: Wanted, limit: int, cursor: str | None) -> tuple[list[Item], str | None]:
    return dynamo.page(
        settings().assets_table,
        partition=("shelf", f"deleted#{account}" if wanted.deleted else account),
        sort=("created", ""),
        index="by_shelf",
        limit=limit,
        cursor=cursor,
        also_key="id",
    )


def _changed(asset_id: str, expression: str, when: str, values: Item, names: dict[str, str]) -> Asset:
    write = dynamo.change(settings().assets_table, {"id": asset_id}, expression, when=when, values=values, names=names)
    try:
        return Asset.of(dynamo.update(write))
    except Refused:
        raise NotFound("There is no such asset.") from None


def may_sound(probe: Mapping[str, Any] | None) -> bool:
    """Whether a film or a sound can be heard: only the inspection of an upload tells that a film has no track of it."""
    return not probe or bool(probe.get("sounds"))
