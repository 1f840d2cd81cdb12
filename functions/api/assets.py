"""GET /v1/assets and /v1/storage; GET, PATCH and DELETE /v1/assets/{asset_id}, its /content and its /restore: the
library, and the way to the bytes of what is in it."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import BaseModel, ConfigDict, Field

from shared.core import web
from shared.core.clock import now
from shared.core.errors import Conflict, NotFound
from shared.core.settings import settings
from shared.core.text import Text
from shared.core.web import Cursor, IdempotencyKey, Limit
from shared.jobs.view import LibraryAsset
from shared.media import assets, library
from shared.media.assets import Asset, Source
from shared.media.library import Wanted
from shared.projects import usage

app = web.Api()

Tag = Annotated[Text, Field(min_length=1, max_length=50)]


class AssetChange(BaseModel):
    """What is to be changed; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[Text | None, Field(min_length=1, max_length=200)] = None
    tags: Annotated[list[Tag] | None, Field(max_length=20)] = None


class AssetPage(BaseModel):
    items: list[LibraryAsset]
    next_cursor: str | None


class StorageView(BaseModel):
    """What the account's assets take, without deleted ones, and how much they may."""

    bytes: int
    files: int
    quota: int


@app.get("/v1/assets")
def list_assets(
    *,
    kind: Annotated[str | None, Query(max_length=30, description="Of its job; or `image`, `video` …")] = None,
    source: Annotated[Source | None, Query()] = None,
    tag: Annotated[str | None, Query(max_length=50)] = None,
    query: Annotated[str | None, Query(max_length=100, description="Words of its name or prompt.")] = None,
    deleted: Annotated[bool, Query(description="What can still be restored.")] = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> AssetPage:
    wanted = Wanted(kind, source, tag, query, deleted)
    found, following = library.page(web.account(), wanted, limit=limit, cursor=cursor)
    return AssetPage(items=[LibraryAsset.of(vars(asset)) for asset in found], next_cursor=following)


@app.get("/v1/storage")
def get_storage() -> StorageView:
    size, files = assets.stored(web.account())
    return StorageView(bytes=size, files=files, quota=settings().storage_quota)


@app.get("/v1/assets/<asset_id>")
def get_asset(asset_id: str) -> LibraryAsset:
    return LibraryAsset.of(vars(_own(asset_id)))


@app.patch("/v1/assets/<asset_id>")
def change_asset(asset_id: str, request: AssetChange) -> LibraryAsset:
    tags = None if request.tags is None else tuple(dict.fromkeys(request.tags))
    changed = library.rename(_own(asset_id), name=request.name, tags=tags)
    return LibraryAsset.of(vars(changed))


@app.delete("/v1/assets/<asset_id>", status_code=204)
def delete_asset(
    asset_id: str, force: Annotated[bool, Query(description="Also while projects use it.")] = False
) -> Response[str]:
    asset = _own(asset_id)
    projects = [] if force else usage.of_asset(asset.id)
    if projects:
        many = f"{len(projects)} projects" if len(projects) < usage.MOST else f"{usage.MOST} projects or more"
        raise Conflict(
            f"{many} use it; `force=true` deletes it all the same.",
            code="asset_in_use",
            fields={"projects": projects},
        )
    library.delete(asset, now())
    return Response(204, body="")


@app.post("/v1/assets/<asset_id>/restore")
def restore_asset(asset_id: str, idempotency_key: IdempotencyKey = None) -> LibraryAsset:
    asset = assets.find_even_deleted(asset_id, account=web.account())
    if asset is None:
        raise NotFound("There is no such asset.")
    return LibraryAsset.of(vars(library.restore(asset, now())))


@app.get("/v1/assets/<asset_id>/content", status_code=302)
def get_asset_content(
    asset_id: str,
    disposition: Annotated[Literal["attachment", "inline"], Query(description="To keep, or to look at.")] = "inline",
) -> Response[str]:
    asset = _own(asset_id)
    named = library.disposition(asset, inline=disposition == "inline")
    return Response(302, body="", headers={"location": assets.url(asset.key, disposition=named)})


def _own(asset_id: str) -> Asset:
    asset = assets.find(asset_id, account=web.account())
    if asset is None:
        raise NotFound("There is no such asset.")
    return asset


handler = web.handler(app)
