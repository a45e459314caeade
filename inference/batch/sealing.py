"""What batches and files hold is encrypted under a key of their own, which is itself sealed in their row.

So a rotation of HELIXFLOW_ENCRYPTION_KEYS seals one short column anew, whatever the contents weigh.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from helixflow.lib import crypto

NONCE: Final = 12
OVERHEAD: Final = NONCE + 16  # bytes that ``close`` adds


class Unopenable(Exception):
    """Not what was sealed here: damaged, or from another place."""


def new_key() -> str:
    """Sealed, as its row keeps it."""
    return crypto.encrypt_bytes(AESGCM.generate_key(256))


class Box:
    """``label`` says what and where a piece is, so that pieces can't change places unnoticed."""

    def __init__(self, sealed_key: str) -> None:
        """Raises crypto.Undecryptable."""
        self._cipher = AESGCM(crypto.decrypt_bytes(sealed_key))

    def close(self, plain: bytes, label: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, label)

    def open(self, sealed: bytes, label: bytes) -> bytes:
        """Raises Unopenable."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], label)
        except (InvalidTag, ValueError):
            raise Unopenable from None


def request_label(position: int) -> bytes:
    """Of the item at ``position``, the first being 0."""
    return b"request:%d" % position


def answer_label(position: int) -> bytes:
    return b"answer:%d" % position
