"""The mails of accounts: ``templates/accounts/email/<name>.txt`` and ``.html``."""

from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator

from accounts import verification
from accounts.models import User
from helixflow.lib import mail


def send_verification(user: User) -> None:
    link = mail.link("verify-email", verification.make_token(user))
    _send(user.email, "Confirm your e-mail address", "verify_email", {"user": user, "link": link})


def send_password_reset(user: User) -> None:
    link = mail.link("password-reset", user.public_id, default_token_generator.make_token(user))
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    _send(user.email, "Reset your password", "password_reset", {"user": user, "link": link, "minutes": minutes})


def send_email_changed(user: User, old_email: str) -> None:
    _send(old_email, "Your e-mail address was changed", "email_changed", {"user": user})


def _send(to: str, subject: str, template: str, context: dict[str, Any]) -> None:
    mail.send([to], subject, f"accounts/email/{template}", context)
