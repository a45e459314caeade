"""`python -m bench.idle`: what a stream costs that waits, as most do most of the time.

Holds thousands of streams on one web process, after a first chunk of each, and asks something else meanwhile. At the
end each gets its last chunk, and must have been settled. The web process has one core; the callers and the upstream,
which are this process, share another with PostgreSQL and Valkey.
"""

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import gateway, settled
from bench.load import Target
from bench.processes import BenchError, Processes, cores
from helixflow.stack import embedded

AT_ONCE = 100
CALLS = 500
DESCRIPTORS_BESIDE = 500
CALM_S = 1.0  # for what is freed or closed a moment later

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
CHUNK = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[%b]}\n\n'
FIRST = CHUNK % b'{"index":0,"delta":{"content":"Hello"},"finish_reason":null}'
LAST = CHUNK % b'{"index":0,"delta":{},"finish_reason":"stop"}' + b"data: [DONE]\n\n"
ANSWER = b'{"choices":[{"index":0,"message":{"content":"Hello"},"finish_reason":"stop"}]}'
STILL_HERE = b": still here\n\n"
STILL_HERE_EVERY_S = 20  # within the gateway's patience between two reads


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__, allow_abbrev=False)
    parser.add_argument("--streams", type=int, default=5_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        allow_descriptors(2 * options.streams + DESCRIPTORS_BESIDE)
        with Processes(folder / "output.log") as processes:
            upstream_port, (core, other) = embedded.free_port(), cores()
            os.sched_setaffinity(0, {other})
            upstream = f"http://127.0.0.1:{upstream_port}"
            ours = gateway.start(processes, folder / "data", upstream=upstream, core=core, other_core=other)
            sent = asyncio.run(Idle(ours, upstream_port).run(options.streams))
            settled.events(at_least=sent)
            print(f"Each of {sent:,} requests was settled.")
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}\nThe output of what it started: {folder / 'output.log'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def allow_descriptors(needed: int) -> None:
    """Here and for what is started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        raise BenchError(f"{needed:,} descriptors are needed and {most:,} allowed: fewer --streams, or ulimit -n.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Upstream(asyncio.Protocol):
    """Begins a stream and holds it, or answers at once, by the path."""

    held: set[asyncio.Transport] = set()  # noqa: RUF012  # all connections' own

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.held.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST /sse/"):
            self.held.add(self.transport)
            head = HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n"
            self.transport.write(head + chunked(FIRST))
        elif data.startswith(b"POST /plain/"):
            self.transport.write(HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Caller(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.answer = b""
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        if not self.begun.done() and b"Hello" in self.answer:
            self.begun.set_result(None)
        if b"data: [DONE]" in self.answer and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for each in (self.begun, self.ended):
            if not each.done():
                each.set_exception(BenchError(f"A stream was cut: {self.answer[-300:].decode()}"))


class Idle:
    def __init__(self, ours: gateway.Gateway, upstream_port: int) -> None:
        self.ours = ours
        self.port = int(ours.url.split(":")[2].partition("/")[0])
        self.upstream_port = upstream_port

    async def run(self, streams: int) -> int:
        """How many requests were sent."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upstream, "127.0.0.1", self.upstream_port, backlog=1_024)
        beating = asyncio.create_task(self.still_here())
        await self.close(await self.open(AT_ONCE))  # what the first streams load stays
        before, alone = self.resident_kib(), await self.calls()
        slab, opened = slab_kib(), self.descriptors()
        print(f"Opening {streams:,} streams …", flush=True)
        began = time.monotonic()
        callers = await self.open(streams)
        took = time.monotonic() - began
        await asyncio.sleep(CALM_S)
        held, descriptors, kernel = self.resident_kib(), self.descriptors() - opened, slab_kib() - slab
        beside = await self.calls()
        if len(Upstream.held) != streams:
            raise BenchError(f"{len(Upstream.held):,} of {streams:,} streams are held")
        await self.close(callers)
        await asyncio.sleep(CALM_S)
        after, left = self.resident_kib(), self.descriptors() - opened
        beating.cancel()
        server.close()
        print(
            f"{streams:,} idle streams on one web process, opened in {took:.1f} s; all ended as they should\n"
            f"  memory of the process    {before / 1024:.0f} MiB before, {held / 1024:.0f} with them, "
            f"{after / 1024:.0f} after\n"
            f"  a stream                 {(held - before) / streams:.1f} KiB, and in the kernel "
            f"{kernel / streams:.1f} KiB (callers' and upstream's ends included)\n"
            f"  descriptors              {descriptors / streams:.2f} a stream, {left} more than before at the end\n"
            f"  a new call               {told(beside)} beside them, {told(alone)} before"
        )
        return AT_ONCE + streams + 2 * CALLS

    async def open(self, streams: int) -> list[Caller]:
        """All begun: each has its first chunk."""
        callers: list[Caller] = []
        room = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with room:
                _, caller = await asyncio.get_running_loop().create_connection(
                    lambda: Caller(self.request(gateway.STREAM_MODEL, stream=True)), "127.0.0.1", self.port
                )
                callers.append(caller)
                await caller.begun

        await asyncio.gather(*(one() for _ in range(streams)))
        return callers

    async def close(self, callers: list[Caller]) -> None:
        """The upstream ends its streams, so the callers' end too."""
        for transport in list(Upstream.held):
            transport.write(chunked(LAST) + b"0\r\n\r\n")
        Upstream.held.clear()
        async with asyncio.timeout(60):
            await asyncio.gather(*(caller.ended for caller in callers))
        for caller in callers:
            caller.transport.close()

    async def calls(self) -> list[float]:
        """Milliseconds of calls that are answered at once, one after the other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        request, found = self.request("bench-model"), []
        for _ in range(CALLS):
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            found.append((time.perf_counter() - began) * 1e3)
            if not head.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"A call beside the streams failed: {head.decode()}")
        writer.close()
        return found

    def request(self, model: str, *, stream: bool = False) -> bytes:
        body = Target("", "", model=model, stream=stream).body().encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.ours.key}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def still_here(self) -> None:
        while True:
            await asyncio.sleep(STILL_HERE_EVERY_S)
            for transport in list(Upstream.held):
                transport.write(chunked(STILL_HERE))

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.ours.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.ours.pid}/fd").iterdir())


def slab_kib() -> int:
    """What the kernel keeps of its own for all processes, sockets among it."""
    return int(Path("/proc/meminfo").read_text().partition("\nSlab:")[2].split()[0])


def told(milliseconds: list[float]) -> str:
    ordered = sorted(milliseconds)
    return f"{statistics.median(ordered):.2f} ms (p99 {ordered[len(ordered) * 99 // 100]:.2f})"


if __name__ == "__main__":
    sys.exit(main())
