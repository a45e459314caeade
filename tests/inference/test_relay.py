"""What callers and the log may see of an upstream's message."""

import time

import pytest

from inference import failures, relay

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
