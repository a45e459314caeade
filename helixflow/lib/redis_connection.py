"""One pipelined connection to one Redis server.

Commands issued in one turn of the loop leave in one write, and replies are matched in order. Replies have a budget,
counted from that write: a server that misses it is as good as dead, and the connection is given up.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from typing import Final, cast

import hiredis
import redis
from django.conf import settings

from helixflow.lib.redis_address import Address, Node

Reply = int | bytes | list["Reply"] | None
Argument = str | bytes | int
Command = tuple[Argument, ...] | bytes  # packed already

GRACE_S: Final = 0.005
# Answers about the state of the server, not about the command: to the caller it is as if there were no server.
UNUSABLE: Final = {"LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "BUSY", "MISCONF", "OOM", "NOREPLICAS"}


class Demoted(redis.exceptions.ConnectionError):
    """This server is a replica now."""


class Connection:
    """To ``node`` of ``address``; made when first needed, and again when it was lost.

    ``run_id`` is that of the server reached last; ``on_other_server`` is called when another one has taken its place.
    """

    def __init__(self, address: Address, node: Node, on_other_server: Callable[[], None]) -> None:
        self.host, self.port = node
        self.run_id = ""
        self._address = address
        self._on_other_server = on_other_server
        self._budget_s: float = settings.REDIS_BUDGET_S
        self._protocol: Protocol | None = None
        self._connecting: asyncio.Task[Protocol] | None = None

    @property
    def live(self) -> "Protocol | None":
        protocol = self._protocol
        return None if protocol is None or protocol.closed else protocol

    async def connected(self) -> "Protocol":
        """All who wait share one attempt; a caller who leaves does not end it for the others."""
        if (protocol := self.live) is not None:
            return protocol
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(self._opened)
        return await asyncio.shield(self._connecting)

    def close(self) -> None:
        if self._protocol is not None:
            self._protocol.fail("closed here")

    def _opened(self, task: "asyncio.Task[Protocol]") -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._protocol = task.result()

    async def _open(self) -> "Protocol":
        patience_s = 2 * self._budget_s
        started = time.monotonic()
        try:
            try:
                return await self._open_once(patience_s)
            except TimeoutError:
                if time.monotonic() - started < 2 * patience_s:
                    raise
                return await self._open_once(patience_s)  # it was this loop that was late, not the server
        except TimeoutError:
            raise redis.exceptions.TimeoutError(f"Redis: no connection within {patience_s * 1000:.0f} ms") from None
        except OSError as error:
            raise redis.exceptions.ConnectionError(f"Redis cannot be reached: {error}") from None

    async def _open_once(self, patience_s: float) -> "Protocol":
        context = _tls(self._address.ca_file) if self._address.tls else None
        async with asyncio.timeout(patience_s):
            _, protocol = await asyncio.get_running_loop().create_connection(
                partial(Protocol, self._budget_s), self.host, self.port, ssl=context
            )
        try:
            await self._greet(protocol)
        except BaseException:
            protocol.fail("the greeting went wrong")
            raise
        return protocol

    async def _greet(self, protocol: "Protocol") -> None:
        """Log in, and learn which server this is. One round trip."""
        commands: list[tuple[Argument, ...]] = []
        if self._address.password:
            user = [self._address.user] if self._address.user else []
            commands.append(("AUTH", *user, self._address.password))
        if self._address.database:
            commands.append(("SELECT", self._address.database))
        replies = await asyncio.gather(
            *(protocol.execute(command) for command in (*commands, ("INFO", "server"))), return_exceptions=True
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        run_id = _run_id(replies[-1])
        if self.run_id and run_id != self.run_id:
            self._on_other_server()
        self.run_id = run_id


class Protocol(asyncio.Protocol):
    def __init__(self, budget_s: float) -> None:
        self.closed = False
        self._budget_s = budget_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=redis.exceptions.InvalidResponse, replyError=_reply_error)
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._issued = 0
        self._outgoing: list[bytes] = []
        self._writes: deque[tuple[int, float]] = deque()  # commands issued up to this write, when their time is up
        self._watching = False

    def execute(self, command: Command) -> "asyncio.Future[Reply]":
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.closed:
            future.set_exception(redis.exceptions.ConnectionError("Redis closed the connection"))
            return future
        self._waiting.append(future)
        self._issued += 1
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        packed = command if isinstance(command, bytes) else hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub wants one exact union
        self._outgoing.append(packed)
        return future

    def _flush(self) -> None:
        if not self.closed:
            self._transport.write(b"".join(self._outgoing))
            self._writes.append((self._issued, time.monotonic() + self._budget_s))
            if not self._watching:
                self._watching = True
                self._loop.call_later(self._budget_s, self._watch)
        self._outgoing.clear()

    def _watch(self) -> None:
        """Replies come in order, so the oldest alone tells whether the server hangs: one timer, not one a command.

        A loop that was held up finds this timer due before it has looked at its sockets again, or has only now put the
        command on the wire: the verdict waits for another timer, since between two of them every loop polls.
        """
        left = self._time_left()
        if left is None:
            self._watching = False
        elif left > 0:
            self._loop.call_later(left, self._watch)
        else:
            self._loop.call_later(GRACE_S, self._judge)

    def _judge(self) -> None:
        left = self._time_left()
        if left is not None and left <= 0:
            self.fail("no reply in time", redis.exceptions.TimeoutError)
        else:
            self._watch()

    def _time_left(self) -> float | None:
        """Seconds that the oldest unanswered command has; None if there is none."""
        if self.closed:
            return None
        answered = self._issued - len(self._waiting)
        while self._writes and self._writes[0][0] <= answered:
            self._writes.popleft()
        return self._writes[0][1] - time.monotonic() if self._writes else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                future = self._waiting.popleft()
                if future.done():  # its caller went away
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except redis.exceptions.InvalidResponse:
            self.fail("not the Redis protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("connection lost")

    def fail(self, reason: str, kind: type[redis.RedisError] = redis.exceptions.ConnectionError) -> None:
        """Close, and give every waiting caller the error: a late reply must never answer another command."""
        self.closed = True
        self._transport.abort()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(kind(f"Redis: {reason}"))


@cache
def _tls(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file or None)


def _run_id(info: object) -> str:
    lines = info.decode().splitlines() if isinstance(info, bytes) else []
    return next((line.removeprefix("run_id:") for line in lines if line.startswith("run_id:")), "")


def _reply_error(message: str) -> redis.RedisError:
    kind, _, rest = message.partition(" ")
    if kind == "NOSCRIPT":
        return redis.exceptions.NoScriptError(message)
    if kind == "MOVED":
        return redis.exceptions.MovedError(rest)
    if kind == "ASK":
        return redis.exceptions.AskError(rest)
    if kind == "READONLY":
        return Demoted(message)
    if kind in UNUSABLE:
        return redis.exceptions.ConnectionError(message)
    return redis.exceptions.ResponseError(message)
