"""Identifiers: a prefix that tells the kind and 26 characters of Crockford's base 32, as in a ULID."""

import hashlib
import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def _spell(number: int) -> str:
    digits = []
    for _ in range(LENGTH):
        number, digit = divmod(number, 32)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def new(prefix: str) -> str:
    """A fresh id that sorts by time: 48 bits of milliseconds, then 80 of chance."""
    return f"{prefix}_{_spell(int(time.time() * 1000) << 80 | secrets.randbits(80))}"


def derived(prefix: str, *parts: str) -> str:
    """The one id of these parts: whoever computes it again finds what was made the first time."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"{prefix}_{_spell(int.from_bytes(digest[:16]))}"
