"""GET /v1/stock and POST /v1/stock/{stock_id}/import: photos and videos of Pexels, with their attribution."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import BaseModel, ConfigDict, Field

from shared.access import once
from shared.core import web
from shared.core.clock import now
from shared.core.text import Text
from shared.core.web import IdempotencyKey
from shared.media import assets
from shared.stock import stock
from shared.stock.pexels import Kind, Orientation, StockItem
from shared.stock.stock import Imported

app = web.Api()

Words = Annotated[Text, Query(min_length=1, max_length=200, description="What to look for.")]
OfKind = Annotated[Kind, Query(description="Photos or videos.")]
Turned = Annotated[Orientation | None, Query(description="Only those of this orientation.")]
Number = Annotated[int, Query(ge=1, le=1000, description="Which page, from 1.")]
PerPage = Annotated[int, Query(ge=1, le=80, description="How many items a page has at the most.")]


class ImportRequest(BaseModel):
    """The largest file whose longer side has at most so many pixels is taken; the smallest if all have more."""

    model_config = ConfigDict(extra="forbid", strict=True)

    longest_side: Annotated[int, Field(ge=240, le=8192)] = 1920


class Attribution(BaseModel):
    """Who made it and where it is from; show `text`, with a link to `page_url`."""

    provider: Literal["Pexels"]
    id: str
    author: str = ""
    author_url: str = ""
    page_url: str
    text: str


class StockView(BaseModel):
    """A photo or a video that can be imported."""

    model_config = ConfigDict(title="StockItem")

    id: str
    kind: Kind
    title: str
    width: int
    height: int
    duration_s: float | None
    preview_url: str | None
    attribution: Attribution

    @classmethod
    def of(cls, item: StockItem) -> "StockView":
        return cls(
            id=item.id,
            kind=item.kind,
            title=item.title,
            width=item.width,
            height=item.height,
            duration_s=item.duration_s,
            preview_url=item.preview_url,
            attribution=Attribution.model_validate(item.attribution),
        )


class StockPage(BaseModel):
    """`next_page` is null on the last page; `total` is what there is in all."""

    items: list[StockView]
    next_page: int | None
    total: int


class ImportedAsset(BaseModel):
    """An asset as `GET /v1/assets/{asset_id}` has it, with where it is from."""

    id: str
    kind: str
    content_type: str
    url: str
    bytes: int
    sha256: str | None
    width: int | None
    height: int | None
    duration_s: float | None
    attribution: Attribution
    created_at: str

    @classmethod
    def of(cls, imported: Imported) -> "ImportedAsset":
        asset = imported.asset
        return cls(
            id=asset.id,
            kind=asset.kind,
            content_type=asset.content_type,
            url=assets.url(asset.key),
            bytes=asset.bytes,
            sha256=asset.sha256,
            width=asset.width,
            height=asset.height,
            duration_s=asset.duration_s,
            attribution=Attribution.model_validate(asset.attribution),
            created_at=asset.created_at,
        )


@app.get("/v1/stock")
def search_stock(
    query: Words, kind: OfKind = "photo", orientation: Turned = None, page: Number = 1, per_page: PerPage = 20
) -> StockPage:
    found = stock.search(kind, query, orientation=orientation, page=page, per_page=per_page)
    items = [StockView.of(item) for item in found.items]
    return StockPage(items=items, next_page=page + 1 if found.more else None, total=found.total)


@app.post("/v1/stock/<stock_id>/import", status_code=201)
def import_stock(
    stock_id: str, request: ImportRequest, idempotency_key: IdempotencyKey = None
) -> Response[ImportedAsset]:
    repeated = idempotency_key is not None and _is_repeated(idempotency_key, stock_id, request)
    imported = stock.take(web.account(), stock_id, longest_side=request.longest_side)
    headers = {"idempotency-replayed": "true"} if repeated and imported.known else {}
    return Response(201, content_type="application/json", body=ImportedAsset.of(imported), headers=headers)


def _is_repeated(key: str, stock_id: str, request: ImportRequest) -> bool:
    """Whether the key was used with this very request before. A repeat finds the same asset, so nothing but the
    request is to be remembered. Raises Invalid when it was used with another one."""
    asked = {"stock_id": stock_id, **request.model_dump()}
    _, known = once.commit(web.account(), "import_stock", key, request=asked, answer={}, writes=[], now=now())
    return known


handler = web.handler(app)
