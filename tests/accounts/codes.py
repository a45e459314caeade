"""What tests of the second factor share: an account that has one, and what its app would show."""

import base64

from django.utils import timezone
from django_otp.oath import TOTP

from accounts import two_factor
from accounts.models import User


def code_of(secret: str, *, steps: int = 0) -> str:
    """What an app with this secret shows ``steps`` half minutes from now."""
    totp = TOTP(base64.b32decode(secret.replace(" ", "")), drift=steps)
    totp.time = timezone.now().timestamp()
    return f"{totp.token():06}"


def turned_on(user: User) -> tuple[str, list[str]]:
    """The secret, and the recovery codes. The code of this half minute is used by it."""
    row = two_factor.begin(user=user)
    secret = two_factor.secret_of(row)
    return secret, two_factor.turn_on(user=user, code=code_of(secret))


def wrong_code(secret: str) -> str:
    """Six digits that no clock within reach makes right."""
    right = {code_of(secret, steps=steps) for steps in range(-3, 4)}
    return next(code for digit in "01234567" if (code := digit * 6) not in right)
