"""Which projects use an asset.

A list for each asset has a hint for every project that may use it. A hint is written before the version that names the
asset is saved, so whatever breaks in between there may be a hint too many and never one too few. What a hint says is
true only if the project, as it is now, names the asset; one that has been untrue for longer than any save takes is
removed by whoever comes across it. So looking is as fast with a hundred thousand projects as with one.
"""

from collections.abc import Collection
from itertools import batched

from shared.core import dynamo
from shared.core.clock import now as current_time
from shared.core.dynamo import Item, Refused
from shared.core.settings import settings
from shared.projects.leftovers import SETTLED_S

MOST = 100
"""How many projects are told of an asset, and how many hints are looked at at once."""


def hint(project_id: str, assets: Collection[str], now: float) -> None:
    """A version of the project that is about to be saved names these assets, which the one before it does not."""
    entries = [{**_key(asset, project_id), "at": int(now)} for asset in sorted(assets)]
    dynamo.put_all(settings().project_lists_table, entries)


def forget(project_id: str, assets: Collection[str]) -> None:
    """The project is deleted, and uses nothing any more."""
    dynamo.delete_all(settings().project_lists_table, [_key(asset, project_id) for asset in sorted(assets)])


def of_asset(asset_id: str) -> list[str]:
    """The projects whose current version names the asset, newest first; the first 100 of them."""
    hints = dynamo.partition(
        settings().project_lists_table, partition=("list_id", f"uses#{asset_id}"), sort="entry", newest_first=True
    )
    found: list[str] = []
    for some in batched(hints, MOST, strict=False):
        names = [str(one["entry"]) for one in some]
        # The hints were read first: a version that was saved since then is seen here, one before has left its hint.
        projects = dynamo.get_all(settings().projects_table, names, attributes_of=("id", "created", "assets"))
        for one, name in zip(some, names, strict=True):
            project = projects.get(name, {})
            if "created" in project and asset_id in project["assets"]:
                found.append(name)
            elif one["at"] < current_time() - SETTLED_S:
                _remove(one)
        if len(found) >= MOST:
            break
    return found[:MOST]


def _key(asset: str, project_id: str) -> Item:
    return {"list_id": f"uses#{asset}", "entry": project_id}


def _remove(one: Item) -> None:
    """Remove a hint, unless a save that is under way has just written it anew."""
    try:
        key, unchanged = {"list_id": one["list_id"], "entry": one["entry"]}, {"at": one["at"]}
        dynamo.discard(settings().project_lists_table, key, when="#at = :at", names={"#at": "at"}, values=unchanged)
    except Refused:
        return
