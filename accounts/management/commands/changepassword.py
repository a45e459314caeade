"""`manage.py changepassword`: Django's, which also ends every session of the user, and is recorded."""

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword

from accounts import audit, sessions, web_sessions
from accounts.models import User


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        said: str | None = super().handle(*args, **options)
        user = User.objects.get(username=options["username"] or getpass.getuser())
        sessions.end_all(user=user)
        web_sessions.end_all(user=user)
        audit.record(
            "account.password_set", user=None, target=user.public_id, summary="set a new password on the server"
        )
        return said
