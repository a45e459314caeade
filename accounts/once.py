"""Forms that do their work once, however often one page of theirs is sent: a reload, a double click."""

import secrets
from typing import Final

from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction

from accounts.models import WebSession

REMEMBERED: Final = 20  # sent forms of one kind


def new_token() -> str:
    """For a hidden field of the page."""
    return secrets.token_urlsafe(16)


@transaction.atomic
def use(session: SessionBase, kind: str, token: str) -> bool:
    """Whether ``token`` is sent for the first time. Of two sendings at one moment the second waits, and is told no.

    For signed-in people: their session is a row. A form that goes back with errors needs a new token.
    """
    row = WebSession.objects.select_for_update().filter(session_key=session.session_key).first()
    used = row.get_decoded().get(kind, []) if row else []
    if token in used:
        return False
    session[kind] = [*used, token][-REMEMBERED:]
    session.save()
    return True
