"""Every asynchronous test here runs on both event loops: asyncio's own, and uvloop, which production has."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from inference.upstream import UpstreamClient
from tests.fakes.certificates import Authority
from tests.fakes.upstream import Upstream


@pytest.fixture(params=[{"use_uvloop": False}, {"use_uvloop": True}], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", request.param


@pytest.fixture
async def client(anyio_backend: object) -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    await made.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tls_upstream(authority: Authority) -> Iterator[Upstream]:
    with Upstream(tls=authority.server_context("localhost", "127.0.0.1")) as running:
        yield running
