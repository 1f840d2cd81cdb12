"""POST /v1/admin/accounts/{account}/grants: give an account credits (scope `admin`)."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict, Field

from shared.core import auth, ids, web
from shared.core.clock import now
from shared.core.errors import Invalid
from shared.core.text import Text
from shared.core.web import IdempotencyKey
from shared.credits import ledger
from shared.credits.view import EntryView

app = web.Api(scope="admin")

LARGEST_GRANT = 1_000_000_000


class GrantRequest(BaseModel):
    """Credits to give; `reason` stands in the ledger."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount: Annotated[int, Field(ge=1, le=LARGEST_GRANT)]
    reason: Annotated[Text | None, Field(max_length=200)] = None


@app.post("/v1/admin/accounts/<account_id>/grants", status_code=201)
def grant_credits(
    account_id: str, request: GrantRequest, idempotency_key: IdempotencyKey = None
) -> Response[EntryView]:
    if not auth.ACCOUNT.fullmatch(account_id):
        raise Invalid("The request is not valid.", errors=[{"pointer": "?account_id", "detail": "is no account id"}])
    key = ids.derived("grant", account_id, idempotency_key) if idempotency_key else ids.new("grant")
    entry, replayed = ledger.grant_once(account_id, key=key, amount=request.amount, now=now(), reason=request.reason)
    if replayed and (entry.amount, entry.reason) != (request.amount, request.reason):
        raise web.key_reused()
    headers = {"idempotency-replayed": "true"} if replayed else {}
    return Response(201, content_type="application/json", body=EntryView.of(entry), headers=headers)


handler = web.handler(app)
