"""What receivers check, by their own code: the API reference's function, and the standardwebhooks package."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from webhooks import signing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(64, 96))).decode()
BODY = '{"event":"completion.created","data":{"end_user":"Zoë \u2028 \U0001f600"}}'.encode()


# fmt: off
def verify_webhook_signature(payload, signature, secret):
    """The API reference's, letter by letter."""
    expected_signature = hmac.new(
        secret.encode(),
        payload.encode(),
        hashlib.sha256
    ).hexdigest()

    return hmac.compare_digest(expected_signature, signature)
# fmt: on


def sent(*, body: bytes = BODY, secret: str = SECRET, previous_secret: str | None = None) -> dict[str, str]:
    """The headers of an attempt made at NOW."""
    return signing.headers(
        body=body,
        event_id="evt_1",
        timestamp=int(NOW.timestamp()),
        secret=secret,
        previous_secret=previous_secret,
    )


def standard_accepts(headers: dict[str, str], *, body: bytes = BODY, secret: str = SECRET, at: datetime = NOW) -> bool:
    with time_machine.travel(at, tick=False):
        try:
            Webhook(secret).verify(body, headers, json_parse=False)
        except WebhookVerificationError:
            return False
    return True


def reference_accepts(signature: str, *, body: bytes = BODY, secret: str = SECRET) -> bool:
    return bool(verify_webhook_signature(body.decode(), signature, secret))


def test_a_secret_is_32_random_bytes():
    secrets = {signing.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


def test_a_known_message_has_known_signatures():
    """Written down, so that a change of the scheme can't go along with its tests."""
    headers = signing.headers(
        body=b'{"event":"quota.low"}', event_id="evt_1", timestamp=1700000000, secret=SECRET, previous_secret=None
    )
    assert headers == {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1,AKIEL4tkosQWtV4wGgKEIWs+PaP49V3GQ/sVUlC0Eb0=",
        "X-HelixFlow-Signature": "1c21e6154e1bbf20925aa1c7a4a867cb9e44409c6e6eddc38b0925630d981e6e",
    }


def test_what_was_sent_is_accepted_by_both_schemes():
    headers = sent()
    assert headers["webhook-id"] == "evt_1"
    assert reference_accepts(headers["X-HelixFlow-Signature"])
    assert standard_accepts(headers)
    assert "X-HelixFlow-Signature-Next" not in headers


@pytest.mark.parametrize("body", [BODY + b" ", BODY[:-1], BODY.replace(b"created", b"failed"), b""])
def test_a_forged_or_truncated_body_is_refused(body):
    headers = sent()
    assert not reference_accepts(headers["X-HelixFlow-Signature"], body=body)
    assert not standard_accepts(headers, body=body)


def test_another_endpoints_secret_opens_nothing():
    headers = sent(secret=OTHER_SECRET)
    assert not reference_accepts(headers["X-HelixFlow-Signature"])
    assert not standard_accepts(headers)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_stale_message_is_refused(seconds):
    assert not standard_accepts(sent(), at=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("name", "value"), [("webhook-id", "evt_2"), ("webhook-timestamp", str(int(NOW.timestamp()) + 1))]
)
def test_id_and_time_are_signed_too(name, value):
    assert not standard_accepts(sent() | {name: value})


class TestRotation:
    """From the new secret until the rotation is finished."""

    @pytest.mark.parametrize("known", [SECRET, OLD_SECRET])
    def test_a_standard_receiver_passes_with_either_secret(self, known):
        assert standard_accepts(sent(previous_secret=OLD_SECRET), secret=known)

    def test_the_new_signature_comes_first(self):
        first, second = sent(previous_secret=OLD_SECRET)["webhook-signature"].split(" ")
        assert first == sent()["webhook-signature"]
        assert second == sent(secret=OLD_SECRET)["webhook-signature"]

    def test_the_references_receiver_goes_on_with_the_old_secret(self):
        headers = sent(previous_secret=OLD_SECRET)
        assert reference_accepts(headers["X-HelixFlow-Signature"], secret=OLD_SECRET)
        assert not reference_accepts(headers["X-HelixFlow-Signature"], secret=SECRET)
        assert reference_accepts(headers["X-HelixFlow-Signature-Next"], secret=SECRET)

    def test_a_third_secret_still_opens_nothing(self):
        assert not standard_accepts(sent(previous_secret=OLD_SECRET), secret=OTHER_SECRET)

    def test_once_finished_the_old_secret_is_nothing(self):
        headers = sent()
        assert not reference_accepts(headers["X-HelixFlow-Signature"], secret=OLD_SECRET)
        assert not standard_accepts(headers, secret=OLD_SECRET)


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])), key=st.binary(min_size=32, max_size=32))
def test_any_text_under_any_secret_is_accepted(text, key):
    secret = "whsec_" + base64.b64encode(key).decode()
    body = text.encode()
    headers = sent(body=body, secret=secret)
    assert reference_accepts(headers["X-HelixFlow-Signature"], body=body, secret=secret)
    assert standard_accepts(headers, body=body, secret=secret)


def test_headers_hold_no_secret():
    headers = sent(previous_secret=OLD_SECRET)
    for secret in (SECRET, OLD_SECRET):
        assert secret.removeprefix("whsec_") not in " ".join(headers.values())
