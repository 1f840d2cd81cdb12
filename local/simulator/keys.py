"""API keys as the simulator knows them: by their beginning; some words inside make them special.

`r8_…throttled…` always gets the provider's 429, `r8_…revoked…` its 401, so that pools of keys can be tested.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was accepted. Only its fingerprint is remembered anywhere."""

    fingerprint: str
    throttled: bool


def accept(given: str | None, prefix: str) -> Key | None:
    """None for a key that is missing, of another provider, or revoked."""
    if not given or not given.startswith(prefix) or "revoked" in given:
        return None
    return Key(fingerprint(given), "throttled" in given)


def fingerprint(key: str) -> str:
    """The first twelve hex digits of the key's SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]
