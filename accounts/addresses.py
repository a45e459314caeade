"""E-mail addresses, as they may be written into a mail's head."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email


def check(email: str) -> None:
    """Django lets control characters pass between quotes; some of them begin a new line in a mail's head.

    Raises ValidationError.
    """
    validate_email(email)
    if not email.isprintable():
        raise ValidationError("An e-mail address can't hold control characters.")
