"""The upstream client against real servers: pooling, deadlines, failures, TLS, and callers who leave."""

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from inference import upstream as module
from inference.connection import Connection
from inference.upstream import (
    Deadlines,
    Origin,
    Response,
    UpstreamClient,
    UpstreamConnectError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTooLarge,
    header_lines,
)
from tests.fakes import answers
from tests.fakes.behaviours import BEHAVIOURS, Call, endless, normal, raw
from tests.fakes.certificates import Authority
from tests.fakes.upstream import Upstream, refused_url

pytestmark = pytest.mark.anyio

PATH = "/chat/completions"
LIMIT = 1_000_000
SWEEP_S = 0.3  # how late a deadline may fire
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(params=[{"use_uvloop": False}, {"use_uvloop": True}], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", request.param


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    await made.close()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tls_upstream(authority: Authority) -> Iterator[Upstream]:
    with Upstream(tls=authority.server_context("localhost", "127.0.0.1")) as running:
        yield running


async def post(
    client: UpstreamClient,
    where: Upstream | Origin,
    model: str = "normal",
    deadlines: Deadlines | None = None,
    **body: Any,
) -> Response:
    origin = where if isinstance(where, Origin) else Origin.parse(where.url)
    encoded = json.dumps({"model": model} | body).encode()
    return await client.post(origin, PATH, b"", encoded, deadlines or Deadlines())


async def read(
    client: UpstreamClient,
    where: Upstream | Origin,
    model: str = "normal",
    deadlines: Deadlines | None = None,
    **body: Any,
) -> bytes:
    return await (await post(client, where, model, deadlines, **body)).read(LIMIT)


async def eventually(truth: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not truth():
            await asyncio.sleep(0.005)


def read_until_closed(listener: socket.socket) -> None:
    """Fails if who dialled ``listener`` is still there after two seconds."""
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(2)
        while accepted.recv(4096):
            pass


# Asking and being answered


async def test_the_request_is_as_openai_wants_it(client: UpstreamClient, upstream: Upstream) -> None:
    headers = header_lines({"Authorization": "Bearer sk-1", "OpenAI-Organization": "org-1"})
    response = await client.post(Origin.parse(upstream.url + "/"), PATH, headers, b'{"model":"normal"}', Deadlines())
    assert response.status == 200
    assert json.loads(await response.read(LIMIT))["usage"] == answers.USAGE
    assert upstream.last.path == "/v1/chat/completions"
    assert upstream.last.body == b'{"model":"normal"}'
    assert upstream.last.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": "HelixFlow",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": "Bearer sk-1",
        "openai-organization": "org-1",
        "content-length": "18",
    }


@pytest.mark.parametrize("model", ["normal", "one-read", "bytewise", "drip"])
async def test_a_stream_is_the_same_however_it_comes(client: UpstreamClient, upstream: Upstream, model: str) -> None:
    stream = await read(client, upstream, model, stream=True)
    assert stream == b"".join(answers.frames({}))


async def test_chunks_come_as_the_upstream_sends_them(client: UpstreamClient, upstream: Upstream) -> None:
    response = await post(client, upstream, "stall-in-the-middle", stream=True)
    received = b""
    while received.count(b"\n\n") < 2:
        received += await asyncio.wait_for(response.chunks(), 2)
    response.close()
    assert received == b"".join(answers.frames({})[:2])


@pytest.mark.parametrize("code", [400, 401, 429, 500, 503])
async def test_an_error_is_an_answer(client: UpstreamClient, upstream: Upstream, code: int) -> None:
    response = await post(client, upstream, f"status-{code}")
    assert response.status == code
    assert response.header(b"retry-after") == {429: b"7", 503: b"3"}.get(code)
    assert "message" in json.loads(await response.read(LIMIT))["error"]


async def test_a_redirect_is_not_followed(client: UpstreamClient, upstream: Upstream) -> None:
    assert (await post(client, upstream, "redirect")).status == 302
    assert len(upstream.requests) == 1


async def test_a_large_request_arrives_whole(client: UpstreamClient, upstream: Upstream) -> None:
    await read(client, upstream, filler="x" * 10_000_000)
    assert upstream.last.json["filler"] == "x" * 10_000_000


async def test_a_slow_reader_gets_every_byte(client: UpstreamClient, upstream: Upstream) -> None:
    part = bytes(range(256)) * 64
    upstream.script(endless(part, total_bytes=20_000_000))
    response = await post(client, upstream)
    received = hashlib.sha256()
    size = 0
    while data := await response.chunks():
        received.update(data)
        size += len(data)
        await asyncio.sleep(0.0005)
    assert size == 20_000_000 // len(part) * len(part)
    assert received.digest() == hashlib.sha256(part * (size // len(part))).digest()


async def test_an_answer_without_end_stays_out_of_memory_while_unread(
    client: UpstreamClient, upstream: Upstream
) -> None:
    response = await post(client, upstream, "endless-answer")
    await asyncio.sleep(0.3)
    assert response._buffered < 192 * 1024
    with pytest.raises(UpstreamTooLarge):
        await response.read(LIMIT)
    await eventually(upstream.disconnected.is_set)


# Keeping connections


async def test_a_connection_serves_one_request_after_another(client: UpstreamClient, upstream: Upstream) -> None:
    for model in ("normal", "bytewise", "status-500", "normal"):
        await read(client, upstream, model, stream=True)
    assert upstream.accepted == 1


async def test_parallel_requests_have_a_connection_each_and_few_are_kept(upstream: Upstream) -> None:
    client = UpstreamClient(max_idle_per_origin=3)
    bodies = await asyncio.gather(*(read(client, upstream, "drip" if n % 2 else "normal") for n in range(20)))
    assert len(bodies) == 20
    assert all(bodies)
    await eventually(lambda: upstream.connections == 3)
    await client.close()
    await eventually(lambda: upstream.connections == 0)


async def test_origins_do_not_share_connections(client: UpstreamClient, upstream: Upstream) -> None:
    with Upstream() as other:
        for each in (upstream, other, upstream, other):
            await read(client, each)
        assert (upstream.accepted, len(upstream.requests)) == (1, 2)
        assert (other.accepted, len(other.requests)) == (1, 2)


async def test_an_old_idle_connection_is_closed_and_then_nothing_ticks(upstream: Upstream) -> None:
    client = UpstreamClient(max_idle_s=0.1)
    await read(client, upstream)
    assert upstream.connections == 1
    await eventually(lambda: upstream.connections == 0)
    await eventually(lambda: client._sweeper is None)
    assert (client._keys, client._idle) == ({}, {})
    await read(client, upstream)
    assert client._sweeper is not None
    await client.close()


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_an_idle_connection_the_upstream_ends_is_forgotten(
    client: UpstreamClient, upstream: Upstream, last_words: bytes
) -> None:
    async def behaviour(call: Call) -> None:
        await call.send(OK)
        await asyncio.sleep(0.05)
        await call.send(last_words)
        call.writer.close()

    upstream.script(behaviour)
    assert await read(client, upstream) == b"{}"
    await eventually(lambda: not client._keys)
    assert client._idle == {}
    assert await read(client, upstream)


def hang_up_on(number: int, *, after_s: float = 0.0, words: bytes = b"") -> Callable[[Call], Awaitable[None]]:
    """Answers requests well until the ``number``-th of this script, at which it closes."""
    seen = 0

    async def behaviour(call: Call) -> None:
        nonlocal seen
        seen += 1
        if seen != number:
            await normal(call)
            return
        await asyncio.sleep(after_s)
        await call.send(words)
        call.writer.close()

    return behaviour


async def test_a_kept_connection_found_closed_is_replaced(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.script(*[hang_up_on(2)] * 3)
    await read(client, upstream)
    assert await read(client, upstream)
    assert (len(upstream.requests), upstream.accepted) == (3, 2)


async def test_only_once(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.script("normal", raw(b""), raw(b""), "normal")
    await read(client, upstream)
    with pytest.raises(UpstreamDisconnected) as caught:
        await read(client, upstream)
    assert not caught.value.started
    assert len(upstream.requests) == 3


async def test_not_on_a_fresh_connection(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.script(raw(b""), "normal")
    with pytest.raises(UpstreamDisconnected):
        await read(client, upstream)
    assert len(upstream.requests) == 1


async def test_not_after_the_first_byte(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.script(*[hang_up_on(2, words=b"H")] * 3)
    await read(client, upstream)
    with pytest.raises(UpstreamDisconnected) as caught:
        await read(client, upstream)
    assert caught.value.started
    assert len(upstream.requests) == 2


async def test_not_when_the_upstream_worked_on_it(
    client: UpstreamClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALE_S", 0.05)
    upstream.script(*[hang_up_on(2, after_s=0.1)] * 3)
    await read(client, upstream)
    with pytest.raises(UpstreamDisconnected):
        await read(client, upstream)
    assert len(upstream.requests) == 2


# Failing


@pytest.mark.parametrize(
    ("model", "error", "attributes"),
    [
        ("not-http", UpstreamProtocolError, {}),
        ("huge-head", UpstreamProtocolError, {}),
        ("bad-chunk", UpstreamProtocolError, {}),
        ("compressed", UpstreamProtocolError, {}),
        ("length-long", UpstreamDisconnected, {"started": True}),
        ("endless-answer", UpstreamTooLarge, {}),
        ("endless-line", UpstreamTooLarge, {}),
        ("close-before-head", UpstreamDisconnected, {"started": False}),
        ("reset-before-head", UpstreamDisconnected, {"started": False}),
        ("cut-before-first", UpstreamDisconnected, {"started": True}),
        ("cut-fin", UpstreamDisconnected, {"started": True}),
        ("cut-reset", UpstreamDisconnected, {"started": True}),
        ("stall-before-head", UpstreamTimeout, {"phase": "first_byte"}),
        ("stall-before-first", UpstreamTimeout, {"phase": "first_byte"}),
        ("stall-in-the-middle", UpstreamTimeout, {"phase": "gap"}),
    ],
)
async def test_each_failure_has_its_error_and_leaves_no_connection(
    client: UpstreamClient, upstream: Upstream, model: str, error: type[UpstreamError], attributes: dict[str, object]
) -> None:
    with pytest.raises(error) as caught:
        await read(client, upstream, model, Deadlines(first_byte_s=0.2, gap_s=0.2))
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    await eventually(lambda: upstream.connections == 0 and not client._keys)


@pytest.mark.parametrize("model", BEHAVIOURS)
async def test_whatever_one_upstream_does_the_next_request_is_answered(
    client: UpstreamClient, upstream: Upstream, model: str
) -> None:
    with contextlib.suppress(UpstreamError):
        await read(client, upstream, model, Deadlines(first_byte_s=0.1, gap_s=0.1, total_s=0.3), stream=True)
    assert json.loads(await read(client, upstream))["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("model", "deadlines", "phase"),
    [
        ("stall-before-head", Deadlines(first_byte_s=0.4), "first_byte"),
        ("stall-before-first", Deadlines(first_byte_s=0.4), "first_byte"),
        ("stall-in-the-middle", Deadlines(gap_s=0.4), "gap"),
        ("drip", Deadlines(gap_s=0.3, total_s=0.4), "total"),
        ("stall-before-head", Deadlines(total_s=0.4), "total"),
        ("endless-comment", Deadlines(total_s=0.4), "total"),
    ],
)
async def test_deadlines_are_kept(
    client: UpstreamClient, upstream: Upstream, model: str, deadlines: Deadlines, phase: str
) -> None:
    started_at = time.monotonic()
    with pytest.raises(UpstreamTimeout) as caught:  # noqa: PT012  # the whole reading is what must end
        response = await post(client, upstream, model, deadlines, stream=True)
        while await response.chunks():
            pass
    assert caught.value.phase == phase
    assert 0.39 < time.monotonic() - started_at < 0.4 + SWEEP_S
    await eventually(lambda: upstream.connections == 0)


async def test_a_slow_reader_is_not_a_silent_upstream(client: UpstreamClient, upstream: Upstream) -> None:
    response = await post(client, upstream, "endless-answer", Deadlines(gap_s=0.2))
    for _ in range(3):
        assert await response.chunks()
    await asyncio.sleep(0.8)
    for _ in range(3):
        assert await response.chunks()
    response.close()


async def test_a_reader_who_never_comes_back_is_bounded_by_the_total(
    client: UpstreamClient, upstream: Upstream
) -> None:
    response = await post(client, upstream, "endless-answer", Deadlines(total_s=0.3))
    await eventually(lambda: upstream.connections == 0)
    with pytest.raises(UpstreamTimeout):  # noqa: PT012  # what had come is handed out first
        while await response.chunks():
            pass


async def test_nobody_listening_is_a_connect_error(client: UpstreamClient) -> None:
    with pytest.raises(UpstreamConnectError):
        await read(client, Origin.parse(refused_url()))
    assert client._keys == {}


async def test_an_upstream_that_hangs_up_on_everyone_leaves_nothing_behind(client: UpstreamClient) -> None:
    """Some connections are lost before the client has even heard that they were made."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        origin = Origin.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        ended = await asyncio.gather(*(read(client, origin) for _ in range(100)), return_exceptions=True)
        assert {type(error) for error in ended} <= {UpstreamConnectError, UpstreamDisconnected}
        await eventually(lambda: not client._keys)


async def test_a_connection_lost_before_it_is_used_is_a_connect_error(
    client: UpstreamClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "usable", lambda _: False)
    with pytest.raises(UpstreamConnectError):
        await read(client, upstream)
    assert client._keys == {}
    assert upstream.requests == []


async def test_a_name_without_address_is_a_connect_error(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(client, "_resolve", fail)
    with pytest.raises(UpstreamConnectError, match="Name or service"):
        await read(client, Origin.parse("http://no-such-host.example/v1"))


async def test_a_dead_address_gives_way_to_the_next(
    client: UpstreamClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake listens on 127.0.0.1 only: its neighbours refuse."""

    async def resolve(*_: object) -> list[str]:
        return ["127.0.0.3", "127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(client, "_resolve", resolve)
    assert await read(client, Origin.parse(f"http://several.example:{upstream.port}/v1"))
    assert upstream.last.headers["host"] == f"several.example:{upstream.port}"


async def test_localhost_is_found_by_name(client: UpstreamClient, upstream: Upstream) -> None:
    assert await read(client, Origin.parse(f"http://localhost:{upstream.port}/v1"))


async def test_a_port_that_never_answers_is_given_up_in_time(client: UpstreamClient) -> None:
    """A listener whose queue is full drops new connections on the floor, as a dead machine would."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        origin = Origin.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        started_at = time.monotonic()
        with pytest.raises(UpstreamConnectError):
            await read(client, origin, deadlines=Deadlines(connect_s=0.3))
        assert 0.29 < time.monotonic() - started_at < 0.6


# TLS


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


# Callers who leave


@pytest.mark.parametrize("model", ["stall-before-first", "stall-in-the-middle", "drip", "endless-comment"])
async def test_closing_stops_the_upstream_within_a_second(
    client: UpstreamClient, upstream: Upstream, model: str
) -> None:
    response = await post(client, upstream, model, stream=True)
    closed_at = time.monotonic()
    response.close()
    await eventually(upstream.disconnected.is_set)
    assert upstream.disconnects[0] - closed_at < 0.5
    assert client._keys == {}


@pytest.mark.parametrize("model", ["stall-before-head", "stall-before-first", "stall-in-the-middle"])
async def test_a_cancelled_call_stops_the_upstream_within_a_second(
    client: UpstreamClient, upstream: Upstream, model: str
) -> None:
    async def call() -> None:
        response = await post(client, upstream, model, stream=True)
        while await response.chunks():
            pass

    task = asyncio.create_task(call())
    await eventually(lambda: bool(upstream.requests))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(upstream.disconnected.is_set)
    assert client._keys == {}


@pytest.mark.parametrize("secure", [False, True])
async def test_calls_cancelled_at_any_moment_leave_no_connection(
    client: UpstreamClient, upstream: Upstream, tls_upstream: Upstream, authority: Authority, secure: bool
) -> None:
    server = tls_upstream if secure else upstream
    origin = Origin.parse(server.url, ssl_context=authority.client_context() if secure else None)
    for steps in range(40):
        task = asyncio.create_task(read(client, origin, "bytewise", stream=True))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: server.connections == len(client._keys))
    assert all(connection._response is None for connection in client._keys)


async def test_closing_the_client_ends_what_is_under_way(upstream: Upstream) -> None:
    client = UpstreamClient()
    task = asyncio.create_task(read(client, upstream, "stall-in-the-middle", stream=True))
    await eventually(lambda: bool(upstream.requests))
    await client.close()
    with pytest.raises(UpstreamDisconnected):
        await task
    with pytest.raises(RuntimeError):
        await post(client, upstream)
    await eventually(lambda: upstream.connections == 0)


def test_requests_of_many_threads_loops_do_not_meet(upstream: Upstream) -> None:
    """A client each, as there is one per event loop."""
    bodies: list[bytes] = []

    async def main() -> None:
        client = UpstreamClient()
        bodies.extend(await asyncio.gather(*(read(client, upstream) for _ in range(20))))
        await client.close()

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(bodies) == 80


# Addresses and headers


@pytest.mark.parametrize(
    ("base_url", "host_header", "head"),
    [
        ("http://127.0.0.1:8080/v1", b"127.0.0.1:8080", b"POST /v1/x HTTP/1.1\r\n"),
        ("https://api.openai.com/v1/", b"api.openai.com", b"POST /v1/x HTTP/1.1\r\n"),
        ("https://API.example.com:443", b"api.example.com", b"POST /x HTTP/1.1\r\n"),
        ("http://example.com:443/a/b", b"example.com:443", b"POST /a/b/x HTTP/1.1\r\n"),
        ("http://[::1]:9/v1", b"[::1]:9", b"POST /v1/x HTTP/1.1\r\n"),
        ("https://bücher.example/v1", b"xn--bcher-kva.example", b"POST /v1/x HTTP/1.1\r\n"),
    ],
)
def test_a_base_url_is_taken_apart(base_url: str, host_header: bytes, head: bytes) -> None:
    origin = Origin.parse(base_url)
    assert origin.host_header == host_header
    assert origin.head("/x").startswith(head + b"Host: " + host_header + b"\r\n")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://secret.example/v1",
        "//secret.example/v1",
        "https:///secret",
        "https://user:secret@example.com/v1",
        "https://secret@example.com/v1",
        "https://example.com/v1?key=secret",
        "https://example.com/v1#secret",
        "https://example.com:secret/v1",
        "https://example.com:99999/secret",
        "https://exa mple.com/secret",
        "https://example.com/v1 secret",
        "https://example.com/sécret",
        "https://" + "secret" * 20 + ".example/v1",
    ],
)
def test_a_bad_base_url_is_refused_without_repeating_it(base_url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as caught:
        Origin.parse(base_url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/x y", "/x\r\nHost: evil", "/ü"])
def test_a_path_that_would_split_the_request_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Origin.parse("http://example.com").head(path)


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer secret\r\nX: y"}, {"A": "secret\n"}, {"A": "sécret"}, {"A:": "secret"}, {"": "secret"}],
)
def test_a_header_that_would_split_the_request_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        header_lines(headers)
    assert "secret" not in str(caught.value)
