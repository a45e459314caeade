"""Handshakes of WebSockets and what the server does with bad ones. One process with deadlines of a second."""

import base64
import os
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.helixflow.serving import Raw, Served, get, server


@pytest.fixture(scope="module")
def web() -> Iterator[Served]:
    with server("tests.helixflow.socket_app:app", header_s=1, write_s=1, idle_s=5, linger_s=0.5) as served:
        yield served


def handshake(path: str, *headers: str, version: int = 13, key: str = "") -> bytes:
    key = key or base64.b64encode(os.urandom(16)).decode()
    asked = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Version: {version}")
    return get(path, *asked, f"Sec-WebSocket-Key: {key}", *headers)


def address(web: Served, path: str) -> str:
    return f"ws://127.0.0.1:{web.port}{path}"


def is_reset(raw: Raw) -> bool:
    try:
        while raw.socket.recv(1_000_000):
            pass
    except ConnectionResetError:
        return True
    return False


def test_a_handshake_becomes_a_websocket(web: Served) -> None:
    with connect(address(web, "/echo")) as socket:
        assert socket.response is not None
        assert "server" not in {name.lower() for name in socket.response.headers}
        assert "sec-websocket-extensions" not in {name.lower() for name in socket.response.headers}
        socket.send("hello")
        assert socket.recv(10) == "hello"
        time.sleep(1.2)  # longer than all deadlines of requests
        socket.send("still there")
        assert socket.recv(10) == "still there"


def test_it_may_follow_requests_on_its_connection(web: Served) -> None:
    with web.connect() as raw:
        raw.send(get("/"))
        assert raw.answer().status == 200
        raw.send(handshake("/echo"))
        assert raw.answer(head_only=True).status == 101


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (handshake("/nowhere"), 404),
        (handshake("/v1/chat/completions"), 404),
        (handshake("/crash"), 500),
        (handshake("/echo", version=8), 400),
        (handshake("/echo", key="short"), 400),
        (handshake("/echo", "Content-Length: 5") + b"hello", 400),
        (handshake("/echo", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (handshake("/echo") + b"\x81\x85", 400),
        (handshake("/echo", "Cookie: a=" + "b" * 9_000), 431),
        (handshake("/" + "a" * 9_000), 431),
        (handshake("/echo", *(f"X-{number}: y" for number in range(200))), 431),
        (handshake("/echo", "Host: again"), 400),
        (handshake("http://[", ""), 400),
    ],
    ids=[
        "unknown",
        "API",
        "crash",
        "version",
        "key",
        "body",
        "chunks",
        "eager",
        "large cookie",
        "long address",
        "many headers",
        "two hosts",
        "no address",
    ],
)
def test_bad_ones_are_refused_and_hung_up_on(web: Served, request_bytes: bytes, status: int) -> None:
    with web.connect() as raw:
        raw.send(request_bytes)
        assert raw.answer().status == status
        assert raw.until_closed() == b""


def test_one_that_other_requests_wait_for_is_refused_after_their_answers(web: Served) -> None:
    with web.connect() as raw:
        raw.send(get("/slow") + handshake("/echo"))
        answer = raw.answer()
        assert (answer.status, answer.body) == (200, b"ok")
        assert raw.until_closed() == b""


def test_a_slow_one_is_408(web: Served) -> None:
    with web.connect() as raw:
        raw.send(handshake("/echo")[:-10])
        assert raw.answer().status == 408


def test_one_that_nobody_answers_is_cut(web: Served) -> None:
    with web.connect() as raw:
        raw.send(handshake("/never"))
        assert raw.until_closed() == b""


def test_who_does_not_read_is_cut(web: Served) -> None:
    with web.connect(receive_buffer=4096) as raw:
        raw.send(handshake("/flood"))
        assert raw.answer(head_only=True).status == 101
        time.sleep(2.5)  # reading nothing
        assert is_reset(raw)


def test_a_large_message_ends_it(web: Served) -> None:
    with connect(address(web, "/echo")) as socket:
        socket.send("x" * 300)
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009


def test_nothing_of_it_is_a_crash(web: Served) -> None:
    with Raw(web.port) as raw:
        raw.send(handshake("/echo"))
        assert raw.answer(head_only=True).status == 101
        raw.push(b"\xff\xff\xff\xff" * 100)
        raw.until_closed()
    with connect(address(web, "/echo")) as socket:
        socket.send("well")
        assert socket.recv(10) == "well"
    traces = "".join(web.log).split("Traceback")[1:]
    assert all("RuntimeError" in trace for trace in traces)  # of /crash, and no other
