"""Rate limits as they are kept: one small item per bucket, moved by one conditional write per request (see gcra.py).

A request that meets a busy bucket moves `tat` on (A), one that meets an idle bucket sets it anew (B). Which of the two
is tried first is what this process saw last; a second write happens only when that has changed. `tat` never goes back,
so a bucket that was seen full is full until then, and its requests are refused without a write.

The limits are a courtesy among customers and no lock: while their table cannot be written, requests pass, and the
metric RateLimitsUnavailable says so.
"""

import ipaddress
import time
import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from shared.core import aws, clock, dynamo
from shared.core.dynamo import Refused, Write
from shared.core.gcra import SECOND, Rule, Verdict, seconds
from shared.core.log import count, logger
from shared.core.settings import settings

FILE = Path(__file__).parent.parent / "limits.toml"
CLASSES = ("read", "create", "write", "admin", "open", "failed")
MOST_REMEMBERED = 10_000
REST_S = 5
# The bucket is in use, and there is room.
BUSY = "tat > :now AND tat <= :room"
# Nobody was here, or so long ago that it no longer counts.
IDLE = "attribute_not_exists(tat) OR tat <= :now"
# tat only grows while a request is being judged, so: idle no more, busy no more, full.
TRIES = 3

_seen: OrderedDict[str, int] = OrderedDict()
"""The last `tat` of each bucket that this process saw: a lower bound of what it is now."""
_unavailable: dict[str, float] = {}
"""`until`: when the table is tried again after it did not answer."""


@cache
def plans() -> Mapping[str, Mapping[str, Rule]]:
    """Every plan's rules by class of route."""
    document = tomllib.loads(FILE.read_text())["plans"]
    return {
        plan: {name: Rule(name, told["quota"], told["window_s"]) for name, told in rules.items()}
        for plan, rules in document.items()
    }


def rule(plan: str, name: str) -> Rule:
    """The rule of a class of route; that of the stack's DefaultPlan where the plan is not (or no longer) known."""
    if plan not in plans():
        logger.error("no such plan in limits.toml", plan=plan)
        plan = settings().default_plan
    return plans()[plan][name]


def of_account(account: str, plan: str | None, name: str) -> tuple[str, Rule]:
    """The bucket of an account for a class of route, and its rule."""
    return f"account#{account}#{name}", rule(plan or settings().default_plan, name)


def of_address(address: str, name: str) -> tuple[str, Rule]:
    """The bucket of an IP address; for IPv6 of its /64, which is what one household or server has."""
    try:
        parsed = ipaddress.ip_address(address)
        network = ipaddress.ip_network(f"{address}/64", strict=False) if parsed.version == 6 else parsed
    except ValueError:
        return f"ip#unknown#{name}", rule(settings().default_plan, name)
    return f"ip#{network}#{name}", rule(settings().default_plan, name)


def take(bucket: str, rule: Rule) -> Verdict | None:
    """Count one request; None while the table does not answer."""
    now = round(clock.now() * SECOND)
    tat = _seen.get(bucket, 0)
    if tat > rule.room(now):
        return rule.refused(tat, now)
    if time.monotonic() < _unavailable.get("until", 0.0):
        return None
    for _ in range(TRIES):
        try:
            tat = int(dynamo.update(_move(bucket, rule, tat, now), client=aws.hasty_dynamodb())["tat"])
        except Refused as refused:
            met = refused.found[0]
            tat = int(met["tat"]) if met else 0
            if tat > rule.room(now):
                _remember(bucket, tat)
                return rule.refused(tat, now)
            continue
        except (ClientError, BotoCoreError) as error:
            logger.error("rate limits are out of reach; the request passes", reason=str(error))
            count("RateLimitsUnavailable")
            _unavailable["until"] = time.monotonic() + REST_S
            return None
        _remember(bucket, tat)
        return rule.allowed(tat, now)
    logger.error("a bucket has changed its mind too often; the request passes", bucket=bucket)
    return None


def headers(rule: Rule, verdict: Verdict | None) -> dict[str, str]:
    """What an answer says of its limit (draft-ietf-httpapi-ratelimit-headers, since -08): the policy, and what is left
    of it while that is known."""
    told = {"ratelimit-policy": f'"{rule.name}";q={rule.quota};w={rule.window_s}'}
    if verdict is not None:
        told["ratelimit"] = f'"{rule.name}";r={verdict.remaining};t={verdict.reset_s}'
    return told


def _move(bucket: str, rule: Rule, tat: int, now: int) -> Write:
    expires = seconds(now) + rule.window_s + 60
    if tat > now:
        change, when, values = "SET tat = tat + :cost", BUSY, {"now": now, "room": rule.room(now)}
    else:
        change, when, values = "SET tat = :start + :cost", IDLE, {"now": now, "start": now}
    return dynamo.change(
        settings().limits_table,
        {"id": bucket},
        f"{change}, expires_at = :expires",
        when=when,
        values={**values, "cost": rule.interval, "expires": expires},
    )


def _remember(bucket: str, tat: int) -> None:
    _seen[bucket] = tat
    _seen.move_to_end(bucket)
    if len(_seen) > MOST_REMEMBERED:
        _seen.popitem(last=False)
