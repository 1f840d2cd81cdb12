"""GET /v1/health: that the API answers. Open; it needs nobody's answer, so it says nothing of providers or tables."""

from typing import Literal

from pydantic import BaseModel

from shared.core import web

app = web.Api(scope=web.OPEN)


class Health(BaseModel):
    status: Literal["ok"]


@app.get("/v1/health")
def get_health() -> Health:
    return Health(status="ok")


handler = web.handler(app)
