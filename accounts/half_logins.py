"""Logins that have given the password and not yet the second factor: a note in the session, for five minutes.

It is bound to one user and to the password in force: a new password in between ends it.
"""

import time
import uuid
from typing import Final

from django.contrib.auth import login
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from accounts.models import User

KEY: Final = "half_login"
LIFETIME_S: Final = 5 * 60
BACKEND: Final = "accounts.backends.UsernameOrEmailBackend"


def begin(request: HttpRequest, user: User) -> None:
    request.session.cycle_key()  # nobody who planted a session key goes on with it
    request.session[KEY] = {"user": user.id.hex, "hash": user.get_session_auth_hash(), "at": int(time.time())}


def user_of(session: SessionBase) -> User | None:
    """Whose half login it is; None without one, or once it has ended."""
    note = session.get(KEY)
    if note is None or time.time() - note["at"] > LIFETIME_S:
        return None
    user = User.objects.filter(id=uuid.UUID(note["user"]), is_active=True).first()
    if user is None or not constant_time_compare(note["hash"], user.get_session_auth_hash()):
        return None
    return user


def finish(request: HttpRequest, user: User) -> None:
    forget(request.session)
    login(request, user, backend=BACKEND)


def forget(session: SessionBase) -> None:
    session.pop(KEY, None)
