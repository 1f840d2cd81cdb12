"""What a function is told by its environment: one frozen object, built once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


class MissingSetting(RuntimeError):
    """A name that the template should have put into the environment is not there."""


PROVIDERS = ("replicate", "kie", "fal", "openai", "elevenlabs", "gemini")
IN_HOUSE = "atelier"
"""What the catalogue calls us: work of our own needs no key, no budget and no circuit, and may be repeated freely."""
SERVICES = ("postiz", "pexels")
"""Others that we call with keys of our own; they make nothing that is paid for with credits."""


@dataclass(frozen=True)
class Settings:
    """Names are those of the environment in lower case; the template's Globals set them for every function.

    Times are seconds. `time_scale` shortens every deadline and back-off (1 on AWS; the local cloud waits seconds where
    AWS waits minutes). `webhook_url` is the Function URL that providers call, with a slash at its end; only functions
    that talk to providers have it. `websocket_url`, without a slash at its end, is for functions that have to do with
    realtime connections. `jobs_in_flight` is per account and kind, `storage_quota` bytes per account.
    `budgets_usd` are per provider and day (UTC); a provider that is not named has none.
    """

    stack_name: str
    jobs_table: str
    ledger_table: str
    assets_table: str
    circuits_table: str
    access_table: str
    limits_table: str
    audit_table: str
    deliveries_table: str
    connections_table: str
    projects_table: str
    project_lists_table: str
    publications_table: str
    stock_table: str
    callbacks_queue: str
    media_bucket: str
    generation_arn: str
    publishing_arn: str
    jwt_secret: str
    api_keys_secret: str
    jwt_issuer: str
    jwt_audience: str
    jwt_algorithms: tuple[str, ...]
    jwks_url: str
    default_plan: str
    base_urls: Mapping[str, str]
    fal_jwks_url: str
    allowed_private_origins: frozenset[str]
    provider_timeout: float
    generate_timeout: float
    callback_timeout: float
    lookup_grace: float
    time_scale: float
    jobs_in_flight: int
    storage_quota: int
    budgets_usd: Mapping[str, float]
    webhook_url: str = ""
    websocket_url: str = ""

    def secret_name(self, provider: str) -> str:
        """The secret with a provider's keys: `{"api_keys": [...], "webhook_secret": "..."}`."""
        return f"{self.stack_name}/{provider}"

    def scaled(self, seconds: float) -> int:
        """`seconds` of AWS in seconds of this deployment, at least 1."""
        return max(1, round(seconds * self.time_scale))


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings; raises MissingSetting naming the first name that is absent."""

    def read(name: str) -> str:
        try:
            return environment[name]
        except KeyError:
            raise MissingSetting(f"environment variable {name} is not set") from None

    def words(name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in read(name).split(",") if word.strip())

    return Settings(
        stack_name=read("STACK_NAME"),
        jobs_table=read("JOBS_TABLE"),
        ledger_table=read("LEDGER_TABLE"),
        assets_table=read("ASSETS_TABLE"),
        circuits_table=read("CIRCUITS_TABLE"),
        access_table=read("ACCESS_TABLE"),
        limits_table=read("LIMITS_TABLE"),
        audit_table=read("AUDIT_TABLE"),
        deliveries_table=read("DELIVERIES_TABLE"),
        connections_table=read("CONNECTIONS_TABLE"),
        projects_table=read("PROJECTS_TABLE"),
        project_lists_table=read("PROJECT_LISTS_TABLE"),
        publications_table=read("PUBLICATIONS_TABLE"),
        stock_table=read("STOCK_TABLE"),
        callbacks_queue=read("CALLBACKS_QUEUE"),
        media_bucket=read("MEDIA_BUCKET"),
        generation_arn=read("GENERATION_ARN"),
        publishing_arn=read("PUBLISHING_ARN"),
        jwt_secret=read("JWT_SECRET"),
        api_keys_secret=read("API_KEYS_SECRET"),
        jwt_issuer=read("JWT_ISSUER"),
        jwt_audience=read("JWT_AUDIENCE"),
        jwt_algorithms=words("JWT_ALGORITHMS"),
        jwks_url=read("JWKS_URL"),
        default_plan=read("DEFAULT_PLAN"),
        base_urls={name: read(f"{name.upper()}_BASE_URL").rstrip("/") for name in (*PROVIDERS, *SERVICES)},
        fal_jwks_url=read("FAL_JWKS_URL"),
        allowed_private_origins=frozenset(words("ALLOWED_PRIVATE_ORIGINS")),
        provider_timeout=float(read("PROVIDER_TIMEOUT")),
        generate_timeout=float(read("GENERATE_TIMEOUT")),
        callback_timeout=float(read("CALLBACK_TIMEOUT")),
        lookup_grace=float(read("LOOKUP_GRACE")),
        time_scale=float(read("TIME_SCALE")),
        jobs_in_flight=int(read("JOBS_IN_FLIGHT")),
        storage_quota=int(read("STORAGE_QUOTA_BYTES")),
        budgets_usd=_budgets(read("PROVIDER_BUDGETS_USD")),
        webhook_url=environment.get("WEBHOOK_URL", ""),
        websocket_url=environment.get("WEBSOCKET_URL", ""),
    )


def _budgets(text: str) -> dict[str, float]:
    """`replicate=200,kie=50` in US dollars a day. Raises ValueError."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip(): float(amount) for name, _, amount in pairs}


@cache
def settings() -> Settings:
    """The settings of this process."""
    return from_environment(os.environ)


def tracing() -> tuple[str, str]:
    """Where X-Ray's daemon listens, and the trace that this invocation belongs to; Lambda sets it anew for each."""
    return os.environ.get("AWS_XRAY_DAEMON_ADDRESS", ""), os.environ.get("_X_AMZN_TRACE_ID", "")
