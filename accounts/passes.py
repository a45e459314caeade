"""A pass: with it a process of the platform calls the data plane in the name of an API key whose secret nobody keeps.

``hpass_`` + the key's id + an HMAC under the platform's secret key. It does what the key does, as long as the key does
it: limits, ledger and revocation are the key's. Batches go out under it. It is made when it is needed, never stored,
shown or logged, and whoever could forge one has HELIXFLOW_SECRET_KEY already.
"""

import uuid
from functools import lru_cache
from typing import Final

from django.utils.crypto import constant_time_compare, salted_hmac

from accounts.models import ApiKey

PREFIX: Final = "hpass_"
SALT: Final = "accounts.passes"
_ID: Final = 32  # hex digits
LENGTH: Final = len(PREFIX) + _ID + 64


def pass_for(key: ApiKey) -> str:
    return PREFIX + key.id.hex + _mac(key.id.hex)


@lru_cache(maxsize=1024)
def key_id_of(token: str) -> uuid.UUID | None:
    """Whose name it is in; None: not one of ours."""
    if len(token) != LENGTH or not token.startswith(PREFIX):
        return None
    key_id, mac = token[len(PREFIX) : len(PREFIX) + _ID], token[len(PREFIX) + _ID :]
    return uuid.UUID(key_id) if constant_time_compare(mac, _mac(key_id)) else None


def _mac(key_id: str) -> str:
    return salted_hmac(SALT, key_id, algorithm="sha256").hexdigest()
