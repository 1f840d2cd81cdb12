"""GET /v1/assets/{asset_id} and its /content: what is known of a stored file, and the way to its bytes."""

from aws_lambda_powertools.event_handler import Response

from shared.core import web
from shared.core.errors import NotFound
from shared.jobs.view import LibraryAsset
from shared.media import assets
from shared.media.assets import Asset

app = web.Api()


@app.get("/v1/assets/<asset_id>")
def get_asset(asset_id: str) -> LibraryAsset:
    return LibraryAsset.of(vars(_own(asset_id)))


@app.get("/v1/assets/<asset_id>/content", status_code=302)
def get_asset_content(asset_id: str) -> Response[str]:
    return Response(302, body="", headers={"location": assets.url(_own(asset_id).key)})


def _own(asset_id: str) -> Asset:
    asset = assets.find(asset_id, account=web.account())
    if asset is None:
        raise NotFound("There is no such asset.")
    return asset


handler = web.handler(app)
