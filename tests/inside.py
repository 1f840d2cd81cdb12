"""The product's code run inside the test process against the deployed stack, with AWS calls that fail on command.

`inside(stack)` gives this process the environment of a deployed function. `aws_calls(fault)` then names every AWS call
that the code makes and lets one of them go wrong: the network breaks before the request is sent or after the service
has acted, once (botocore repeats the call) or until botocore gives up; or the process ends at that very point.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
import botocore.endpoint
import botocore.handlers
import pytest
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.circuit_breaker import base as circuits
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

from local.cloud import ROOT_KEY, Stack
from shared.core import aws, limits, standing, usage
from shared.core.settings import settings
from shared.credits import ledger
from shared.jobs import batches, budget, callbacks
from shared.providers import breaker, elevenlabs, fal, gemini, keys, kie, openai, replicate
from shared.publishing import postiz
from shared.stock import pexels

Effect = Literal["before", "after"]
How = Literal["once", "for_good", "death"]


class Killed(BaseException):
    """The process ends here: no handler, no retry, no clean-up that a real end would not do either."""


@dataclass(frozen=True)
class Fault:
    """What happens to the AWS call number `call` (from 0) of an invocation, before or after it took effect."""

    call: int
    effect: Effect
    how: How


@dataclass
class Calls:
    """The AWS calls that were made, retries not counted, and how often the faulty one was tried."""

    fault: Fault | None
    names: list[str] = field(default_factory=list)
    tries: int = 0


class _NoSleep:
    """botocore's back-off takes seconds and proves nothing."""

    @staticmethod
    def sleep(seconds: float) -> None:
        pass


class _InTurn:
    """A pool of threads without threads: its calls have an order, and a death in one of them is that of the process."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> "_InTurn":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @staticmethod
    def map[T, R](work: Callable[[T], R], things: Iterable[T]) -> list[R]:
        return [work(thing) for thing in things]


_current: ContextVar[Calls | None] = ContextVar("calls", default=None)
_network = URLLib3Session()


@contextmanager
def inside(stack: Stack, function: str = "SubmitFunction", **overrides: str) -> Iterator[None]:
    """Be the deployed `function`: its environment with `overrides`, root credentials, nothing remembered."""
    deployed = stack.client("lambda").get_function_configuration(FunctionName=stack.functions[function])
    environment = {
        **deployed["Environment"]["Variables"],
        "AWS_ENDPOINT_URL": stack.aws_endpoint_url,
        "AWS_DEFAULT_REGION": stack.region,
        "AWS_REGION": stack.region,
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        **overrides,
    }
    hooks: list[tuple[str, Any]] = [("before-call", _count), ("before-send", _strike)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [*botocore.handlers.BUILTIN_HANDLERS, *hooks])
        patch.setattr(botocore.endpoint, "time", _NoSleep)
        patch.setattr(batches, "ThreadPoolExecutor", _InTurn)
        forget_everything()
        close_circuits(stack)
        yield
    forget_everything()


def forget_everything() -> None:
    """What a new process does not know: settings, connections, clients (and their quota of retries)."""
    settings.cache_clear()
    for client in (aws.dynamodb, aws.hasty_dynamodb, aws.stepfunctions, aws.s3, aws.sqs, aws.sockets):
        client.cache_clear()
    for provider in (replicate, kie, fal, openai, elevenlabs, gemini, postiz, pexels):
        provider.connection.cache_clear()
    boto3.DEFAULT_SESSION = None
    parameters.clear_caches()  # type: ignore[no-untyped-call]
    forget_answers()


def close_circuits(stack: Stack) -> None:
    """What earlier tests have done to providers says nothing of the next: their circuits are closed again."""
    client, table = stack.client("dynamodb"), settings().circuits_table
    for item in client.scan(TableName=table, ConsistentRead=True)["Items"]:
        client.delete_item(TableName=table, Key={"id": item["id"]})


def forget_answers() -> None:
    """What a process remembers of the answers it got: secrets, accounts, and which providers are well."""
    for memory in (ledger._recent, budget._remembered, replicate._secret, fal._known, fal._asked, keys._resting):
        memory.clear()
    for known in (standing._items, limits._seen, limits._unavailable, usage._noted, callbacks._signing):
        known.clear()
    for provider in DEFAULT_PROVIDERS.values():
        provider.clear_cache()
    # The store remembers what it has read, and Powertools counts the failures of this process by the circuit's name.
    breaker._through.cache_clear()
    breaker._store.cache_clear()
    for counter in (circuits._LOCAL_FAILURES, circuits._LOCAL_SUCCESSES, circuits._LAST_OBSERVED_STATE):
        counter.clear()


@contextmanager
def aws_calls(fault: Fault | None = None) -> Iterator[Calls]:
    """Within the block: this thread's AWS calls, one of them at fault."""
    calls = Calls(fault)
    token = _current.set(calls)
    try:
        yield calls
    finally:
        _current.reset(token)


def _count(model: Any, **_: Any) -> None:
    calls = _current.get()
    if calls is not None:
        calls.names.append(model.name)


def _strike(request: Any, **_: Any) -> None:
    calls = _current.get()
    if calls is None or calls.fault is None or len(calls.names) - 1 != calls.fault.call:
        return
    calls.tries += 1
    if calls.fault.how == "once" and calls.tries > 1:
        return
    if calls.fault.effect == "after":
        _network.send(request)
    if calls.fault.how == "death":
        raise Killed
    raise ConnectionClosedError(endpoint_url=request.url)
