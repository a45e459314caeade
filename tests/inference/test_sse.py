"""The decoder of server-sent events: however the bytes are cut, the events are the same."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import sse

STREAMS: dict[str, tuple[bytes, list[bytes]]] = {
    "as usual": (b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n', [b'{"a":1}', b'{"b":2}', b"[DONE]"]),
    "crlf": (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
    "cr": (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
    "all line ends at once": (b"data: one\r\n\ndata: two\n\r\ndata: three\r\r\n", [b"one", b"two", b"three"]),
    "crlf in one event, lf in the next": (b"data: one\r\n\r\ndata: two\n\n", [b"one", b"two"]),
    "comments": (b": hello\n\ndata: one\n: between\n\n:\n\ndata: two\n\n", [b"one", b"two"]),
    "other fields": (b"event: error\nid: 7\nretry: 10\ndata: one\n\nunknown: x\n\n", [b"one"]),
    "no space": (b"data:one\n\ndata: two\n\n", [b"one", b"two"]),
    "only one space is dropped": (b"data:  one \n\n", [b" one "]),
    "several data lines": (b"data: one\ndata:\ndata: two\n\n", [b"one\n\ntwo"]),
    "several data lines in crlf": (b"data: one\r\ndata: two\r\n\r\ndata: three\r\n\r\n", [b"one\ntwo", b"three"]),
    "several data lines, then a usual event": (b"data: one\ndata: two\n\ndata: three\n\n", [b"one\ntwo", b"three"]),
    "empty data": (b"data: \n\ndata\n\ndata:\n\n", [b"", b"", b""]),
    "a field's name is whole": (b"database: no\n\ndata : no\n\n data: no\n\ndata: yes\n\n", [b"yes"]),
    "byte order mark": (b"\xef\xbb\xbfdata: one\n\ndata: two\n\n", [b"one", b"two"]),
    "byte order mark later": (b"data: one\n\n\xef\xbb\xbfdata: two\n\ndata: three\n\n", [b"one", b"three"]),
    "byte order mark before nothing": (b"\xef\xbb\xbf\n\ndata: one\n\n", [b"one"]),
    "characters of several bytes": ("data: Grüße 🌍\n\n".encode(), ["Grüße 🌍".encode()]),
    "unicode's other line ends": (
        "data: a\u2028b\u2029c\x85d\x0be\x0cf\n\n".encode(),
        ["a\u2028b\u2029c\x85d\x0be\x0cf".encode()],
    ),
    "too many blank lines": (b"\n\n\ndata: one\n\n\n\ndata: two\n\n\n", [b"one", b"two"]),
    "no UTF-8": (b"data: \xff\xfe\x00\n\n", [b"\xff\xfe\x00"]),
    "no blank line at the end": (b"data: one\n\ndata: two\n", [b"one", b"two"]),
    "no line end at the end": (b"data: one\n\ndata: two", [b"one", b"two"]),
    "half a CRLF at the end": (b"data: one\r\n\r", [b"one"]),
    "a comment at the end": (b"data: one\n\n: bye", [b"one"]),
    "nothing": (b"", []),
}

streams = pytest.mark.parametrize(("stream", "events"), STREAMS.values(), ids=STREAMS.keys())


def feed_all(decoder: sse.Decoder, parts: Iterable[bytes]) -> list[bytes]:
    return [event for part in parts for event in decoder.feed(part)]


def decode(*parts: bytes) -> list[bytes]:
    decoder = sse.Decoder()
    return feed_all(decoder, parts) + decoder.finish()


@streams
def test_it_decodes_a_stream_in_one_piece(stream: bytes, events: list[bytes]) -> None:
    assert decode(stream) == events


@streams
def test_it_decodes_a_stream_byte_by_byte(stream: bytes, events: list[bytes]) -> None:
    assert decode(*(bytes([byte]) for byte in stream)) == events


@streams
def test_it_decodes_a_stream_cut_anywhere_in_two(stream: bytes, events: list[bytes]) -> None:
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:]) == events, cut


@streams
def test_it_decodes_a_stream_cut_anywhere_in_three(stream: bytes, events: list[bytes]) -> None:
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert decode(stream[:first], stream[first:second], stream[second:]) == events, (first, second)


@given(
    stream=st.lists(
        st.sampled_from([b"data: ", b"data:", b"data", b":", b"x", b" ", b"\r", b"\n", b"\n\n", b"\xef\xbb\xbf"])
    ),
    cuts=st.lists(st.integers(0, 60)),
)
def test_cuts_never_change_the_events(stream: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(stream)
    parts = [
        whole[start:end] for start, end in pairwise([0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)])
    ]
    assert b"".join(parts) == whole
    assert decode(*parts) == decode(*(bytes([byte]) for byte in whole))


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))), st.sampled_from([b"\n", b"\r\n", b"\r"])
)
def test_what_was_encoded_comes_back(texts: list[str], end: bytes) -> None:
    stream = b"".join(b"data: " + text.encode() + end + end for text in texts)
    assert decode(stream) == [text.encode() for text in texts]


def test_an_event_is_there_as_soon_as_its_blank_line_is() -> None:
    decoder = sse.Decoder()
    assert decoder.feed(b"data: one\r\n\r") == [b"one"]
    assert decoder.feed(b"\ndata: two\n\ndata: th") == [b"two"]
    assert decoder.feed(b"ree\n") == []
    assert decoder.feed(b"\n") == [b"three"]


def test_finish_gives_the_last_event_once() -> None:
    decoder = sse.Decoder()
    decoder.feed(b"data: one")
    assert decoder.finish() == [b"one"]
    assert decoder.finish() == []


@pytest.mark.parametrize("line", [b"data: ", b": ", b"id: ", b""])
def test_a_line_past_the_cap_is_refused_before_it_ends(line: bytes) -> None:
    decoder = sse.Decoder()
    part = b"x" * 65536
    decoder.feed(line)
    with pytest.raises(sse.LineTooLong):
        feed_all(decoder, [part] * (sse.MAX_BYTES // len(part) + 1))


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_line_past_the_cap_is_refused_in_one_piece(end: bytes) -> None:
    with pytest.raises(sse.LineTooLong):
        decode(b"data: " + b"x" * sse.MAX_BYTES + end)


def test_an_event_of_endless_short_lines_is_refused() -> None:
    decoder = sse.Decoder()
    with pytest.raises(sse.LineTooLong):
        feed_all(decoder, [b"data: " + b"x" * 1000 + b"\n"] * 1100)


def test_a_line_just_under_the_cap_passes() -> None:
    payload = b"x" * (sse.MAX_BYTES - 100)
    assert decode(b"data: " + payload + b"\n\n") == [payload]
    assert decode(b"data: " + payload, b"\r\n\r\n") == [payload]


def test_many_events_in_one_read_are_not_one_long_line() -> None:
    """The cap is on a line: a read of more than that, of ordinary events, is none of its business."""
    assert len(decode(b"data: " + b"x" * 1000 + b"\n\n" + (b"data: y" + b"x" * 1000 + b"\n\n") * 2000)) == 2001
