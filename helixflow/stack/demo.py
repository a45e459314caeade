"""The demo account of `manage.py up --demo`: for trying HelixFlow out, never in production.

Its password and API key are kept in clear in the data directory (secrets/demo.json, readable by its owner only), so
that every start can print the same key. If the file or the key is gone, a new one is made.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from accounts import api_keys, auth, services
from accounts.models import ApiKey, Organization, User
from helixflow.lib.secrets import write_private

EMAIL: Final = "demo@example.com"
MODEL: Final = "gpt-3.5-turbo"


@dataclass(frozen=True)
class Demo:
    email: str
    password: str
    api_key: str


def path() -> Path:
    return settings.DATA_DIR / "secrets" / "demo.json"


def read() -> Demo | None:
    try:
        return Demo(**json.loads(path().read_text()))
    except (OSError, ValueError, TypeError):
        return None


@transaction.atomic
def make() -> Demo:
    """Idempotent: what still works is kept."""
    known = read() or Demo(EMAIL, secrets.token_urlsafe(12), "")
    user = _user(known.password)
    organization = Organization.objects.of(user).earliest("created_at")
    demo = Demo(EMAIL, known.password, known.api_key)
    if not _works(known.api_key, organization):
        _, api_key = api_keys.create(organization=organization, user=user, name="Demo")
        demo = Demo(EMAIL, known.password, api_key)
    write_private(path(), json.dumps(asdict(demo), indent=2))
    return demo


def _user(password: str) -> User:
    user = User.objects.filter(email__iexact=EMAIL).first()
    if user is None:
        user = services.register(username=EMAIL, email=EMAIL, password=password)
        user.email_verified_at = timezone.now()  # nobody reads that mailbox
        user.save(update_fields=["email_verified_at"])
    elif not user.check_password(password):
        services.change_password(user=user, password=password)
    return user


def _works(api_key: str, organization: Organization) -> bool:
    return bool(api_key) and ApiKey.objects.of(organization).usable().filter(digest__in=auth.digests(api_key)).exists()


def curl(demo: Demo) -> str:
    """A command that streams an answer, as the site shows it."""
    values = {"api_base_url": f"{settings.PUBLIC_URL}/v1", "api_key": demo.api_key, "model": MODEL}
    return render_to_string("snippets/stream.curl.txt", values).strip()
