"""From an Authorization header to the digests a key may be stored under. Shared by both planes: no query, no request.

The data plane calls this for every request, so nothing here costs more than a few microseconds.
"""

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

from django.conf import settings

from accounts import keys, passes
from helixflow.lib import errors


def bearer_token(values: Sequence[bytes], *, credential: str = "YOUR_API_KEY") -> str:
    """The token of a request's Authorization header values. Raises AuthenticationFailed (asks for ``credential``)."""
    if not values:
        raise errors.AuthenticationFailed(f"No credentials. Send the header Authorization: Bearer {credential}.")
    if len(values) > 1:
        raise errors.AuthenticationFailed("There is more than one Authorization header. Send exactly one.")
    scheme, _, rest = values[0].partition(b" ")
    token = rest.strip()
    if scheme.lower() != b"bearer" or not token:
        raise errors.AuthenticationFailed(f"The Authorization header must read: Bearer {credential}.")
    if b"," in token:  # Django joins repeated headers with commas, and no credential holds one
        raise errors.AuthenticationFailed("There is more than one Authorization header. Send exactly one.")
    if not token.isascii():
        raise errors.AuthenticationFailed("The Authorization header holds characters that no credential has.")
    return token.decode("ascii")


def check_form(token: str) -> None:
    """Raises InvalidApiKey for what cannot be a key, without a look-up; the length comes first, so it is cheap."""
    if keys.is_well_formed(token) or passes.key_id_of(token) is not None:
        return
    if looks_like_jwt(token):
        raise errors.InvalidApiKey(
            "This is an access token of a login. It manages keys and the organization; "
            "calls to models need an API key, which starts with hflow_."
        )
    raise errors.InvalidApiKey


def looks_like_jwt(token: str) -> bool:
    return token.startswith("eyJ") and token.count(".") == 2


def digests(key: str) -> list[bytes]:
    """HMAC-SHA-256 of the key under every pepper (HELIXFLOW_KEY_PEPPERS): new keys are stored under the first."""
    message = key.encode()
    found = []
    for prepared in _prepared(tuple(settings.KEY_PEPPERS)):
        mac = prepared.copy()  # a third cheaper than hashing the pepper again
        mac.update(message)
        found.append(mac.digest())
    return found


@lru_cache(maxsize=8)
def _prepared(peppers: tuple[str, ...]) -> tuple[hmac.HMAC, ...]:
    return tuple(hmac.new(pepper.encode(), digestmod=hashlib.sha256) for pepper in peppers)
