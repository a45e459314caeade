"""What callers and the log may see of an upstream's message."""

import time

import pytest

from inference import relay
from inference.catalogue import Deployment
from inference.upstream import Origin

SECRET = "provider secret"  # with a space, so that no pattern finds it
DEPLOYMENT = Deployment(
    name="first",
    upstream_model="model",
    origin=Origin.parse("http://127.0.0.1:9/v1"),
    headers=b"",
    secret=SECRET,
    priority=0,
    weight=1,
    stream_always=False,
    renames_max_tokens=False,
)


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
    cleaned = relay.clean(f"Failed at {leak} for now", DEPLOYMENT)
    assert cleaned.startswith("Failed at ")
    assert cleaned.endswith(" for now")
    assert not any(word in cleaned for word in ("10.1", "internal", "fe80", "8080", "srv", "0123", "abc", SECRET))


def test_what_is_no_secret_stays() -> None:
    message = "temperature: 3.5 is more than 2.0, see and/or e.g. section 4.2.1 of gpt-3.5-turbo's manual"
    assert relay.clean(message, DEPLOYMENT) == message


@pytest.mark.parametrize("piece", ["a", "a.", "ab.", "a-", "-a", "sk-", "a-a.", "1.", "/a", "[a", "bearer ", "_"])
def test_a_long_message_holds_nobody_up(piece: str) -> None:
    text = (piece * relay.MAX_ERROR_BODY)[: relay.MAX_ERROR_BODY]
    started = time.perf_counter()
    relay.clean(text, DEPLOYMENT)
    assert time.perf_counter() - started < 0.5  # it took half a minute where every character began a search
