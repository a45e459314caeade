"""A server that is away, told in a sentence: a traceback of sixty lines helps nobody at night."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError

from helixflow.lib import redis

UNKNOWN: Final = 2  # what a command ends with that could not look


@contextmanager
def told() -> Iterator[None]:
    """Also a decorator. Raises CommandError."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise CommandError(f"PostgreSQL does not answer: {first_line(error)}", returncode=UNKNOWN) from None
    except redis.RedisError as error:
        raise CommandError(f"Redis does not answer: {first_line(error)}", returncode=UNKNOWN) from None


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
