"""Who is calling: a JSON Web Token, verified by PyJWT inside the function.

The list of algorithms comes from configuration, never from the token. HMAC algorithms use the secret, asymmetric ones
the key set (JWKS); a configuration that mixes both is refused, since that is how algorithm confusion begins.
"""

import json
import re
from dataclasses import dataclass
from functools import cache

import jwt

from shared.core import secrets
from shared.core.errors import Forbidden, Unauthorized, Unavailable
from shared.core.log import logger
from shared.core.settings import settings

ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@|+-]{0,127}")
LEEWAY_S = 5
SHORTEST_HMAC_SECRET = 32
JWKS_TIMEOUT_S = 3


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: the account is the token's `sub`."""

    account: str
    scopes: frozenset[str]


def authenticate(authorization: str | None, *, scope: str) -> Caller:
    """The caller behind an `Authorization` header.

    Raises Unauthorized for any flaw of the token, Forbidden when it lacks `scope`, Unavailable while no secret or key
    set is configured.
    """
    algorithms = settings().jwt_algorithms
    symmetric = {name for name in algorithms if name.startswith("HS")}
    if not algorithms or (symmetric and symmetric != set(algorithms)):
        logger.error("JWT_ALGORITHMS must name HMAC or asymmetric algorithms, not both", algorithms=algorithms)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    token = _bearer(authorization)
    try:
        key = _hmac_key() if symmetric else _published_key(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            issuer=settings().jwt_issuer,
            audience=settings().jwt_audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, json.JSONDecodeError) as error:
        logger.error("key set is out of reach", jwks_url=settings().jwks_url, reason=str(error))
        raise Unavailable("The keys that verify tokens are out of reach.", code="keys_unavailable") from error
    except jwt.PyJWTError as error:
        logger.info("token refused", reason=type(error).__name__)
        raise Unauthorized from error
    caller = _caller(claims)
    if scope not in caller.scopes:
        raise Forbidden(f"This needs the scope '{scope}'.")
    return caller


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized
    return token.strip()


def _caller(claims: dict[str, object]) -> Caller:
    account, scope = claims.get("sub"), claims.get("scope", "")
    if not isinstance(account, str) or not ACCOUNT.fullmatch(account) or not isinstance(scope, str):
        logger.info("token refused", reason="claims of the wrong shape")
        raise Unauthorized
    return Caller(account, frozenset(scope.split()))


def _hmac_key() -> str:
    key = secrets.text(settings().jwt_secret)
    if len(key) < SHORTEST_HMAC_SECRET:
        logger.error("secret is too short to sign tokens", secret=settings().jwt_secret, least=SHORTEST_HMAC_SECRET)
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return key


@cache
def _key_set(url: str) -> jwt.PyJWKClient:
    # Caching single keys as well would keep a withdrawn one for as long as the process lives.
    return jwt.PyJWKClient(url, timeout=JWKS_TIMEOUT_S)


def _published_key(token: str) -> jwt.PyJWK:
    url = settings().jwks_url
    if not url:
        logger.error("JWKS_URL is not set, and JWT_ALGORITHMS are asymmetric")
        raise Unavailable("This service is not configured yet.", code="unconfigured")
    return _key_set(url).get_signing_key_from_jwt(token)
