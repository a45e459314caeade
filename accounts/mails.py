"""The mails of accounts: ``templates/accounts/email/<name>.txt`` and ``.html``."""

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator

from accounts import verification
from accounts.models import User
from helixflow.lib import mail

# By name: subject, and the text, which may have a place for one detail.
SECURITY_NOTICES: Final = {
    "two_factor_on": (
        "Two-factor authentication is on",
        "Two-factor authentication was turned on for your account. A login needs a code of your app now.",
    ),
    "two_factor_off": (
        "Two-factor authentication is off",
        "Two-factor authentication was turned off for your account. A login needs your password alone now.",
    ),
    "two_factor_removed": (
        "Two-factor authentication was removed",
        "Our support removed two-factor authentication from your account. Set it up again as soon as you can.",
    ),
    "two_factor_codes": (
        "You have new recovery codes",
        "New recovery codes were made for your account. Those before are worth nothing any more.",
    ),
    "two_factor_code_used": (
        "A recovery code was used",
        "One of your recovery codes was used in place of a code of your app. You have {} left.",
    ),
    "two_factor_refused": (
        "Wrong codes were tried",
        "Wrong codes were given for your account, by somebody who has the password. Change it, if it wasn't you.",
    ),
}


def send_verification(user: User) -> None:
    link = mail.link("verify-email", verification.make_token(user))
    _send(user.email, "Confirm your e-mail address", "verify_email", {"user": user, "link": link})


def send_password_reset(user: User) -> None:
    link = mail.link("password-reset", user.public_id, default_token_generator.make_token(user))
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    _send(user.email, "Reset your password", "password_reset", {"user": user, "link": link, "minutes": minutes})


def send_email_changed(user: User, old_email: str) -> None:
    _send(old_email, "Your e-mail address was changed", "email_changed", {"user": user})


def send_security_notice(user: User, notice: str, detail: str = "") -> None:
    subject, text = SECURITY_NOTICES[notice]
    context = {"user": user, "text": text.format(detail), "link": mail.link("security")}
    _send(user.email, subject, "security_notice", context)


def _send(to: str, subject: str, template: str, context: dict[str, Any]) -> None:
    mail.send([to], subject, f"accounts/email/{template}", context)
