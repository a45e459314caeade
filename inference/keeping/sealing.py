"""Names and keys of what is kept, derived from what only its caller sends and a secret that Redis has never seen.

So whoever reads Redis learns nothing, and whoever has our secrets needs the very key or request as well.
"""

import os
import uuid
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

NONCE: Final = 12
FINGERPRINT: Final = 16  # bytes, as lua/room.lua knows


class Unopenable(Exception):
    """Not what was sealed here: damaged, or forged."""


@dataclass(frozen=True, slots=True)
class Seal:
    """``name`` is for Redis; the rest stays here."""

    name: str
    _key: bytes
    _fingerprint_key: bytes

    @classmethod
    def derive(cls, purpose: bytes, *scope: bytes, secret: bytes) -> Self:
        """``scope`` is of a fixed length. With a new first one of the encryption keys all that is kept is forgotten."""
        material = HKDF(
            hashes.SHA256(), 64, salt=_salt(settings.ENCRYPTION_KEYS[0]), info=b"".join((purpose, b":", *scope))
        ).derive(secret)
        return cls(material[:16].hex(), material[16:48], material[48:])

    @classmethod
    def of_idempotency_key(cls, organization_id: uuid.UUID, api_key_id: uuid.UUID, key: str) -> Self:
        return cls.derive(b"idempotency", organization_id.bytes, api_key_id.bytes, secret=key.encode())

    def close(self, plain: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + AESGCM(self._key).encrypt(nonce, plain, self.name.encode())

    def open(self, sealed: bytes) -> bytes:
        """Raises Unopenable."""
        try:
            return AESGCM(self._key).decrypt(sealed[:NONCE], sealed[NONCE:], self.name.encode())
        except (InvalidTag, ValueError):
            raise Unopenable from None

    def fingerprint(self, digest: bytes) -> bytes:
        """Under a key, since bodies can be guessed."""
        return blake2b(digest, digest_size=FINGERPRINT, key=self._fingerprint_key).digest()


@cache
def _salt(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=32, person=b"kept answers").digest()
