"""How an API key is spelled, hashed and made: `atl_<26 characters that name it>_<64 that prove it>`.

The table keeps its SHA-256 and a salt. The proof is HMAC-SHA256 of salt and name under a secret that only the function
which makes keys may read: with it, and only with it, the answer to a repeated request can be given again.
"""

import hashlib
import hmac
import re

from shared.core import ids

SPELLING = re.compile(rf"atl_([{ids.ALPHABET}]{{{ids.LENGTH}}})_[0-9a-f]{{64}}")


def spell(name: str, *, salt: str, pepper: str) -> str:
    """The key that is called `name`."""
    proof = hmac.digest(pepper.encode(), f"{salt}.{name}".encode(), "sha256").hex()
    return f"atl_{name}_{proof}"


def looks_like_one(text: str) -> bool:
    """Whether the text means to be an API key (and no token)."""
    return text.startswith("atl_")


def name_of(key: str) -> str | None:
    """What the key is called, None for what is no key at all."""
    found = SPELLING.fullmatch(key)
    return found[1] if found else None


def digest(key: str) -> str:
    """What is kept of the key. It has 256 bits of chance, so a plain hash tells nothing of it."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_of(key: str, kept: str) -> bool:
    """Whether the key is the one whose digest was kept, in constant time."""
    return hmac.compare_digest(digest(key), kept)
