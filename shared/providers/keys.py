"""Key pools: each provider's secret holds one key or several. A key that is refused rests, and the next is used.

A job remembers which key made its prediction, by a fingerprint that says nothing of the key; a prediction is asked for
with that key for as long as the secret has it. What rests is known to this process only: another one learns it by the
same refusal.
"""

import hashlib
from collections.abc import Callable, Iterator

from shared.core import secrets
from shared.core.clock import now as current_time
from shared.core.errors import Unavailable
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.providers.outcomes import KeyRefused, OperatorNeeded, Throttled

REST_S = 30.0


def pool(provider: str) -> list[str]:
    """The provider's keys. Raises Unavailable (503 `unconfigured`) while there are none."""
    name = settings().secret_name(provider)
    keys = secrets.document(name).get("api_keys")
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
        logger.error("secret names no api_keys", secret=name)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return keys


def rested(provider: str) -> Iterator[str]:
    """The keys that do not rest, in their order; all of them when every one does."""
    now = current_time()
    keys = pool(provider)
    awake = [key for key in keys if _resting.get(fingerprint(key), 0) <= now]
    yield from awake or keys


def rest(key: str, seconds: float | None) -> None:
    """Do not use the key for a while: for as long as the provider asked, or half a minute."""
    _resting[fingerprint(key)] = current_time() + (seconds or REST_S)


def with_one[T](provider: str, call: Callable[[str], T]) -> T:
    """The result of `call` with the first key that is neither throttled nor refused. Raises what the last one met:
    Throttled rather than KeyRefused, since that passes. Whatever needs an operator is told here, once for each key."""
    met: Throttled | KeyRefused | None = None
    for key in rested(provider):
        try:
            return call(key)
        except Throttled as error:
            rest(key, error.retry_after)
            met = error
        except OperatorNeeded as error:
            logger.error("operator needed", provider=provider, key=fingerprint(key), reason=error.detail)
            count("OperatorNeeded", provider=provider)
            if not isinstance(error, KeyRefused):
                raise
            rest(key, None)
            met = met if isinstance(met, Throttled) else error
    raise met or KeyRefused("there is no key")


def made_by(provider: str, known: str | None) -> str:
    """The key with the fingerprint `known`; the first of the pool once the secret has it no more."""
    keys = pool(provider)
    return next((key for key in keys if fingerprint(key) == known), keys[0])


def fingerprint(key: str) -> str:
    """Twelve hex digits that tell keys apart."""
    return hashlib.sha256(f"atelier\0{key}".encode()).hexdigest()[:12]


_resting: dict[str, float] = {}
