"""Authenticated encryption at rest, with rotation: the first key is used, all are tried.

A column that holds what ``encrypt`` made is named ``sealed_…``: by that ``manage.py reseal_credentials`` finds it.
"""

from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class Undecryptable(Exception):
    """No configured key opens this value: a key was dropped from HELIXFLOW_ENCRYPTION_KEYS too early."""


@cache
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise ImproperlyConfigured(
            "HELIXFLOW_ENCRYPTION_KEYS: each must be 32 bytes in URL-safe base64 (44 characters)."
        ) from None


def encrypt(plain: str) -> str:
    return encrypt_bytes(plain.encode())


def encrypt_bytes(plain: bytes) -> str:
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(plain).decode()


def reseal(sealed: str) -> str:
    """The same under the first key; unchanged if it is already. Raises Undecryptable."""
    first, *_ = settings.ENCRYPTION_KEYS
    try:
        _fernet((first,)).decrypt(sealed.encode())
    except InvalidToken:
        return encrypt_bytes(decrypt_bytes(sealed))
    return sealed


def decrypt(sealed: str) -> str:
    """Raises Undecryptable."""
    return decrypt_bytes(sealed).decode()


def decrypt_bytes(sealed: str) -> bytes:
    """Raises Undecryptable."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(sealed.encode())
    except InvalidToken:
        raise Undecryptable("no key in HELIXFLOW_ENCRYPTION_KEYS opens this value") from None
