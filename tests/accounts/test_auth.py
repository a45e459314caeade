import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import auth, keys
from helixflow.lib import errors

KEY = "hflow_0eQtWbzSaAt5a9XncNGx52xB0dVhOjzR48XnFNs9DHX4AKDap"  # fixed: it goes into names of tests
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"BeArEr"])
@pytest.mark.parametrize("gap", [b" ", b"   "])
def test_reads_the_token_whatever_the_case_of_the_scheme(scheme: bytes, gap: bytes):
    assert auth.bearer_token([scheme + gap + KEY.encode()]) == KEY


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer    "],
        [b"Basic dXNlcjpwYXNz"],
        [b"Token " + KEY.encode()],
        [KEY.encode()],
        [b"Bearer\t" + KEY.encode()],
        [b"Bearer " + KEY.encode(), b"Bearer " + KEY.encode()],
        [b"", b"Bearer " + KEY.encode()],
        [b"Bearer " + KEY.encode() + b",Bearer " + KEY.encode()],
        [b"Bearer \xf0\x9f\x94\x91"],
        [b"Bearer " + KEY.encode() + b"\xff"],
    ],
)
def test_refuses_what_names_no_single_token(values: list[bytes]):
    with pytest.raises(errors.AuthenticationFailed) as caught:
        auth.bearer_token(values)
    assert caught.value.code == "authentication_failed"
    assert KEY not in caught.value.message


@given(values=st.lists(st.binary(max_size=100), max_size=3))
def test_no_header_crashes_it(values: list[bytes]):
    try:
        token = auth.bearer_token(values)
    except errors.AuthenticationFailed:
        return
    assert token
    assert token.isascii()


def test_a_key_passes_the_check_of_its_form():
    auth.check_form(KEY)


@pytest.mark.parametrize(
    "token",
    [
        "' OR 1=1 --",
        "hflow_' UNION SELECT digest FROM accounts_apikey; --",
        KEY[:-1],
        KEY + "a",
        KEY.swapcase(),
        KEY[:20] + "\0" + KEY[21:],
        KEY[:20] + "\n" + KEY[21:],
        KEY + "\n",
        f"{KEY} {KEY}",
        "sk-" + "a" * 48,
        "",
    ],
)
def test_refuses_what_cannot_be_a_key(token: str):
    with pytest.raises(errors.InvalidApiKey) as caught:
        auth.check_form(token)
    assert caught.value.status == 401


def test_a_jwt_given_as_a_key_is_told_what_to_do():
    with pytest.raises(errors.InvalidApiKey, match="need an API key"):
        auth.check_form(JWT)


def test_an_overlong_token_is_refused_cheaply():
    token = "hflow_" + "a" * 65536
    started = time.perf_counter()
    for _ in range(100):
        with pytest.raises(errors.InvalidApiKey):
            auth.check_form(token)
    assert time.perf_counter() - started < 0.5


def test_digests_follow_the_peppers_and_the_first_is_for_new_keys(settings):
    settings.KEY_PEPPERS = ["old"]
    [old] = auth.digests(KEY)
    settings.KEY_PEPPERS = ["new", "old"]
    assert auth.digests(KEY) == [hmac.digest(b"new", KEY.encode(), "sha256"), old]
    assert auth.digests(KEY) != auth.digests(keys.generate())
