"""Whether a webhook is HelixFlow's, and what it says."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import time
from typing import Any, Mapping, Sequence

from helixflow._objects import Object
from helixflow.errors import WebhookVerificationError

__all__ = ["REASONS", "TOLERANCE_S", "Event", "WebhookVerificationError", "verify", "verify_webhook_signature"]

TOLERANCE_S = 300
REASONS = ("no_signature", "bad_timestamp", "too_old", "too_new", "mismatch", "bad_secret", "bad_payload")
_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
_OURS = ("x-helixflow-signature", "x-helixflow-signature-next")


class Event(Object):
    """``id`` is the same each time an event is delivered; None where only ``X-HelixFlow-Signature`` was there."""

    __slots__ = ()
    id: str | None
    event: str
    timestamp: str
    data: Object


def verify(
    payload: bytes | str,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    *,
    tolerance: float = TOLERANCE_S,
    now: float | None = None,
) -> Event:
    """The event in ``payload``, the raw body, if ``headers`` hold a signature by ``secret`` or by one of several.

    Standard Webhooks' headers decide where any of them is there, and then a message more than ``tolerance`` seconds
    away from ``now`` (epoch seconds) is refused, as it may be a replay. Else ``X-HelixFlow-Signature`` does, or the
    ``-Next`` beside it while a secret is rotated. Raises WebhookVerificationError.
    """
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not all(secrets) or not secrets:
        raise _refusal("bad_secret", "No secret was given.")
    given = {str(name).lower(): value for name, value in headers.items()}
    event_id = None
    if any(name in given for name in _STANDARD):
        event_id = _verify_standard(body, given, secrets, tolerance, time.time() if now is None else now)
    else:
        _verify_ours(body, given, secrets)
    return _event(body, event_id)


def verify_webhook_signature(payload: str | bytes, signature: str, secret: str) -> bool:
    """The API reference's: whether ``signature`` is the value of X-HelixFlow-Signature for the raw body ``payload``."""
    body = payload.encode() if isinstance(payload, str) else payload
    expected = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def _verify_standard(
    body: bytes, headers: Mapping[str, str], secrets: Sequence[str], tolerance: float, now: float
) -> str:
    if not all(headers.get(name) for name in _STANDARD):
        raise _refusal("no_signature", f"Not all of {', '.join(_STANDARD)} are there.")
    event_id, stamp, signatures = (headers[name] for name in _STANDARD)
    if not re.fullmatch(r"[0-9]{1,15}", stamp):
        raise _refusal("bad_timestamp", "webhook-timestamp is not a whole number.")
    age = now - int(stamp)
    if age > tolerance:
        raise _refusal("too_old", f"It was sent {age:.0f} s ago: a replay, or this machine's clock is wrong.")
    if age < -tolerance:
        raise _refusal("too_new", f"It was sent {-age:.0f} s in the future: is this machine's clock wrong?")
    keys = [key for secret in secrets if (key := _decoded(secret)) is not None]
    if not keys:
        raise _refusal("bad_secret", "The secret is not whsec_ and base64.")
    signed = b".".join((event_id.encode(), stamp.encode(), body))
    expected = [base64.b64encode(hmac.new(key, signed, "sha256").digest()) for key in keys]
    found = [text.partition(",")[2].encode() for text in signatures.split() if text.startswith("v1,")]
    if not _any_equal(expected, found):
        raise _refusal("mismatch", "No signature fits the secret and this body.")
    return event_id


def _verify_ours(body: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> None:
    found = [headers[name].encode("utf-8", "replace") for name in _OURS if headers.get(name) is not None]
    if not found:
        raise _refusal("no_signature", "There is no header with a signature.")
    expected = [hmac.new(secret.encode(), body, "sha256").hexdigest().encode() for secret in secrets]
    if not _any_equal(expected, found):
        raise _refusal("mismatch", "No signature fits the secret and this body.")


def _any_equal(expected: Sequence[bytes], found: Sequence[bytes]) -> bool:
    """Every pair is compared, so that the time tells nothing of which one fits."""
    return sum(hmac.compare_digest(one, other) for one in expected for other in found) > 0


def _decoded(secret: str) -> bytes | None:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _event(body: bytes, event_id: str | None) -> Event:
    try:
        value: Any = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("event"), str):
        raise _refusal("bad_payload", "The body is signed, but is not the JSON of an event.")
    return Event.read({"id": event_id, **value})


def _refusal(reason: str, message: str) -> WebhookVerificationError:
    return WebhookVerificationError(f"This webhook can't be trusted: {message}", reason=reason)
