"""Login by username or e-mail address, whatever the case."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts.models import User
from accounts.passwords import MAXIMUM_LENGTH


class UsernameOrEmailBackend(ModelBackend):
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> User | None:
        if not username or not password or len(password) > MAXIMUM_LENGTH or "\0" in username:
            return None
        try:
            user = User.objects.get_by_login(username)
        except User.DoesNotExist:
            User().set_password(password)  # the same time as for an account that exists
            return None
        if user.check_password(password) and self.user_can_authenticate(user):
            return user
        return None
