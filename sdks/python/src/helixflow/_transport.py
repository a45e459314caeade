"""The network: httpx, loaded with the first call, with connections of each process (and event loop) of its own."""

from __future__ import annotations

import functools
import os
import time
import weakref
from typing import TYPE_CHECKING, Any

from helixflow import errors
from helixflow._calls import Reply, Send

if TYPE_CHECKING:
    import ssl

    import httpx

_IDLE_CONNECTIONS = 100
_CONNECTIONS = 1000


class Transport:
    def __init__(self, given: httpx.Client | None) -> None:
        self._given = given
        self._by_process: dict[int, httpx.Client] = {}  # a child that was forked leaves its parent's sockets alone

    def _http(self) -> httpx.Client:
        http = self._given or self._by_process.get(os.getpid())
        if http is None:
            import httpx

            # Two threads may both get here: one of the two clients is then dropped unused.
            http = self._by_process.setdefault(os.getpid(), httpx.Client(limits=_limits(), verify=_tls()))
        return http

    def send(self, send: Send) -> Reply:
        import httpx

        http = self._http()
        try:
            request = _request(http, send)
            deadline = _deadline(send)
            response = http.send(request, stream=True, follow_redirects=False)
            if send.stream and response.is_success:
                return Reply(response.status_code, response.headers, b"", response)
            try:
                _leave(request, deadline)
                pieces = []
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    _check(deadline)
            finally:
                response.close()
            return Reply(response.status_code, response.headers, b"".join(pieces))
        except httpx.HTTPError as error:
            raise _failure(error, send) from error

    def close(self) -> None:
        for http in (self._given, self._by_process.pop(os.getpid(), None)):
            if http is not None:
                http.close()


class AsyncTransport:
    def __init__(self, given: httpx.AsyncClient | None) -> None:
        self._given = given
        # Connections belong to the loop they were made in, and a client may be used in several, one after another.
        self._by_loop: weakref.WeakKeyDictionary[Any, tuple[int, httpx.AsyncClient]] = weakref.WeakKeyDictionary()

    def _http(self) -> httpx.AsyncClient:
        if self._given is not None:
            return self._given
        loop = _loop()
        process, http = self._by_loop.get(loop, (0, None))
        if http is None or process != os.getpid():
            import httpx

            http = httpx.AsyncClient(limits=_limits(), verify=_tls())
            self._by_loop[loop] = (os.getpid(), http)
        return http

    async def send(self, send: Send) -> Reply:
        import httpx

        http = self._http()
        try:
            request = _request(http, send)
            deadline = _deadline(send)
            response = await http.send(request, stream=True, follow_redirects=False)
            if send.stream and response.is_success:
                return Reply(response.status_code, response.headers, b"", response)
            try:
                _leave(request, deadline)
                pieces = []
                async for piece in response.aiter_bytes():
                    pieces.append(piece)
                    _check(deadline)
            finally:
                await response.aclose()
            return Reply(response.status_code, response.headers, b"".join(pieces))
        except httpx.HTTPError as error:
            raise _failure(error, send) from error

    async def close(self) -> None:
        process, http = self._by_loop.pop(_loop(), (0, None))
        for one in (self._given, http if process == os.getpid() else None):
            if one is not None:
                await one.aclose()


class _NoLoop:
    """Stands for the loop of what isn't asyncio, such as trio."""


_NO_LOOP = _NoLoop()


def _loop() -> Any:
    import asyncio  # has been loaded where it matters

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return _NO_LOOP


def _limits() -> httpx.Limits:
    import httpx

    return httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_IDLE_CONNECTIONS)


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Reading the authorities' certificates takes longer than a call, so it is done once."""
    import httpx

    return httpx.create_ssl_context()


def _request(http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    import httpx

    return http.build_request(
        send.method,
        send.url,
        content=send.content,
        data=send.form,
        files=send.files,
        headers=send.headers,
        timeout=httpx.Timeout(send.timeout, connect=send.connect_timeout),
    )


def _deadline(send: Send) -> float | None:
    return None if send.timeout is None else time.monotonic() + send.timeout


def _leave(request: httpx.Request, deadline: float | None) -> None:
    """httpx bounds each read, and the timeout is of the whole: so what is read from now on has what is left of it."""
    timeouts = request.extensions.get("timeout")
    if deadline is not None and timeouts:
        timeouts["read"] = max(0.001, deadline - time.monotonic())


def _check(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        import httpx

        raise httpx.ReadTimeout("the answer dripped")


def _failure(error: httpx.HTTPError, send: Send) -> errors.APIConnectionError:
    import httpx

    host = httpx.URL(send.url).netloc.decode()
    if isinstance(error, httpx.ConnectTimeout):
        return errors.APITimeoutError(f"Could not connect to {host} in time.")
    if isinstance(error, httpx.TimeoutException):
        return errors.APITimeoutError(f"{host} did not answer within {send.timeout:g} s.")
    if isinstance(error, httpx.ConnectError):
        return errors.APIConnectionError(f"Could not connect to {host}: {error}")
    return errors.APIConnectionError(f"The connection to {host} broke: {error or type(error).__name__}")
