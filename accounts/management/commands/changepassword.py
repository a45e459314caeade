"""`manage.py changepassword`: Django's, which also ends the user's API sessions; the web's end by the session hash."""

import getpass
from typing import Any

from django.contrib.auth.management.commands import changepassword

from accounts import sessions
from accounts.models import User


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> str | None:
        said: str | None = super().handle(*args, **options)
        sessions.end_all(user=User.objects.get(username=options["username"] or getpass.getuser()))
        return said
