"""Streams of chunks. A stream that is left, however, closes its connection at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Generic, Iterator, Mapping, TypeVar

from helixflow import errors
from helixflow._objects import Object
from helixflow._sse import Decoder

if TYPE_CHECKING:
    from helixflow._calls import StreamRecord

T = TypeVar("T", bound=Object)
_DONE = b"[DONE]"


class Reader(Generic[T]):
    """Bytes in, chunks out, and what the end of them means. Pure."""

    def __init__(self, chunk: type[T], request_id: str | None, hide: Callable[[bytes], bytes]) -> None:
        self._chunk = chunk
        self.request_id = request_id
        self._hide = hide
        self._decoder = Decoder()
        self.is_done = False

    def feed(self, piece: bytes) -> Iterator[T]:
        for data in self._decoder.feed(piece):
            if data == _DONE:
                self.is_done = True
            if self.is_done:
                return
            if data:
                yield self._read(data)

    def end(self) -> None:
        """The connection has ended. Raises unless the stream had."""
        if not self.is_done and self._decoder.flush() != [_DONE]:
            raise self.cut()

    def cut(self) -> errors.StreamCutError:
        return errors.StreamCutError("The stream was cut: it ended without [DONE].", request_id=self.request_id)

    def _read(self, data: bytes) -> T:
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise errors.APIResponseError("The stream holds an event that isn't JSON.", request_id=self.request_id)
        if "error" in value:
            raise errors.from_body(json.loads(self._hide(data)), request_id=self.request_id)
        return self._chunk.read(value)


def _failure(error: Exception, reader: Reader[Any]) -> errors.APIError:
    """What broke a stream, as an error of ours."""
    if isinstance(error, errors.APIError):
        return error
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return errors.APITimeoutError(
            "The stream stopped: nothing came within the timeout.", request_id=reader.request_id
        )
    if isinstance(error, (httpx.HTTPError, httpx.StreamError)):
        return reader.cut()
    raise error


class _Base(Generic[T]):
    def __init__(self, response: Any, chunk: type[T], record: StreamRecord) -> None:
        """``response`` is httpx's, open; ``record`` is told of each chunk, and of the end."""
        self._response = response
        self._record = record
        self._reader = Reader(chunk, self.request_id, record.hide)

    @property
    def headers(self) -> Mapping[str, str]:
        headers: Mapping[str, str] = self._response.headers
        return headers

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-request-id")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of request {self.request_id}>"


class Stream(_Base[T]):
    """``for chunk in stream`` reads it; leaving the loop, ``close()`` or the end of ``with`` closes the connection.

    Raises the errors of a call, and StreamCutError where the connection ends before the stream.
    """

    def __init__(self, response: Any, chunk: type[T], record: StreamRecord) -> None:
        super().__init__(response, chunk, record)
        self._chunks = self._read()

    def _read(self) -> Iterator[T]:
        try:
            for piece in self._response.iter_bytes():
                for chunk in self._reader.feed(piece):
                    self._record.saw(chunk)
                    yield chunk
            self._reader.end()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again
            failure = _failure(error, self._reader)
            self._record.ended(type(failure).__name__)
            raise failure from (None if failure is error else error)
        finally:
            self.close()

    def __iter__(self) -> Iterator[T]:
        try:
            yield from self._chunks
        finally:
            self.close()

    def __next__(self) -> T:
        return next(self._chunks)

    def text(self) -> Iterator[str]:
        """The pieces of the first choice's text, as they come."""
        for chunk in self:
            if piece := _text(chunk):
                yield piece

    def close(self) -> None:
        self._response.close()
        self._record.ended()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class AsyncStream(_Base[T]):
    """``async for chunk in stream``; otherwise as Stream."""

    def __init__(self, response: Any, chunk: type[T], record: StreamRecord) -> None:
        super().__init__(response, chunk, record)
        self._chunks = self._read()

    async def _read(self) -> AsyncIterator[T]:
        try:
            async for piece in self._response.aiter_bytes():
                for chunk in self._reader.feed(piece):
                    self._record.saw(chunk)
                    yield chunk
            self._reader.end()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again
            failure = _failure(error, self._reader)
            self._record.ended(type(failure).__name__)
            raise failure from (None if failure is error else error)
        finally:
            await self.close()

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            async for chunk in self._chunks:
                yield chunk
        finally:
            await self.close()

    async def __anext__(self) -> T:
        return await self._chunks.__anext__()

    async def text(self) -> AsyncIterator[str]:
        """As Stream.text."""
        try:
            async for chunk in self._chunks:
                if piece := _text(chunk):
                    yield piece
        finally:
            await self.close()

    async def close(self) -> None:
        try:
            await self._response.aclose()
        finally:  # trio cancels the closing too, after it was done
            self._record.ended()

    async def __aenter__(self) -> AsyncStream[T]:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


def _text(chunk: Object) -> str:
    for choice in chunk.get("choices", ()):
        if choice.get("index", 0) == 0:
            return (choice.get("delta") or choice).get("content") or choice.get("text") or ""
    return ""
