"""What a function is told by its environment: one frozen object, built once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


class MissingSetting(RuntimeError):
    """A name that the template should have put into the environment is not there."""


@dataclass(frozen=True)
class Settings:
    """Names are those of the environment in lower case; the template's Globals set them for every function.

    Times are seconds. `time_scale` shortens every deadline and back-off (1 on AWS; the local cloud waits seconds where
    AWS waits minutes). `webhook_url` is the Function URL that providers call, with a slash at its end; only functions
    that talk to providers have it.
    """

    stack_name: str
    jobs_table: str
    ledger_table: str
    assets_table: str
    media_bucket: str
    generation_arn: str
    jwt_secret: str
    jwt_issuer: str
    jwt_audience: str
    jwt_algorithms: tuple[str, ...]
    jwks_url: str
    replicate_secret: str
    replicate_base_url: str
    allowed_private_origins: frozenset[str]
    provider_timeout: float
    lookup_grace: float
    time_scale: float
    webhook_url: str = ""

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
        media_bucket=read("MEDIA_BUCKET"),
        generation_arn=read("GENERATION_ARN"),
        jwt_secret=read("JWT_SECRET"),
        jwt_issuer=read("JWT_ISSUER"),
        jwt_audience=read("JWT_AUDIENCE"),
        jwt_algorithms=words("JWT_ALGORITHMS"),
        jwks_url=read("JWKS_URL"),
        replicate_secret=read("REPLICATE_SECRET"),
        replicate_base_url=read("REPLICATE_BASE_URL").rstrip("/"),
        allowed_private_origins=frozenset(words("ALLOWED_PRIVATE_ORIGINS")),
        provider_timeout=float(read("PROVIDER_TIMEOUT")),
        lookup_grace=float(read("LOOKUP_GRACE")),
        time_scale=float(read("TIME_SCALE")),
        webhook_url=environment.get("WEBHOOK_URL", ""),
    )


@cache
def settings() -> Settings:
    """The settings of this process."""
    return from_environment(os.environ)
