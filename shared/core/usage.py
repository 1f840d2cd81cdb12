"""When an API key was last used, to the hour.

It is kept beside the rate limits, which every function may write, and not on the key, which they may not.
"""

from collections import OrderedDict
from collections.abc import Sequence

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import aws, clock, dynamo
from shared.core.dynamo import Refused
from shared.core.log import logger
from shared.core.settings import settings

EVERY_S = 3600
MOST_REMEMBERED = 2_000
AN_HOUR_AGO = "attribute_not_exists(last_used_at) OR last_used_at <= :before"

_noted: OrderedDict[str, float] = OrderedDict()


def note(name: str, *, until: int) -> None:
    """The key was used; `until` is when it ends. A failure is logged and costs the caller nothing."""
    now = clock.now()
    if now - _noted.get(name, 0.0) < EVERY_S:
        return
    _noted[name] = now
    if len(_noted) > MOST_REMEMBERED:
        _noted.popitem(last=False)
    write = dynamo.change(
        settings().limits_table,
        {"id": f"used#{name}"},
        "SET last_used_at = :now, expires_at = :until",
        when=AN_HOUR_AGO,
        values={"now": now, "until": until, "before": now - EVERY_S},
    )
    try:
        dynamo.update(write, client=aws.hasty_dynamodb())
    except Refused:
        return  # Another process has noted it within the hour.
    except (ClientError, BotoCoreError) as error:
        logger.warning("the use of an API key was not noted", key=name, reason=str(error))


def last_used(names: Sequence[str]) -> dict[str, float]:
    """When each of the keys was last used, as far as they were; epoch seconds."""
    if not names:
        return {}
    found = dynamo.get_all(settings().limits_table, [f"used#{name}" for name in names])
    return {key.removeprefix("used#"): float(item["last_used_at"]) for key, item in found.items()}
