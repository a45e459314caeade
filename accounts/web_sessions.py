"""The sessions of browsers: rows in PostgreSQL that know whose they are, asked only for keys that it can hold."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone

from accounts import audit
from accounts.models import User, WebSession

RECENT: Final = timedelta(minutes=30)  # since the password was given: it need not be given again
NOTED_EVERY: Final = timedelta(minutes=1)  # a page that refreshes itself must not write at each request


class SessionStore(db.SessionStore):
    """``began_at``: since when the session has its key. A login, and a change of the password, gives it a new one."""

    _began: tuple[str | None, datetime | None] = (None, None)  # a key, and since when it is used

    @classmethod
    def get_model_class(cls) -> type[WebSession]:
        return WebSession

    @property
    def began_at(self) -> datetime | None:
        """None for one that is not stored yet."""
        self._get_session()  # type: ignore[attr-defined]  # Django's own, unknown to its stubs: reads the row once
        key, began_at = self._began
        return began_at if key is not None and key == self.session_key else None

    def create_model_instance(self, data: dict[str, Any]) -> WebSession:
        """Also notes who is logged in, and from where this was last saved. Django makes a new instance each time."""
        row = super().create_model_instance(data)
        assert isinstance(row, WebSession)  # noqa: S101  # for the type checker
        row.user_id = data.get(SESSION_KEY)
        row.address, row.user_agent = audit.caller()
        key, began_at = self._began
        if key == row.session_key and began_at is not None:
            row.created_at = began_at
        self._began = (row.session_key, row.created_at)
        return row

    def _get_session_from_db(self) -> WebSession | None:
        row: WebSession | None = super()._get_session_from_db()  # type: ignore[misc]  # unknown to Django's stubs
        if row is not None:
            self._began = (row.session_key, row.created_at)
            _note_use(row)
        return row

    def _validate_session_key(self, key: str | None) -> bool:
        """A cookie can hold anything, NUL too, which PostgreSQL refuses."""
        return bool(key and len(key) >= 8 and key.isascii() and key.isalnum())


def is_recent(session: SessionBase) -> bool:
    """Whether its owner has just proved who they are: a browser that was left open proves nothing."""
    began_at = session.began_at if isinstance(session, SessionStore) else None
    return began_at is not None and timezone.now() - began_at < RECENT


def end_all(*, user: User, but: str | None = None) -> int:
    """Every browser session of ``user``, except the one with the session key ``but``; how many were ended."""
    ended, _ = WebSession.objects.filter(user=user).exclude(session_key=but or "").delete()
    return ended


def _note_use(row: WebSession) -> None:
    """When, from where and with what it was last used: people know their sessions by that."""
    now = timezone.now()
    if now - row.last_used_at < NOTED_EVERY or row.user_id is None:
        return
    address, user_agent = audit.caller()
    known = {"address": address, "user_agent": user_agent} if address else {}
    WebSession.objects.filter(session_key=row.session_key).update(last_used_at=now, **known)
