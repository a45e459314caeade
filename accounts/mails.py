"""The mails of accounts: ``templates/accounts/email/<name>.txt`` and ``.html``, links from HELIXFLOW_PUBLIC_URL."""

from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from accounts import verification
from accounts.models import User


def send_verification(user: User) -> None:
    link = _absolute("verify-email", verification.make_token(user))
    _send(user.email, "Confirm your e-mail address", "verify_email", {"user": user, "link": link})


def send_password_reset(user: User) -> None:
    link = _absolute("password-reset", user.public_id, default_token_generator.make_token(user))
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    _send(user.email, "Reset your password", "password_reset", {"user": user, "link": link, "minutes": minutes})


def send_email_changed(user: User, old_email: str) -> None:
    _send(old_email, "Your e-mail address was changed", "email_changed", {"user": user})


def _absolute(name: str, *args: str) -> str:
    return settings.PUBLIC_URL + reverse(name, args=args)


def _send(to: str, subject: str, template: str, context: dict[str, Any]) -> None:
    context |= {"subject": subject, "public_url": settings.PUBLIC_URL, "support_email": settings.SUPPORT_EMAIL}
    message = EmailMultiAlternatives(
        subject=f"{subject} · HelixFlow", body=render_to_string(f"accounts/email/{template}.txt", context), to=[to]
    )
    message.attach_alternative(render_to_string(f"accounts/email/{template}.html", context), "text/html")
    message.send()
