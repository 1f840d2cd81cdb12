"""GET /v1/credits and GET /v1/credits/entries: the caller's balances and the ledger's lines behind them."""

from pydantic import BaseModel

from shared.core import web
from shared.core.web import Cursor, Limit
from shared.credits import ledger
from shared.credits.view import EntryView

app = web.Api()


class Balance(BaseModel):
    """Whole credits. `held` is for jobs under way, `spent` for those that have succeeded."""

    available: int
    held: int
    spent: int


class EntryPage(BaseModel):
    items: list[EntryView]
    next_cursor: str | None


@app.get("/v1/credits")
def get_credits() -> Balance:
    account = ledger.read(web.account())
    return Balance(available=account.available, held=account.held, spent=account.spent)


@app.get("/v1/credits/entries")
def list_credit_entries(limit: Limit = 20, cursor: Cursor = None) -> EntryPage:
    entries, following = ledger.entries(web.account(), limit=limit, cursor=cursor)
    return EntryPage(items=[EntryView.of(entry) for entry in entries], next_cursor=following)


handler = web.handler(app)
