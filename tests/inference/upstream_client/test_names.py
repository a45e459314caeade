"""Hosts' names, which a thread of few asks for: one that hangs is nobody else's trouble."""

import asyncio
import socket
from typing import Any

import pytest

from inference.upstream import Deadlines, Origin, UpstreamClient, UpstreamConnectError
from tests.fakes.upstream import Upstream
from tests.inference.upstream_client.calls import post, read


class Names:
    """In place of the loop's look-up: ``hangs.example`` hangs, ``nobody.example`` is not known."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        if host == "nobody.example":
            raise socket.gaierror(-2, "not known")
        if host == "hangs.example":
            await self.open.wait()
        else:
            await asyncio.sleep(0.05)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def run(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def with_names() -> None:
        names = Names()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names, raising=False)
        client = UpstreamClient()
        try:
            await work(client, names)
        finally:
            names.open.set()
            await client.close()

    asyncio.run(with_names())


def at(upstream: Upstream, host: str) -> Origin:
    return Origin.parse(upstream.url.replace("127.0.0.1", host))


def test_a_name_that_hangs_is_asked_for_once(upstream, monkeypatch):
    async def work(client: UpstreamClient, names: Names) -> None:
        hurried = Deadlines(connect_s=0.1)
        for _ in range(2):
            calls = [post(client, at(upstream, "hangs.example"), "normal", hurried) for _ in range(20)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(each) for each in found} == {UpstreamConnectError}
        assert names.asked == ["hangs.example"]
        assert await read(client, at(upstream, "well.example"))
        names.open.set()
        assert await read(client, at(upstream, "hangs.example"))

    run(work, monkeypatch)


def test_a_name_is_asked_for_again_with_the_next_connection(upstream, monkeypatch):
    async def work(client: UpstreamClient, names: Names) -> None:
        await asyncio.gather(*(read(client, at(upstream, "well.example")) for _ in range(5)))
        assert names.asked == ["well.example"]
        for _ in range(2):
            with pytest.raises(UpstreamConnectError, match="not known"):
                await post(client, at(upstream, "nobody.example"))
        assert names.asked[1:] == ["nobody.example"] * 2

    run(work, monkeypatch)
