import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import keys

A_KEY = "hflow_0eQtWbzSaAt5a9XncNGx52xB0dVhOjzR48XnFNs9DHX4AKDap"  # fixed: it goes into names of tests


def test_a_key_has_the_promised_form():
    assert A_KEY.startswith("hflow_")
    assert len(A_KEY) == len("hflow_") + 43 + 6
    assert set(A_KEY.removeprefix("hflow_")) <= set(string.ascii_letters + string.digits)


def test_keys_differ():
    assert len({keys.generate() for _ in range(1000)}) == 1000


def test_a_generated_key_is_well_formed():
    assert all(keys.is_well_formed(keys.generate()) for _ in range(100))


@given(position=st.integers(0, len(A_KEY) - 1), char=st.sampled_from(string.ascii_letters + string.digits + "_-\0é "))
def test_any_single_typo_is_noticed(position: int, char: str):
    typo = A_KEY[:position] + char + A_KEY[position + 1 :]
    assert keys.is_well_formed(typo) == (typo == A_KEY)


@given(text=st.text(max_size=80))
def test_random_text_is_no_key_and_no_crash(text: str):
    assert not keys.is_well_formed(text)
    assert not keys.is_well_formed("hflow_" + text)


@pytest.mark.parametrize("odd", ["\0", "\n", "_", " "])
def test_a_right_checksum_over_odd_characters_is_not_enough(odd: str):
    body = "hflow_" + odd + "a" * 42
    assert not keys.is_well_formed(body + keys._checksum(body))


def test_the_hint_tells_eight_characters_and_no_more():
    assert keys.hint(A_KEY) == f"hflow_{A_KEY[6:10]}…{A_KEY[-4:]}"
