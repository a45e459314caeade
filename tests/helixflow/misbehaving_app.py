"""An ASGI application for the server's tests: it echoes, streams, crashes and lingers on command."""

import asyncio
import json
import os
from pathlib import Path

from helixflow.server.cycle import Allowance

CHUNK = b"x" * 16_384
seen = {"streamed": 0, "gone": 0}  # bytes that /stream handed to the server; clients that left, or had it all
STATM = Path("/proc/self/statm")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await ANSWERS.get(scope["path"], echo)(scope, receive, send)


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    os.write(2, b"settled\n")  # in one piece: several processes share the log
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, body, status=200):
    content = json.dumps(body).encode()
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": content})


async def read(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(scope, receive, send):
    body = await read(receive)
    if body is None:
        seen["gone"] += 1
        return
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    request = {"method": scope["method"], "path": scope["path"], "length": len(body), "headers": headers}
    await answer(send, request | {"client": scope["client"][0], "pid": os.getpid()})


async def allow(scope, receive, send):
    scope["departure"].allowance = Allowance(body_bytes=4 * 1024 * 1024, body_least=100_000, within_s=2.5)
    await echo(scope, receive, send)


async def early(scope, receive, send):
    await answer(send, {"early": True}, 401)


async def crash(scope, receive, send):
    raise RuntimeError("boom")


async def bad_header(scope, receive, send):
    headers = {b"name": [(b"x:y", b"1")], b"value": [(b"x-y", b"1\r\nset-cookie: a=b")], b"nul": [(b"x-y", b"\0")]}
    await send({"type": "http.response.start", "status": 200, "headers": headers[scope["query_string"]]})


async def crash_late(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise RuntimeError("boom")


async def unsized(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})


async def slow(scope, receive, send):
    await asyncio.sleep(0.5)
    await answer(send, {"slow": True})


async def wait_for_leaving(scope, receive, send):
    await read(receive)
    await receive()
    seen["gone"] += 1


async def wait_for_departure(scope, receive, send):
    """As the gateway does: once it has the body, it is told rather than asking."""
    await read(receive)
    if scope["query_string"] == b"late":
        await asyncio.sleep(0.3)
    left = asyncio.Event()
    scope["departure"].watch(left.set)
    await left.wait()
    seen["gone"] += 1


async def stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    seen["streamed"] = 0
    leaving = asyncio.create_task(wait_for_leaving(scope, receive, send))
    while not leaving.done():
        seen["streamed"] += len(CHUNK)
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await asyncio.sleep(0)  # sending to a client who has left does not wait


async def large(scope, receive, send):
    await answer(send, "x" * 8_000_000)
    seen["gone"] += 1


async def ticks(scope, receive, send):
    """A stream that says goodbye when the server ends it."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        await send({"type": "http.response.body", "body": b"goodbye"})


async def stats(scope, receive, send):
    resident = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # noqa: ASYNC240  # not a real file
    await answer(send, seen | {"resident": resident})


async def stillborn(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the stores are closed"})


ANSWERS = {
    "/allow": allow,
    "/early": early,
    "/crash": crash,
    "/crash-late": crash_late,
    "/unsized": unsized,
    "/slow": slow,
    "/wait": wait_for_leaving,
    "/departure": wait_for_departure,
    "/bad-header": bad_header,
    "/stream": stream,
    "/large": large,
    "/ticks": ticks,
    "/stats": stats,
}
