"""Signatures of what is sent to an endpoint (contract §7). Pure: no framework, no database.

Two schemes over the same secret, ``whsec_`` + base64 of 32 random bytes:

- the API reference's: hex HMAC-SHA-256 of the raw body, keyed by the whole text of the secret;
- Standard Webhooks': base64 HMAC-SHA-256 of ``id.timestamp.body``, keyed by the bytes that the text encodes.
"""

import base64
import hmac
import secrets
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(
    *, body: bytes, event_id: str, timestamp: int, secret: str, previous_secret: str | None = None
) -> dict[str, str]:
    """The signing headers of one attempt, at ``timestamp`` (epoch seconds).

    With ``previous_secret`` a rotation is under way. A receiver that knows one signature only, as the reference's
    does, then goes on with the old secret; ``-Next`` lets it try the new one. Standard Webhooks has room for both.
    """
    signed = b"%s.%d.%s" % (event_id.encode(), timestamp, body)
    found = {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": _standard(signed, secret),
        "X-HelixFlow-Signature": _reference(body, secret),
    }
    if previous_secret is not None:
        found["webhook-signature"] += f" {_standard(signed, previous_secret)}"
        found["X-HelixFlow-Signature"] = _reference(body, previous_secret)
        found["X-HelixFlow-Signature-Next"] = _reference(body, secret)
    return found


def _reference(body: bytes, secret: str) -> str:
    return hmac.digest(secret.encode(), body, "sha256").hex()


def _standard(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
