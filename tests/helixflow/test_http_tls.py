"""TLS of one call: whose certificates are believed, and what a developer is told of the others."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from helixflow.lib import http
from tests.fakes.certificates import Authority
from tests.fakes.receiver import Receiver, close, drip_body, flood, status


@pytest.fixture(autouse=True)
def _loopback(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_LOOPBACK = True


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only one that is believed."""
    authority = Authority()
    context = authority.client_context()
    context.sslsocket_class = http._tls_context().sslsocket_class
    monkeypatch.setattr(http, "_tls_context", lambda: context)
    return authority


def post(url: str, *, timeout_s: float = 20.0) -> http.Answer:
    return http.post(url, body=b"{}", headers={}, timeout_s=timeout_s, read_bytes=1000)


def failure(url: str, *, timeout_s: float = 20.0) -> http.CallFailed:
    with pytest.raises(http.CallFailed) as caught:
        post(url, timeout_s=timeout_s)
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_for_the_host_is_believed(authority: Authority, host: str) -> None:
    with Receiver(tls=authority.server_context(host)) as receiver:
        receiver.script(status(200, b"fine"), flood())
        answers = [post(f"https://{host}:{receiver.port}/") for _ in range(2)]
    assert [(answer.body[:4], answer.truncated) for answer in answers] == [(b"fine", False), (b"floo", True)]
    assert receiver.calls[0].headers["host"] == f"{host}:{receiver.port}"


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (lambda authority: authority.server_context("elsewhere.example"), "not valid for localhost"),
        (lambda authority: authority.server_context("127.0.0.1"), "not valid for localhost"),
        (lambda authority: authority.server_context("localhost", expired=True), "has expired"),
        (lambda authority: authority.server_context("localhost", self_signed=True), "self-signed"),
        (lambda authority: Authority().server_context("localhost"), "not from a known authority"),
    ],
    ids=["other-name", "address-for-name", "expired", "self-signed", "unknown-authority"],
)
def test_another_certificate_is_refused_before_anything_is_sent(
    authority: Authority, context: Callable[[Authority], ssl.SSLContext], says: str
) -> None:
    with Receiver(tls=context(authority)) as receiver:
        failed = failure(f"https://localhost:{receiver.port}/")
        assert failed.code == "tls"
        assert says in failed.message
        assert receiver.calls == []


def test_the_tests_own_authority_is_not_believed_otherwise() -> None:
    with Receiver(tls=Authority().server_context("localhost")) as receiver:
        assert failure(f"https://localhost:{receiver.port}/").code == "tls"
        assert receiver.calls == []


def test_a_plain_server_is_told_apart(authority: Authority) -> None:
    def greet(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.sendall(b"220 mail.example.com ESMTP\r\n" * 10)
            connection.recv(1000)

    failed = _against(greet)
    assert failed.code == "tls"
    assert "Is this an https port?" in failed.message


def test_a_server_that_leaves_during_the_handshake_is_told(authority: Authority) -> None:
    failed = _against(lambda listener: listener.accept()[0].close())
    assert failed.code == "tls"


def test_a_handshake_without_end_is_cut_off_by_the_clock() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        failed = failure(f"https://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.5)
    assert failed.code == "timeout"
    assert "TLS handshake" in failed.message


def test_a_dripping_handshake_is_too(authority: Authority) -> None:
    def drip(listener: socket.socket) -> None:
        with listener.accept()[0] as connection, contextlib.suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\x00")  # announces a handshake message of 16 KiB
            for _ in range(1000):
                connection.sendall(b"\x02")
                time.sleep(0.05)

    assert _against(drip, timeout_s=0.5).code == "timeout"


def test_a_dripping_body_is_cut_off_under_tls_too(authority: Authority) -> None:
    with Receiver(tls=authority.server_context("localhost")) as receiver:
        receiver.script(drip_body(200, 0.05), close())
        url = f"https://localhost:{receiver.port}/"
        assert [failure(url, timeout_s=1.0).code for _ in range(2)] == ["timeout", "broken_answer"]


def _against(serve: Callable[[socket.socket], Any], *, timeout_s: float = 20.0) -> http.CallFailed:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        failed = failure(f"https://localhost:{listener.getsockname()[1]}/", timeout_s=timeout_s)
        thread.join(10)
    return failed
