"""`python -m bench.clouds`: a model on three deployments that take turns in being down, slow and at their limit.

A fourth round has all three well. What the callers' latency may cost them is the slow one's own latency: who meets the
one that is down, or at its limit, is answered by another. A request that fails fails the run.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import openai

from bench import gateway, nginx
from bench.processes import BenchError, Processes, cores
from helixflow.stack import embedded

CALLERS: Final = 32
SLOW_S: Final = 0.3
AT_ONCE: Final = 4  # as many as a deployment at its limit takes
WELL_S: Final = 0.02
ROLES: Final = ("down", "slow", "limited")
REFUSALS: Final = {
    "down": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "limited": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
}


class Cloud:
    """An upstream that plays ``role``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.role = "well"
        self.asked = self.under_way = 0
        body = json.dumps(nginx.answer()).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.whole = head % len(body) + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(await self.answer())
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    async def answer(self) -> bytes:
        self.asked += 1
        if self.role == "down" or (self.role == "limited" and self.under_way >= AT_ONCE):
            return REFUSALS[self.role]
        self.under_way += 1
        await asyncio.sleep(SLOW_S if self.role == "slow" else WELL_S)
        self.under_way -= 1
        return self.whole


async def measure(ours: gateway.Gateway, clouds: list[Cloud], seconds: float) -> None:
    for cloud in clouds:
        await asyncio.start_server(cloud.serve, "127.0.0.1", cloud.port, backlog=1024)
    await load(ours, 2)  # the first requests read the catalogue and connect
    print(f"{'':<28} requests   each/s   p50 ms   p99 ms   attempts each")
    for turn in range(len(ROLES) + 1):
        for number, cloud in enumerate(clouds):
            cloud.role = ROLES[(number + turn) % 3] if turn < len(ROLES) else "well"
        asked = sum(cloud.asked for cloud in clouds)
        took = await load(ours, seconds)
        attempts = sum(cloud.asked for cloud in clouds) - asked
        percentiles = statistics.quantiles(took, n=100)
        print(
            f"  {'/'.join(cloud.role for cloud in clouds):<26} {len(took):>8,} {len(took) / seconds:>8,.0f}"
            f" {percentiles[49] * 1e3:>8.1f} {percentiles[98] * 1e3:>8.1f} {attempts / len(took):>15.2f}"
        )


async def load(ours: gateway.Gateway, seconds: float) -> list[float]:
    """How long each request took, in seconds. Raises BenchError for one that failed."""
    took: list[float] = []
    until = time.monotonic() + seconds
    base_url = ours.url.removesuffix("/chat/completions")
    async with openai.AsyncOpenAI(api_key=ours.key, base_url=base_url, max_retries=0, timeout=60) as client:

        async def caller() -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                try:
                    await client.chat.completions.create(
                        model=gateway.CLOUDS_MODEL, messages=[{"role": "user", "content": "Hello"}]
                    )
                except openai.OpenAIError as error:
                    raise BenchError(f"a caller got {error!r}") from None
                took.append(time.monotonic() - began)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return took


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.clouds", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn (default 10)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        with Processes(folder / "output.log") as processes:
            core, other = cores()
            os.sched_setaffinity(0, {other})
            clouds = [Cloud(embedded.free_port()) for _ in range(3)]
            urls = [f"http://127.0.0.1:{cloud.port}" for cloud in clouds]
            ours = gateway.start(processes, folder / "data", upstream=urls[0], clouds=urls, core=core, other_core=other)
            asyncio.run(measure(ours, clouds, options.seconds))
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}\nThe output of what it started: {folder / 'output.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
