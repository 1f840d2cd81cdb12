"""Webhook signatures: Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks, spec)."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

TOLERANCE_S = 300
SHORTEST_KEY = 16
TIMESTAMP = re.compile(r"[0-9]{1,12}")


class BadSignature(Exception):
    """Missing, malformed, expired and wrong are told apart in the log only."""


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`; `secret` is `whsec_` and base64. Raises BadSignature
    for a secret that is not, or that anybody could guess."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature("the secret is not base64") from error
    if len(key) < SHORTEST_KEY:
        raise BadSignature("the secret is too short to sign anything")
    signed = f"{message_id}.{timestamp}.".encode(errors="surrogatepass") + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Check the raw body against its headers (names in lower case); any of several signatures will do.

    Raises BadSignature.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not message_id or not TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("headers are missing or malformed")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise BadSignature("timestamp is too far from now")
    expected = sign(secret, message_id, int(timestamp), body).encode()
    offered = headers.get("webhook-signature", "").encode(errors="surrogatepass").split()
    matches = [hmac.compare_digest(expected, signature) for signature in offered]
    if not any(matches):
        raise BadSignature("no signature matches")
