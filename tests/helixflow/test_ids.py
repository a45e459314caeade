import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helixflow.lib import ids


@given(st.uuids())
def test_a_public_id_is_its_uuid_and_back(value):
    text = ids.public_id(ids.API_KEY, value)
    assert len(text) == len("key_") + ids.LENGTH
    assert ids.parse_public_id(ids.API_KEY, text) == value


@given(st.uuids(), st.uuids())
def test_public_ids_sort_as_their_uuids(one, other):
    assert (ids.public_id("", one) < ids.public_id("", other)) == (one.int < other.int)


@given(st.integers(0, 62**7 - 1), st.sampled_from([7, 8]))
def test_base62_has_exactly_the_length_asked_for(number, length):
    text = ids.encode_base62(number, length)
    assert len(text) == length
    value = 0
    for char in text:
        value = value * 62 + ids.ALPHABET.index(char)
    assert value == number


def test_made_ids_are_version_7_and_follow_time(time_machine):
    time_machine.move_to("2026-01-01T00:00:00Z", tick=False)
    first = ids.uuid7()
    time_machine.move_to("2026-01-01T00:00:01Z", tick=False)
    second = ids.uuid7()
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert first < second


@pytest.mark.parametrize(
    "text", ["", "key_", "user-" + "0" * 22, "key_" + "0" * 21, "key_" + "z" * 22, "key_" + "é" * 22]
)
def test_what_no_public_id_can_be_is_refused(text):
    with pytest.raises(ValueError, match="starts with key_"):
        ids.parse_public_id(ids.API_KEY, text)
