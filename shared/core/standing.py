"""What the access table says of tokens, accounts and API keys, remembered for ten seconds at the most.

    id                      item
    account#<account>       plan; tokens_valid_after: what was issued until then is refused
    jti#<account>#<token>   a revoked token, until it expires
    key#<name>              an API key: account, scopes, hash, issued_at, expires_at

So a revocation holds everywhere after ten seconds. While the table cannot be read nobody is let in.
"""

from collections import OrderedDict
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import clock, dynamo
from shared.core.dynamo import Item
from shared.core.errors import Unavailable
from shared.core.log import logger
from shared.core.settings import settings

MAX_AGE_S = 10
MOST_REMEMBERED = 2_000
# Nothing else of these items (an account's callback secrets, say) belongs into the memory of every function.
ATTRIBUTES = ("id", "account", "plan", "tokens_valid_after", "scopes", "hash", "issued_at", "expires_at")

_items: OrderedDict[str, tuple[float, Item | None]] = OrderedDict()


@dataclass(frozen=True)
class Standing:
    """An account's plan (None: the stack's default) and until when what was issued to it is void."""

    plan: str | None
    tokens_valid_after: float

    def holds(self, issued_at: float | None) -> bool:
        """Whether something issued at that time still counts. Tokens tell whole seconds: one of the very second of a
        revocation is taken to be older."""
        return not self.tokens_valid_after or (issued_at is not None and issued_at > self.tokens_valid_after)


def account_id(account: str) -> str:
    """The id of an account's item."""
    return f"account#{account}"


def token_id(account: str, token: str) -> str:
    """The id of a revoked token's item. The account is part of it, so that nobody can revoke what is not theirs."""
    return f"jti#{account}#{token}"


def key_id(name: str) -> str:
    """The id of an API key's item."""
    return f"key#{name}"


def of_token(account: str, token: str) -> tuple[Standing, bool]:
    """The account's standing and whether the token is revoked. Raises Unavailable."""
    found = _read(account_id(account), token_id(account, token))
    return _standing(found[account_id(account)]), found[token_id(account, token)] is not None


def of_account(account: str) -> Standing:
    """The account's standing. Raises Unavailable."""
    return _standing(_read(account_id(account))[account_id(account)])


def of_key(name: str) -> Item | None:
    """An API key's item. Raises Unavailable."""
    return _read(key_id(name))[key_id(name)]


def forget(item_id: str) -> None:
    """Read this anew the next time: this process has just changed it."""
    _items.pop(item_id, None)


def _standing(item: Item | None) -> Standing:
    item = item or {}
    return Standing(item.get("plan"), float(item.get("tokens_valid_after", 0)))


def _read(*wanted: str) -> dict[str, Item | None]:
    # The wall clock: a process that was frozen must not take what it remembers for young.
    now = clock.now()
    stale = [one for one in wanted if one not in _items or not 0 <= now - _items[one][0] < MAX_AGE_S]
    if stale:
        try:
            found = dynamo.get_all(settings().access_table, stale, attributes_of=ATTRIBUTES)
        except (ClientError, BotoCoreError) as error:
            logger.error("the access table is out of reach; nobody is let in", reason=str(error))
            raise Unavailable("Whether this token still holds cannot be told.", code="access_unavailable") from error
        for one in stale:
            _items[one] = (now, found.get(one))
            _items.move_to_end(one)
    answer = {one: _items[one][1] for one in wanted}
    while len(_items) > MOST_REMEMBERED:
        _items.popitem(last=False)
    return answer
