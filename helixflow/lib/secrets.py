"""Secrets from the environment; in development, made once and kept in the data directory, for its owner only."""

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from helixflow.lib import env

LEAST_LENGTH = 32


def random_text() -> str:
    return secrets.token_urlsafe(48)


def fernet_key() -> str:
    return Fernet.generate_key().decode()


def write_private(path: Path, content: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    Path(temporary).replace(path)


class Secrets:
    """``required`` (production) refuses to make anything up."""

    def __init__(self, data_dir: Path, *, required: bool) -> None:
        self._folder = data_dir / "secrets"
        self._required = required

    def get(self, name: str, make: Callable[[], str]) -> str:
        value = env.text(name)
        if value:
            self._require_length(name, value)
            return value
        if self._required:
            raise ImproperlyConfigured(f"{name} must be set when HELIXFLOW_ENV is production.")
        path = self._folder / name.removeprefix("HELIXFLOW_").lower()
        try:
            return self._read_or_make(path, make)
        except OSError as error:
            raise ImproperlyConfigured(
                f"The data directory cannot be written ({path}: {error.strerror}). "
                f"Set HELIXFLOW_DATA_DIR to a folder of yours, or set {name}."
            ) from None

    def get_list(self, name: str, make: Callable[[], str]) -> list[str]:
        """A comma-separated list, never empty: the first is used, all are tried."""
        values = [part.strip() for part in self.get(name, make).split(",") if part.strip()]
        if not values:
            raise ImproperlyConfigured(f"{name} must hold at least one key.")
        for value in values:
            self._require_length(name, value)
        return values

    def _require_length(self, name: str, value: str) -> None:
        """A JWT under a short key tells it to whoever has the patience to guess."""
        if self._required and len(value) < LEAST_LENGTH:
            raise ImproperlyConfigured(f"{name} must have at least {LEAST_LENGTH} characters for each key.")

    @staticmethod
    def _read_or_make(path: Path, make: Callable[[], str]) -> str:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(descriptor, "w") as file:
                file.write(make())
            try:
                os.link(temporary, path)  # fails if another process was first: then its secret counts
            except FileExistsError:
                pass
            finally:
                Path(temporary).unlink()
        return path.read_text().strip()


def embedded_services(data_dir: Path) -> dict[str, str]:
    """``DATABASE_URL`` and ``REDIS_URL`` of the servers that ``manage.py up`` runs on ``data_dir``, or nothing."""
    try:
        found = json.loads((data_dir / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in found.items()}
