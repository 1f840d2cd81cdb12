"""How fal proves its webhooks: Ed25519 over four lines, the public key in a JWKS. See PROVIDERS.md, 3."""

import base64
import hashlib
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from local.simulator.delivery import Signer

USER = "user_simulated"


def new_seed() -> bytes:
    return secrets.token_bytes(32)


def message(request_id: str, user: str, timestamp: int, body: bytes) -> bytes:
    return "\n".join([request_id, user, str(timestamp), hashlib.sha256(body).hexdigest()]).encode()


class FalSigner:
    """`seed` is the private key, 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        # Real sets hold several keys, and a receiver has to try each.
        self._other = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())

    @property
    def x(self) -> str:
        return _x(self._key)

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": _x(key)} for key in (self._other, self._key)]}

    def sign(self, request_id: str, user: str, timestamp: int, body: bytes) -> str:
        return self._key.sign(message(request_id, user, timestamp, body)).hex()

    def signer(self, request_id: str) -> Signer:
        def headers(body: bytes, timestamp: int) -> dict[str, str]:
            return {
                "x-fal-webhook-request-id": request_id,
                "x-fal-webhook-user-id": USER,
                "x-fal-webhook-timestamp": str(timestamp),
                "x-fal-webhook-signature": self.sign(request_id, USER, timestamp, body),
            }

        return headers


def _x(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
