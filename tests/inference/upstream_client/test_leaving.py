"""A caller who leaves stops the upstream and leaks nothing."""

import asyncio
import threading
import time

import pytest

from inference.upstream import (
    Origin,
    UpstreamClient,
    UpstreamDisconnected,
)
from tests.fakes.certificates import Authority
from tests.fakes.upstream import Upstream
from tests.inference.upstream_client.calls import eventually, post, read

pytestmark = pytest.mark.anyio


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
