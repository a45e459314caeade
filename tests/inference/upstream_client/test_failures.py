"""Each failure has its error, within its deadline, and leaves nothing behind."""

import asyncio
import contextlib
import json
import socket
import time

import pytest

from inference.connection import Connection
from inference.upstream import (
    Deadlines,
    Origin,
    UpstreamClient,
    UpstreamConnectError,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from tests.fakes.behaviours import BEHAVIOURS
from tests.fakes.upstream import Upstream, refused_url
from tests.inference.upstream_client.calls import eventually, post, read

pytestmark = pytest.mark.anyio

SWEEP_S = 0.3  # how late a deadline may fire


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
