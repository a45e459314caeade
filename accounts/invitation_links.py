"""The token in an invitation's link. It is derived, so that the worker can write the mail and no token is ever stored.

Made of the row's id and expiry under the secret key: a resent invitation has a new expiry, hence a new token, and the
old one dies. The row keeps the digest, by which a token is found.
"""

import hashlib
from typing import Final

from django.utils.crypto import salted_hmac

from accounts.models import Invitation
from helixflow.lib import ids

_SALT: Final = "accounts.invitation"
LENGTH: Final = 43  # base62 characters of 256 bits


def token_of(invitation: Invitation) -> str:
    text = f"{invitation.id.hex}:{invitation.expires_at.timestamp():.6f}"
    value = int.from_bytes(salted_hmac(_SALT, text, algorithm="sha256").digest())
    return ids.encode_base62(value, LENGTH)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def find(token: str) -> Invitation | None:
    """Whatever became of it; None for a token that is mistyped, forged or was replaced by a newer one."""
    if len(token) != LENGTH:
        return None
    rows = Invitation.objects.select_related("organization", "invited_by", "accepted_by")
    return rows.filter(digest=digest_of(token)).first()
