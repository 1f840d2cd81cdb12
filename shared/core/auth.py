"""Who is calling: a JSON Web Token, verified by PyJWT inside the function, or an API key.

The list of algorithms comes from configuration, never from the token. HMAC algorithms use the secret, asymmetric ones
the key set (JWKS); a configuration that mixes both is refused, since that is how algorithm confusion begins. What names
a key inside a token (`jku`, `x5u`, `jwk`) is never looked at.

A valid signature is not enough: `standing` says whether the token, or everything its account has, was revoked.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import jwt

from shared.core import api_keys, clock, secrets, standing, usage
from shared.core.errors import Forbidden, Unauthorized, Unavailable
from shared.core.log import logger
from shared.core.settings import settings

ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|+-]{0,127}")
LONGEST_CREDENTIAL = 8 * 1024
LONGEST_JTI = 255
LEEWAY_S = 5
SHORTEST_HMAC_SECRET = 32
JWKS_TIMEOUT_S = 3
JWKS_MAX_AGE_S = 300
"""After so long a withdrawn key opens nothing any more."""
JWKS_COOLDOWN_S = 60
"""An unknown `kid` makes us ask the issuer again at most this often, in each process."""
JWKS_REST_S = 5
"""An issuer that does not answer is left alone for so long, while we have none of its keys."""


@dataclass(frozen=True)
class Token:
    """What a token says once its signature was verified. `id` is its `jti`; a token without one goes by its hash."""

    account: str
    scopes: frozenset[str]
    id: str
    issued_at: float | None
    expires_at: float


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: the account is the token's `sub`, or the one that an API key belongs to.

    `credential` is the id of the token or the name of the key (`is_key`), and ends at `expires_at`.
    """

    account: str
    scopes: frozenset[str]
    credential: str
    expires_at: float
    plan: str | None = None
    is_key: bool = False

    @property
    def actor(self) -> str:
        """Who it is in the audit: the account, and the API key that it came with."""
        return f"{self.account}/key_{self.credential}" if self.is_key else self.account


def authenticate(authorization: str | None) -> Caller:
    """The caller behind an `Authorization` header.

    Raises Unauthorized for any flaw of the token or key, Unavailable while no secret or key set is configured, and
    while it cannot be told what was revoked.
    """
    credential = _bearer(authorization)
    if api_keys.looks_like_one(credential):
        return _key_holder(credential)
    token = verify(credential)
    known, revoked = standing.of_token(token.account, token.id)
    if revoked or not known.holds(token.issued_at):
        logger.info("token refused", reason="revoked")
        raise Unauthorized
    return Caller(token.account, token.scopes, token.id, token.expires_at, known.plan)


def require(caller: Caller, scope: str) -> None:
    """Raise Forbidden when the caller lacks the scope."""
    if scope not in caller.scopes:
        raise Forbidden(f"This needs the scope '{scope}'.")


def verify(token: str) -> Token:
    """What the token says; not yet whether it was revoked. Raises as `authenticate` does."""
    algorithms = settings().jwt_algorithms
    symmetric = {name for name in algorithms if name.startswith("HS")}
    if not algorithms or (symmetric and symmetric != set(algorithms)):
        logger.error("JWT_ALGORITHMS must name HMAC or asymmetric algorithms, not both", algorithms=algorithms)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    try:
        claims = jwt.decode(
            token,
            _hmac_key() if symmetric else _published_key(token),
            algorithms=list(algorithms),
            issuer=settings().jwt_issuer,
            audience=settings().jwt_audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, json.JSONDecodeError) as error:
        logger.error("key set is out of reach", jwks_url=settings().jwks_url, reason=str(error))
        raise Unavailable("The keys that verify tokens are out of reach.", code="keys_unavailable") from error
    # PyJWT expects numbers where it compares times.
    except (jwt.PyJWTError, OverflowError, TypeError) as error:
        logger.info("token refused", reason=type(error).__name__)
        raise Unauthorized from error
    return _token(claims, token)


def _bearer(authorization: str | None) -> str:
    scheme, _, credential = (authorization or "").partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential or len(credential) > LONGEST_CREDENTIAL:
        raise Unauthorized
    return credential


def _key_holder(key: str) -> Caller:
    """The caller behind an API key. One that is no longer there, has expired, or was made before everything of its
    account was revoked, is refused like one that never was."""
    name = api_keys.name_of(key)
    item = standing.of_key(name) if name else None
    if not name or not item or not api_keys.is_of(key, item.get("hash", "")) or item["expires_at"] <= clock.now():
        logger.info("API key refused", key=name)
        raise Unauthorized
    known = standing.of_account(item["account"])
    if not known.holds(item["issued_at"]):
        logger.info("API key refused", key=name, reason="revoked")
        raise Unauthorized
    usage.note(name, until=item["expires_at"])
    return Caller(item["account"], frozenset(item["scopes"]), name, item["expires_at"], known.plan, is_key=True)


def _token(claims: dict[str, Any], token: str) -> Token:
    account, scope, name = claims.get("sub"), claims.get("scope", ""), claims.get("jti")
    if not isinstance(account, str) or not ACCOUNT.fullmatch(account) or not isinstance(scope, str):
        logger.info("token refused", reason="claims of the wrong shape")
        raise Unauthorized
    if name is None:
        # Without the signature, of which some kinds have several spellings.
        name = "sha256:" + hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_JTI:
        logger.info("token refused", reason="jti of the wrong shape")
        raise Unauthorized
    issued_at = claims.get("iat")
    return Token(
        account,
        frozenset(scope.split()),
        name,
        float(issued_at) if issued_at is not None else None,
        float(claims["exp"]),
    )


def _hmac_key() -> str:
    key = secrets.text(settings().jwt_secret)
    if len(key) < SHORTEST_HMAC_SECRET:
        logger.error("secret is too short to sign tokens", secret=settings().jwt_secret, least=SHORTEST_HMAC_SECRET)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return key


class _KeySet(jwt.PyJWKClient):
    """PyJWT's client of a key set, which also leaves an issuer alone that has just failed to answer.

    Caching single keys as well would keep a withdrawn one for as long as the process lives.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout=JWKS_TIMEOUT_S, lifespan=JWKS_MAX_AGE_S, cooldown_duration=JWKS_COOLDOWN_S)
        self._rests_until = 0.0

    def fetch_data(self) -> Any:
        if time.monotonic() < self._rests_until:
            raise jwt.PyJWKClientConnectionError("the issuer has just failed to answer")
        has_keys = self.jwk_set_cache is not None and self.jwk_set_cache.get() is not None
        self._rests_until = time.monotonic() + (JWKS_COOLDOWN_S if has_keys else JWKS_REST_S)
        data = super().fetch_data()
        self._rests_until = 0.0
        return data


@cache
def _key_set(url: str) -> _KeySet:
    return _KeySet(url)


def _published_key(token: str) -> jwt.PyJWK:
    url = settings().jwks_url
    if not url:
        logger.error("JWKS_URL is not set, and JWT_ALGORITHMS are asymmetric")
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return _key_set(url).get_signing_key_from_jwt(token)
