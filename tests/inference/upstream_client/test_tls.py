"""Certificates are checked, and failures over TLS are the same failures."""

import asyncio
import socket
import ssl
import time

import pytest

from inference.upstream import (
    Deadlines,
    Origin,
    UpstreamClient,
    UpstreamConnectError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from tests.fakes import answers
from tests.fakes.certificates import Authority
from tests.fakes.upstream import Upstream
from tests.inference.upstream_client.calls import eventually, post, read

pytestmark = pytest.mark.anyio


def read_until_closed(listener: socket.socket) -> None:
    """Fails if who dialled ``listener`` is still there after two seconds."""
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(2)
        while accepted.recv(4096):
            pass


async def test_tls_with_a_known_authority(client: UpstreamClient, tls_upstream: Upstream, authority: Authority) -> None:
    for host in ("127.0.0.1", "localhost"):
        origin = Origin.parse(f"https://{host}:{tls_upstream.port}/v1", ssl_context=authority.client_context())
        assert await read(client, origin, stream=True) == b"".join(answers.frames({}))
    context = authority.client_context()
    origin = Origin.parse(tls_upstream.url, ssl_context=context)
    for _ in range(3):
        assert await read(client, origin)
    assert tls_upstream.accepted == 3


async def test_tls_tells_the_server_the_name(client: UpstreamClient, authority: Authority) -> None:
    context = authority.server_context("localhost")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with Upstream(tls=context) as running:
        await read(client, Origin.parse(f"https://localhost:{running.port}/v1", ssl_context=authority.client_context()))
    assert names == ["localhost"]


async def test_an_unread_answer_over_tls_stops_the_upstream(
    client: UpstreamClient, tls_upstream: Upstream, authority: Authority
) -> None:
    """The TLS transport reads ahead of us, but not without end."""
    origin = Origin.parse(tls_upstream.url, ssl_context=authority.client_context())
    response = await post(client, origin, "endless-answer")
    await asyncio.sleep(0.3)
    assert response._buffered < 192 * 1024
    assert not tls_upstream.disconnected.is_set()
    response.close()
    await eventually(tls_upstream.disconnected.is_set)


@pytest.mark.parametrize("model", ["cut-fin", "cut-reset", "stall-in-the-middle", "endless-answer"])
async def test_failures_over_tls(
    client: UpstreamClient, tls_upstream: Upstream, authority: Authority, model: str
) -> None:
    origin = Origin.parse(tls_upstream.url, ssl_context=authority.client_context())
    with pytest.raises((UpstreamDisconnected, UpstreamTimeout, UpstreamTooLarge)):
        await read(client, origin, model, Deadlines(gap_s=0.2), stream=True)
    await eventually(lambda: tls_upstream.connections == 0 and not client._keys)


async def test_an_unknown_authority_is_refused(client: UpstreamClient, tls_upstream: Upstream) -> None:
    with pytest.raises(UpstreamConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await read(client, tls_upstream)
    assert tls_upstream.requests == []


async def test_another_hosts_certificate_is_refused(client: UpstreamClient, authority: Authority) -> None:
    with Upstream(tls=authority.server_context("other.example")) as running:
        with pytest.raises(UpstreamConnectError, match="not valid for"):
            await read(client, Origin.parse(running.url, ssl_context=authority.client_context()))
        assert running.requests == []


async def test_tls_to_a_plain_port_and_plain_to_a_tls_port(
    client: UpstreamClient, upstream: Upstream, tls_upstream: Upstream
) -> None:
    with pytest.raises(UpstreamConnectError):
        await read(client, Origin.parse(upstream.tls_mismatch_url), deadlines=Deadlines(connect_s=1))
    with pytest.raises(UpstreamError):
        await read(client, Origin.parse(tls_upstream.tls_mismatch_url))


async def test_a_handshake_that_stalls_is_given_up_in_time(client: UpstreamClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = Origin.parse(f"https://127.0.0.1:{listener.getsockname()[1]}/v1")
        started_at = time.monotonic()
        with pytest.raises(UpstreamConnectError):
            await read(client, origin, deadlines=Deadlines(connect_s=0.3))
        assert time.monotonic() - started_at < 0.6
        await asyncio.to_thread(read_until_closed, listener)


def test_certificates_are_checked_unless_a_test_says_otherwise() -> None:
    context = Origin.parse("https://api.openai.com/v1").ssl_context
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 50
