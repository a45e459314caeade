"""Mails out of templates, each as text and as HTML. Links start with HELIXFLOW_PUBLIC_URL."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse


def link(name: str, *args: str) -> str:
    return settings.PUBLIC_URL + reverse(name, args=args)


def send(to: Sequence[str], subject: str, template: str, context: dict[str, Any]) -> None:
    """One mail to all of ``to``, from ``<template>.txt`` and ``<template>.html``. Raises what the mail server does."""
    context |= {"subject": subject, "public_url": settings.PUBLIC_URL, "support_email": settings.SUPPORT_EMAIL}
    subject = " ".join(subject.split())  # of what Python takes for the end of a line Django refuses CR and LF alone
    message = EmailMultiAlternatives(
        subject=f"{subject} · HelixFlow", body=render_to_string(f"{template}.txt", context), to=list(to)
    )
    message.attach_alternative(render_to_string(f"{template}.html", context), "text/html")
    message.send()
