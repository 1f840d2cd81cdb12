"""A full environment for every unit test, with nothing remembered from the test before."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from aws_lambda_powertools.utilities.parameters.base import DEFAULT_PROVIDERS
from hypothesis import settings as hypothesis_settings

from shared.core import auth, limits, standing, usage
from shared.core.log import logger
from shared.core.settings import settings
from shared.credits import ledger
from shared.jobs import budget, callbacks
from shared.providers import breaker, elevenlabs, fal, gemini, keys, kie, openai, replicate
from shared.publishing import postiz
from shared.stock import pexels
from tests.unit.helpers import ENVIRONMENT, JWT_KEY, REPLICATE_KEY, WEBHOOK_SECRET, Loopback, loopback

# A busy machine is no failure.
hypothesis_settings.register_profile("unit", deadline=None, max_examples=60)
hypothesis_settings.load_profile("unit")


@pytest.fixture(scope="session")
def server() -> Iterator[Loopback]:
    """The one server behind every AWS client; clients are slow to make, so they and their endpoint stay."""
    with loopback() as listening:
        yield listening


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, server: Loopback) -> Iterator[pytest.MonkeyPatch]:
    """The settings of a function; change one with `environment.setenv` before anything has read them."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    server.answers.clear()
    server.seen.clear()
    server.buckets.clear()
    server.lets_in()
    _forget()
    yield monkeypatch
    _forget()


def _forget() -> None:
    connections = (module.connection for module in (elevenlabs, fal, gemini, kie, openai, pexels, postiz, replicate))
    for cached in (settings, auth._key_set, *connections, fal._key_server, breaker._through, breaker._store):
        cached.cache_clear()
    for provider in DEFAULT_PROVIDERS.values():
        provider.clear_cache()
    for remembered in (replicate._secret, fal._known, fal._asked, keys._resting, ledger._recent, budget._remembered):
        remembered.clear()
    for memory in (standing._items, limits._seen, limits._unavailable, usage._noted, callbacks._signing):
        memory.clear()
    logger.remove_keys(["job_id", "account", "request_id", "webhook_request_id"])


@pytest.fixture
def cloud(server: Loopback) -> Loopback:
    """AWS on loopback: Secrets Manager with both secrets; a test adds what else it needs."""
    server.keeps_secrets(
        {
            "atelier/jwt": JWT_KEY,
            "atelier/replicate": json.dumps({"api_keys": [REPLICATE_KEY], "webhook_secret": WEBHOOK_SECRET}),
        }
    )
    return server


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The lines of the log, as CloudWatch would get them."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logger.registered_formatter)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
