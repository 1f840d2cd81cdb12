"""What a provider may cost in a day (UTC), and what it has cost.

The day's spend is counted in the transaction that settles a job, spread over a few items of the ledger table so that
settlements do not wait for each other. It is read again at most every few seconds, so a budget may be overrun by what
is accepted meanwhile and by what was under way.
"""

import random
from datetime import UTC, datetime

from shared.core import dynamo
from shared.core.clock import now as current_time
from shared.core.dynamo import Write
from shared.core.errors import Unavailable
from shared.core.log import gauge, logger
from shared.core.settings import settings

SHARDS = 8
REMEMBER_S = 10
WARN_AT_PERCENT = 80
MICRO = 1_000_000


def check(provider: str) -> None:
    """Raise Unavailable (503 `provider_budget_exhausted`) when the provider's budget of the day is spent."""
    budget = settings().budgets_usd.get(provider)
    if budget is None:
        return
    now = current_time()
    spent = _spent(provider, now)
    percent = 100 * spent / budget if budget else 100.0
    if percent >= WARN_AT_PERCENT:
        gauge("BudgetUsedPercent", percent, provider=provider)
        logger.warning("budget is running out", provider=provider, spent_usd=spent, budget_usd=budget)
    if percent >= 100:
        raise Unavailable(
            "This provider's budget of the day is spent; other models may be available.",
            code="provider_budget_exhausted",
            retry_after=round(86400 - now % 86400),
        )


def spend(provider: str, usd: float, now: float) -> Write:
    """A transaction's write that counts what a job has cost at its provider."""
    return {
        "Update": {
            "TableName": settings().ledger_table,
            "Key": dynamo.attributes(
                {"account": _partition(provider, now), "sort": f"shard#{random.randrange(SHARDS):02d}"}
            ),
            "UpdateExpression": "ADD micro_usd :cost SET expires_at = :expires",
            "ExpressionAttributeValues": dynamo.attributes(
                {":cost": round(usd * MICRO), ":expires": int(now + 400 * 86400)}
            ),
        }
    }


def spent(provider: str, now: float) -> float:
    """US dollars that the provider has cost since midnight (UTC)."""
    items, _ = dynamo.page(
        settings().ledger_table,
        partition=("account", _partition(provider, now)),
        sort=("sort", "shard#"),
        limit=SHARDS,
        cursor=None,
    )
    return sum(int(item["micro_usd"]) for item in items) / MICRO


def _partition(provider: str, now: float) -> str:
    return f"spend#{provider}#{datetime.fromtimestamp(now, UTC).date().isoformat()}"


_remembered: dict[str, tuple[float, float]] = {}


def _spent(provider: str, now: float) -> float:
    known = _remembered.get(_partition(provider, now))
    if known is None or now - known[1] > REMEMBER_S:
        known = _remembered[_partition(provider, now)] = (spent(provider, now), now)
    return known[0]
