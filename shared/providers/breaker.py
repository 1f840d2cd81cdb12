"""The circuit breaker before each provider (Powertools'): one that is down is left alone until a probe succeeds.

Its state is shared by all functions in a small table. Each process remembers for a minute that a circuit is closed, and
reads an open one anew each time: another process may have closed it.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.circuit_breaker import (
    CircuitBreakerConfig,
    CircuitBreakerOpenError,
    CircuitState,
    CircuitTransition,
    circuit_breaker,
)
from aws_lambda_powertools.utilities.circuit_breaker.persistence import CircuitBreakerDynamoDBPersistence
from aws_lambda_powertools.utilities.circuit_breaker.persistence.record import CircuitStateRecord

from shared.core import aws
from shared.core.log import count, logger
from shared.core.settings import settings
from shared.providers.outcomes import Ambiguous, ProviderError, Silent, Unreachable

SILENCE = (Ambiguous, Silent, Unreachable)
FAILURES = 5
RECOVERY_S = 30
REMEMBER_CLOSED_S = 60


def guarded[T](provider: str, call: Callable[[], T]) -> T:
    """The result of `call`; Unreachable, without calling, while the provider's circuit is open.

    Only silence counts as failure: a refusal is an answer. It ends a row of failures, and it closes a circuit that was
    probed.
    """

    def answer() -> T | ProviderError:
        try:
            return call()
        except SILENCE:
            raise
        except ProviderError as refusal:
            return refusal

    try:
        result: T | ProviderError = _through(provider)(answer)
    except CircuitBreakerOpenError as error:
        wait = settings().scaled(RECOVERY_S)
        raise Unreachable("the provider is down; it is left alone for a while", retry_after=wait) from error
    if isinstance(result, ProviderError):
        raise result
    return result


@cache
def _through(provider: str) -> Callable[[Callable[[], Any]], Any]:
    @circuit_breaker(name=provider, persistence_store=_store(), on_transition=_told, config=_config())
    def through(call: Callable[[], Any]) -> Any:
        return call()

    return through  # type: ignore[no-any-return]


class _Store(CircuitBreakerDynamoDBPersistence):
    def _retrieve_from_cache(self, name: str) -> CircuitStateRecord | None:
        remembered = super()._retrieve_from_cache(name)
        return remembered if remembered is not None and remembered.state == CircuitState.CLOSED else None


@cache
def _store() -> _Store:
    return _Store(table_name=settings().circuits_table, boto3_client=aws.dynamodb())


def _config() -> CircuitBreakerConfig:
    return CircuitBreakerConfig(
        failure_threshold=FAILURES,
        recovery_timeout=settings().scaled(RECOVERY_S),
        success_threshold=1,
        handled_exceptions=SILENCE,
        local_cache_max_age=REMEMBER_CLOSED_S,
    )


def _told(transition: CircuitTransition) -> None:
    logger.warning(
        "circuit", provider=transition.circuit_name, before=str(transition.from_state), now=str(transition.to_state)
    )
    if transition.to_state == CircuitState.OPEN:
        count("CircuitOpened", provider=transition.circuit_name)
