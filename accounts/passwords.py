"""Password rules beside Django's own."""

from django.contrib.auth import password_validation
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.exceptions import ValidationError

MAXIMUM_LENGTH = 1024  # hashing a megabyte is a way to keep a server busy


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id as OWASP's Password Storage Cheat Sheet recommends it.

    Django's own numbers take 100 MiB and eight cores for each login, so a dozen strangers fill a gigabyte.
    """

    memory_cost = 19 * 1024  # KiB
    time_cost = 2
    parallelism = 1


class MaximumLengthValidator:
    def validate(self, password: str, user: object = None) -> None:
        if len(password) > MAXIMUM_LENGTH:
            raise ValidationError(self.get_help_text(), code="password_too_long")

    def get_help_text(self) -> str:
        return f"Your password can have at most {MAXIMUM_LENGTH} characters."


class CommonPasswordValidator(password_validation.CommonPasswordValidator):
    """Django's, except for the one password the API reference prints: its examples work as printed."""

    def __init__(self) -> None:
        super().__init__()
        self.passwords = self.passwords - {"password123"}
