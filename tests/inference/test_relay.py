"""What callers and the log may see of an upstream's message."""

import json
import ssl
import time

import pytest

from inference import failures, relay
from inference.answers import UpstreamStreamError, read_answer
from inference.providers.adapter import CredentialError
from inference.upstream import UpstreamConnectError

SECRET = "provider secret"  # with a space, so that no pattern finds it


@pytest.mark.parametrize(
    "leak",
    [
        "http://10.1.2.3:8080/v1",
        "x+http://gpu.internal/v1",
        "(https://gpu.internal)",
        "10.1.2.3:8080",
        "[fe80::1]:80",
        "gpu-1.internal:8080",
        "..gpu-1.internal:8080",
        "localhost:8080",
        "/srv/models/secret.gguf",
        "sk-0123456789",
        "Bearer abc",
        SECRET,
    ],
)
def test_addresses_paths_and_keys_are_taken_out(leak: str) -> None:
    cleaned = failures.clean(f"Failed at {leak} for now", [SECRET])
    assert cleaned.startswith("Failed at ")
    assert cleaned.endswith(" for now")
    assert not any(word in cleaned for word in ("10.1", "internal", "fe80", "8080", "srv", "0123", "abc", SECRET))


def test_what_is_no_secret_stays() -> None:
    message = "temperature: 3.5 is more than 2.0, see and/or e.g. section 4.2.1 of gpt-3.5-turbo's manual"
    assert failures.clean(message, [SECRET]) == message


@pytest.mark.parametrize("piece", ["a", "a.", "ab.", "a-", "-a", "sk-", "a-a.", "1.", "/a", "[a", "bearer ", "_"])
def test_a_long_message_holds_nobody_up(piece: str) -> None:
    text = (piece * relay.MAX_ERROR_BODY)[: relay.MAX_ERROR_BODY]
    started = time.perf_counter()
    failures.clean(text, [SECRET])
    assert time.perf_counter() - started < 0.5  # it took half a minute where every character began a search


def test_a_key_is_taken_out_wherever_it_stands() -> None:
    """It is cut off behind what is shown, or its first half would not be known as the key that it is."""
    secret = "/half+of/a+key" * 4
    for place in range(200, 700, 7):
        said = json.dumps({"error": {"message": "." * place + secret}}).encode()
        with pytest.raises(UpstreamStreamError) as caught:
            read_answer(said)
        assert secret[:8] not in failures.clean(failures.describe(caught.value), [secret])


def _unconnected(cause: OSError) -> UpstreamConnectError:
    error = UpstreamConnectError(f"{type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        _unconnected(ConnectionRefusedError(111, "Connect call failed ('fd00::7', 8080, 0, 0)")),
        _unconnected(ssl.SSLCertVerificationError("certificate is not valid for 'fd00::7'")),
        UpstreamStreamError("the quota of fd00::7 is used up"),
        CredentialError("Google gave no access token: no account fd00::7."),
    ],
)
def test_callers_do_not_read_in_their_receipts_what_only_operators_may(error: Exception) -> None:
    told = failures.outcome_of(error)
    assert told.startswith(type(error).__name__)
    assert "fd00" not in told
    assert "fd00" in failures.describe(error)
