"""The sessions of browsers: rows in PostgreSQL that know whose they are, asked only for keys that it can hold."""

from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db

from accounts import audit
from accounts.models import WebSession


class SessionStore(db.SessionStore):
    @classmethod
    def get_model_class(cls) -> type[WebSession]:
        return WebSession

    def create_model_instance(self, data: dict[str, Any]) -> WebSession:
        """Also notes who is logged in, and from where this was last saved."""
        row = super().create_model_instance(data)
        assert isinstance(row, WebSession)  # noqa: S101  # for the type checker
        row.user_id = data.get(SESSION_KEY)
        row.address, row.user_agent = audit.caller()
        return row

    def _validate_session_key(self, key: str | None) -> bool:
        """A cookie can hold anything, NUL too, which PostgreSQL refuses."""
        return bool(key and len(key) >= 8 and key.isascii() and key.isalnum())
