"""How one connection reads answers: right ones however they are cut, and wrong ones never as right."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import pytest

from inference.connection import HIGH_WATER_BYTES, READ_BYTES, Connection, Response
from inference.upstream import Deadlines, UpstreamDisconnected, UpstreamProtocolError, UpstreamTooLarge

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Type: application/json\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nTrailer: t\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False
        self.flow: list[str] = []
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.flow.append("paused")

    def resume_reading(self) -> None:
        self.flow.append("resumed")

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Exchange:
    """One request under way on a connection of its own."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.idle: list[Connection] = []
        self._buffer = memoryview(bytearray(READ_BYTES))
        self.connection = Connection(
            asyncio.get_running_loop(), self._buffer, on_idle=self.idle.append, on_lost=lambda _: None
        )
        self.connection.connection_made(self.wire)
        self._head = asyncio.ensure_future(self.connection.exchange(b"POST", Deadlines(), 0.0))

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._head.cancel()
        await asyncio.gather(self._head, return_exceptions=True)

    def arrive(self, *parts: bytes, eof: bool = False) -> None:
        for part in parts:
            for start in range(0, len(part), READ_BYTES):
                piece = part[start : start + READ_BYTES]
                if not self.wire.aborted:
                    self._buffer[: len(piece)] = piece
                    self.connection.buffer_updated(len(piece))
        if eof:
            if not self.wire.aborted:
                self.connection.eof_received()
            self.connection.connection_lost(None)

    async def response(self) -> Response:
        return await asyncio.wait_for(self._head, 5)

    async def body(self, limit: int = 1_000_000) -> bytes:
        return await asyncio.wait_for((await self.response()).read(limit), 5)


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_an_answer_cut_anywhere_is_the_same(answer: bytes) -> None:
    for cut in range(len(answer) + 1):
        async with Exchange() as exchange:
            exchange.arrive(*(part for part in (answer[:cut], answer[cut:]) if part))
            assert await exchange.body() == b"hello world", cut
            assert exchange.idle == [exchange.connection]


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_an_answer_comes_byte_by_byte(answer: bytes) -> None:
    async with Exchange() as exchange:
        exchange.arrive(*(bytes([byte]) for byte in answer))
        assert await exchange.body() == b"hello world"


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_an_answer_that_ends_early_is_no_answer(answer: bytes) -> None:
    for cut in range(len(answer)):
        async with Exchange() as exchange:
            exchange.arrive(*([answer[:cut]] if cut else []), eof=True)
            with pytest.raises(UpstreamDisconnected) as caught:
                await exchange.body()
            assert caught.value.started is (cut > 0)


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with Exchange() as exchange:
        exchange.arrive(OK + b"\r\nhello ", b"world", eof=True)
        response = await exchange.response()
        assert await response.read(100) == b"hello world"
        assert not response.framed
        assert exchange.idle == []


async def test_an_answer_with_an_empty_body_is_framed() -> None:
    async with Exchange() as exchange:
        exchange.arrive(b"HTTP/1.1 204 No Content\r\n\r\n")
        response = await exchange.response()
        assert (response.status, response.framed, await response.read(100)) == (204, True, b"")
        assert exchange.idle == [exchange.connection]


async def test_headers_are_found_by_lower_case_names_and_repeats_joined() -> None:
    async with Exchange() as exchange:
        exchange.arrive(OK + b"Content-Length: 0\r\nRETRY-After: 7\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
        response = await exchange.response()
        assert response.header(b"retry-after") == b"7"
        assert response.header(b"x-a") == b"1, 2"
        assert response.header(b"x-b") is None


async def test_interim_answers_are_skipped() -> None:
    async with Exchange() as exchange:
        exchange.arrive(b"HTTP/1.1 100 Continue\r\nX-Hint: 1\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n" + LENGTH)
        response = await exchange.response()
        assert response.status == 200
        assert response.header(b"x-hint") is None
        assert await response.read(100) == b"hello world"
        assert exchange.idle == [exchange.connection]


NOT_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "a bad chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    "a chunk longer than it says": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length that is no number": OK + b"Content-Length: -5\r\n\r\nhello",
    "a length past 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "an unknown transfer coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a split transfer coding": OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "compression": OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "a header with NUL": OK + b"X-A: a\0b\r\n\r\n",
    "one huge header": OK + b"X-A: " + b"a" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "many headers": OK + b"X-A: abcdefgh\r\n" * 2000 + b"Content-Length: 0\r\n\r\n",
    "a reason without end": b"HTTP/1.1 200 " + b"O" * 20_000,
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "trailers without end": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"X-A: abcdefgh\r\n" * 2000,
    "a chunk extension without end": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n5;" + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP.keys())
@pytest.mark.parametrize("step", [100, READ_BYTES])
async def test_what_is_not_http_is_refused_and_the_connection_cut(answer: bytes, step: int) -> None:
    async with Exchange() as exchange:
        exchange.arrive(*(answer[start : start + step] for start in range(0, len(answer), step)))
        with pytest.raises(UpstreamProtocolError):
            await exchange.body()
        assert exchange.wire.aborted
        assert exchange.idle == []


@pytest.mark.parametrize("surplus", [b"!", b"\x00", LENGTH])
async def test_bytes_past_the_end_end_the_connection_but_not_the_answer(surplus: bytes) -> None:
    async with Exchange() as exchange:
        exchange.arrive(LENGTH + surplus)
        assert await exchange.body() == b"hello world"
        assert exchange.wire.aborted
        assert exchange.idle == []


@pytest.mark.parametrize("surplus", [b"!", LENGTH])
async def test_bytes_nobody_asked_for_end_an_idle_connection(surplus: bytes) -> None:
    async with Exchange() as exchange:
        exchange.arrive(LENGTH, surplus)
        assert await exchange.body() == b"hello world"
        assert exchange.wire.aborted
        assert not exchange.connection.usable()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_connection_the_upstream_will_close_is_not_kept(answer: bytes) -> None:
    async with Exchange() as exchange:
        exchange.arrive(answer)
        assert await exchange.body() == b"{}"
        assert exchange.wire.aborted
        assert exchange.idle == []


async def test_a_connection_whose_request_is_not_all_sent_is_not_kept() -> None:
    """The upstream has answered early, 413 say: the rest of the request would be read as the next one."""
    async with Exchange() as exchange:
        exchange.wire.unsent = 5_000_000
        exchange.arrive(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        assert (await exchange.response()).status == 413
        assert exchange.wire.aborted
        assert exchange.idle == []


async def test_a_connection_is_free_before_its_answer_is_read() -> None:
    async with Exchange() as exchange:
        exchange.arrive(LENGTH)
        response = await exchange.response()
        assert exchange.idle == [exchange.connection]
        assert await response.chunks() == b"hello world"
        assert await response.chunks() == b""


async def test_what_came_before_a_cut_is_read_before_the_error() -> None:
    async with Exchange() as exchange:
        exchange.arrive(CHUNKED[: CHUNKED.index(b"5\r\nworld")], eof=True)
        response = await exchange.response()
        assert await response.chunks() == b"hello "
        for _ in range(2):
            with pytest.raises(UpstreamDisconnected):
                await response.chunks()


async def test_unread_bytes_stop_the_reading_and_reading_resumes_it() -> None:
    async with Exchange() as exchange:
        exchange.arrive(OK + b"Content-Length: 1000000\r\n\r\n")
        response = await exchange.response()
        exchange.arrive(b"x" * HIGH_WATER_BYTES)
        assert exchange.wire.flow == []
        exchange.arrive(b"x")
        assert exchange.wire.flow == ["paused"]
        assert len(await response.chunks()) == HIGH_WATER_BYTES + 1
        assert exchange.wire.flow == ["paused", "resumed"]


async def test_the_last_bytes_of_an_answer_resume_the_reading() -> None:
    """An idle connection must see the upstream close it."""
    async with Exchange() as exchange:
        exchange.arrive(OK + b"Content-Length: 70000\r\n\r\n")
        exchange.arrive(b"x" * 30_000, b"x" * 36_000)
        assert exchange.wire.flow == ["paused"]
        exchange.arrive(b"x" * 4_000)  # what the loop had read already
        assert exchange.wire.flow == ["paused", "resumed"]
        assert exchange.idle == [exchange.connection]
        assert len(await exchange.body()) == 70_000


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, OK + b"\r\nhello world"], ids=["length", "chunked", "close"])
async def test_a_body_past_the_limit_is_refused(answer: bytes) -> None:
    for limit, error in [(10, UpstreamTooLarge), (11, None)]:
        async with Exchange() as exchange:
            exchange.arrive(answer, eof=True)
            if error is None:
                assert await exchange.body(limit) == b"hello world"
            else:
                with pytest.raises(error):
                    await exchange.body(limit)


async def test_a_length_past_the_limit_is_refused_before_the_body() -> None:
    async with Exchange() as exchange:
        exchange.arrive(OK + b"Content-Length: 2000000000\r\n\r\n")
        with pytest.raises(UpstreamTooLarge):
            await exchange.body()
        assert exchange.wire.aborted


async def test_closing_an_unfinished_answer_cuts_the_connection() -> None:
    async with Exchange() as exchange:
        exchange.arrive(LENGTH[:-5])
        response = await exchange.response()
        response.close()
        assert exchange.wire.aborted
        assert await response.chunks() == b"hello "
        with pytest.raises(UpstreamDisconnected):
            await response.chunks()


@pytest.mark.parametrize("wait", [lambda response: response.chunks(), lambda response: response.read(100)])
async def test_a_cancelled_reader_cuts_the_connection(wait: Callable[[Response], Any]) -> None:
    async with Exchange() as exchange:
        exchange.arrive(LENGTH[: LENGTH.index(b"hello")])
        reading = asyncio.ensure_future(wait(await exchange.response()))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert exchange.wire.aborted
