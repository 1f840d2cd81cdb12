"""Whether a job's callback could be made at all: asked before anything is held for the job."""

from shared.core import addresses, callback_secrets
from shared.core.addresses import AddressRefused, NoAddress
from shared.core.clock import now
from shared.core.errors import Unavailable
from shared.core.log import logger
from shared.core.settings import settings
from shared.jobs.requests import invalid

_signing: set[str] = set()
"""Accounts known to have a secret. Once one is made, an account is never without."""


def check(account: str, url: str) -> None:
    """Raises Invalid for a URL that we do not go to, Unavailable for an account whose callbacks could not be signed."""
    try:
        addresses.check(url, allowed=settings().allowed_private_origins)
    except (AddressRefused, NoAddress) as error:
        raise invalid("callback_url", f"callbacks do not go there: {error}") from error
    if account in _signing:
        return
    if not callback_secrets.read(account, now()):
        logger.warning("this account has no callback secret; POST /v1/callbacks/secret/rotate makes one")
        raise Unavailable(
            "There is no secret to sign callbacks with yet: POST /v1/callbacks/secret/rotate makes one.",
            code="callbacks_unconfigured",
        )
    _signing.add(account)
