"""Connections are kept, shared, aged out, and replaced when found closed."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from inference import upstream as module
from inference.upstream import (
    UpstreamClient,
    UpstreamDisconnected,
)
from tests.fakes.behaviours import Call, normal, raw
from tests.fakes.upstream import Upstream
from tests.inference.upstream_client.calls import eventually, read

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


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
