"""Short ways to call an upstream and to wait for what must become true."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from inference.upstream import (
    Deadlines,
    Origin,
    Response,
    UpstreamClient,
)
from tests.fakes.upstream import Upstream

PATH = "/chat/completions"
LIMIT = 1_000_000


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
