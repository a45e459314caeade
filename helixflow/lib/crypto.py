"""Authenticated encryption at rest, with rotation: the first key is used, all are tried."""

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
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(plain.encode()).decode()


def decrypt(sealed: str) -> str:
    """Raises Undecryptable."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Undecryptable("no key in HELIXFLOW_ENCRYPTION_KEYS opens this value") from None
