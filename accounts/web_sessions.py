"""The sessions of browsers: Django's, in PostgreSQL, asked only for keys that it can hold."""

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    def _validate_session_key(self, key: str | None) -> bool:
        """A cookie can hold anything, NUL too, which PostgreSQL refuses."""
        return bool(key and len(key) >= 8 and key.isascii() and key.isalnum())
