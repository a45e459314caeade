"""The token in a verification link: signed, expiring, bound to one user and one address."""

import uuid
from datetime import timedelta
from typing import Final

from django.core import signing

from accounts.models import User

LIFETIME: Final = timedelta(days=3)
_SALT: Final = "accounts.verify-email"


def make_token(user: User) -> str:
    return signing.dumps([user.id.hex, user.email], salt=_SALT)


def read_token(token: str) -> tuple[User, str] | None:
    """The user and the address the link was sent to; None for a token that is forged, expired or nobody's."""
    try:
        user_id, email = signing.loads(token, salt=_SALT, max_age=LIFETIME)
    except signing.BadSignature:
        return None
    user = User.objects.filter(id=uuid.UUID(user_id), is_active=True).first()
    return None if user is None else (user, str(email))
