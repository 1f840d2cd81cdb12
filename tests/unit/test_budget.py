"""The budget of a provider: a zero one is spent, an unset one never is."""

import pytest

from shared.core.errors import Unavailable
from shared.jobs import budget
from tests.unit.helpers import Loopback

QUERY = "DynamoDB_20120810.Query"


def costs(server: Loopback, *micro_usd: int) -> None:
    """What the shards of the day's counter say."""
    items = [
        {"account": {"S": "x"}, "sort": {"S": f"shard#{number:02d}"}, "micro_usd": {"N": str(amount)}}
        for number, amount in enumerate(micro_usd)
    ]
    server.says(QUERY, {"Items": items, "Count": len(items)})


@pytest.mark.parametrize(
    ("budgets", "spent"),
    [("replicate=10", [4_000_000, 6_000_000]), ("replicate=10", [11_000_000]), ("replicate=0", [])],
)
def test_a_provider_whose_budget_is_spent_is_not_used_until_midnight(
    cloud: Loopback, environment: pytest.MonkeyPatch, budgets: str, spent: list[int]
) -> None:
    environment.setenv("PROVIDER_BUDGETS_USD", budgets)
    costs(cloud, *spent)

    with pytest.raises(Unavailable) as refused:
        budget.check("replicate")

    assert (refused.value.status, refused.value.code) == (503, "provider_budget_exhausted")
    assert 0 < int(refused.value.headers["retry-after"]) <= 86_400


def test_a_provider_within_its_budget_or_without_one_is_used(cloud: Loopback, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PROVIDER_BUDGETS_USD", "replicate=10")
    costs(cloud, 9_999_999)

    budget.check("replicate")
    budget.check("kie")

    assert cloud.asked == [QUERY]
