"""POST /v1/realtime/tickets: where to connect to for the caller's events, once, within a minute."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, Field

from shared.core import web
from shared.core.clock import iso, now
from shared.core.settings import settings
from shared.core.web import IdempotencyKey
from shared.delivery import connections
from shared.delivery.connections import Holder

app = web.Api()


class TicketView(BaseModel):
    """The address of a WebSocket with a ticket in it: good for one connection, until `expires_at`."""

    url: Annotated[str, Field(description="`wss://…?ticket=…`. Who has it hears what the account hears.")]
    expires_at: str


@app.post("/v1/realtime/tickets", status_code=201)
def create_ticket(idempotency_key: IdempotencyKey = None) -> Response[TicketView]:
    caller = web.caller()
    holder = Holder(caller.account, caller.credential, caller.is_key, asked_at=now(), ends_at=caller.expires_at)
    ticket = connections.issue(holder, idempotency_key=idempotency_key)
    body = TicketView(url=f"{settings().websocket_url}?ticket={ticket.text}", expires_at=iso(ticket.expires_at))
    headers = {"idempotency-replayed": "true"} if ticket.replayed else {}
    return Response(201, content_type="application/json", body=body, headers=headers)


handler = web.handler(app)
