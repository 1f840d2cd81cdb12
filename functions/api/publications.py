"""POST /v1/assets/{asset_id}/publications, GET /v1/publications, GET /v1/publications/{publication_id},
POST /v1/publications/{publication_id}/cancel and GET /v1/channels: assets on social networks, through Postiz."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from shared.core import web
from shared.core.clock import now
from shared.core.errors import NotFound
from shared.core.log import logger
from shared.core.web import Cursor, IdempotencyKey, Limit
from shared.media import assets, library
from shared.publishing import accept, publish, table
from shared.publishing.accept import PublicationRequest
from shared.publishing.status import Status
from shared.publishing.table import Publication
from shared.publishing.view import ChannelList, ChannelView, PublicationPage, PublicationView

app = web.Api()

OfAsset = Annotated[str | None, Query(max_length=60, description="Only those of this asset.")]
InStatus = Annotated[Status | None, Query(description="Only those in this status.")]


@app.post("/v1/assets/<asset_id>/publications", status_code=202)
def create_publication(
    asset_id: str, request: PublicationRequest, idempotency_key: IdempotencyKey = None
) -> Response[PublicationView]:
    asset = assets.find(asset_id, account=web.account())
    if asset is None:
        raise NotFound("There is no such asset.")
    accepted = accept.accept(
        web.account(),
        asset,
        request,
        idempotency_key=idempotency_key,
        now=now(),
    )
    library.keep(asset.id, account=asset.account)
    headers = {"idempotency-replayed": "true"} if accepted.replayed else {}
    body = PublicationView.of(accepted.publication)
    return Response(202, content_type="application/json", body=body, headers=headers)


@app.get("/v1/publications")
def list_publications(
    asset_id: OfAsset = None, status: InStatus = None, limit: Limit = 20, cursor: Cursor = None
) -> PublicationPage:
    found, following = table.page(web.account(), limit=limit, cursor=cursor, asset_id=asset_id, status=status)
    return PublicationPage(items=[PublicationView.of(one) for one in found], next_cursor=following)


@app.get("/v1/publications/<publication_id>")
def get_publication(publication_id: str) -> PublicationView:
    return PublicationView.of(_own(publication_id))


@app.post("/v1/publications/<publication_id>/cancel")
def cancel_publication(publication_id: str, idempotency_key: IdempotencyKey = None) -> PublicationView:
    return PublicationView.of(publish.cancel(_own(publication_id)))


@app.get("/v1/channels")
def list_channels() -> ChannelList:
    return ChannelList(items=[ChannelView.of(channel) for channel in accept.channels_of(web.account())])


def _own(publication_id: str) -> Publication:
    publication = table.get(publication_id)
    if publication is None or publication.account != web.account():
        raise NotFound("There is no such publication.")
    logger.append_keys(publication_id=publication.id)
    return publication


handler = web.handler(app)
