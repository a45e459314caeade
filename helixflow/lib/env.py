"""Typed reading of environment variables. A bad value stops the start with the variable's name, never its secret."""

import os
from math import inf
from urllib.parse import SplitResult, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def boolean(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}.")


def integer(name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
    value = text(name)
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None
    if not least <= number <= most:
        raise ImproperlyConfigured(f"{name} must be between {least} and {most}, not {number}.")
    return number


def numbers(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """A comma-separated list of numbers, none below 0."""
    try:
        found = tuple(float(part) for part in items(name)) or default
    except ValueError:
        found = (-1.0,)
    if not all(0 <= number < inf for number in found):
        raise ImproperlyConfigured(f"{name} must be numbers from 0, separated by commas.")
    return found


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def items(name: str) -> list[str]:
    """A comma-separated list; empty parts are dropped."""
    return [part.strip() for part in text(name).split(",") if part.strip()]


def url(name: str, default: str, schemes: tuple[str, ...]) -> SplitResult:
    """A split URL whose scheme is one of ``schemes``. The error does not repeat the value: it can hold a password."""
    parts = urlsplit(text(name, default))
    if parts.scheme not in schemes:
        raise ImproperlyConfigured(f"{name} must be a URL that starts with {' or '.join(s + '://' for s in schemes)}.")
    try:
        _ = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"{name} has a port that is not a number.") from None
    return parts


def credentials(parts: SplitResult) -> tuple[str, str]:
    """User and password of a URL, percent-decoded; empty where absent."""
    return unquote(parts.username or ""), unquote(parts.password or "")
