"""Client and AsyncClient: they do what the generators of ``_calls`` and ``_batches`` ask for, and nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Generator, Mapping

from helixflow import _async_resources, _endpoints, _resources, errors
from helixflow._calls import Call, OpenStream, Pause, Reply, Send, exchange
from helixflow._pages import Page
from helixflow._settings import CONNECT_TIMEOUT_S, MAX_RETRIES, TIMEOUT_S, Settings
from helixflow._streams import AsyncStream, Stream
from helixflow._transport import AsyncTransport, Transport

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self, Unpack

    from helixflow import types
    from helixflow._cache import Cache
    from helixflow._calls import Attempt
    from helixflow.types import requests as sent

Steps = Generator[Any, Any, Any]


class _Base:
    _settings: Settings

    @property
    def base_url(self) -> str:
        return self._settings.base_url

    def __repr__(self) -> str:
        return f"<{type(self).__module__.partition('.')[0]}.{type(self).__name__} of {self.base_url}>"

    def with_options(self, **changes: Any) -> Self:
        """A client with other settings and the same connections: any of ``__init__``'s but ``http_client``."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._set_up(self._settings.replaced(changes))
        return other

    def _set_up(self, settings: Settings) -> None:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError("A client holds a key and connections: make one where it is needed.")


class Client(_Base):
    """``client.chat.completions.create(…)``. Threads may share one, and processes that were forked go on with theirs.

    ``api_key`` and ``base_url`` come from ``HELIXFLOW_API_KEY`` and ``HELIXFLOW_BASE_URL`` where they aren't given.
    ``timeout``: seconds that one try may take in all; of a stream, until it begins, and then between two pieces.
    ``on_attempt`` is called with an Attempt after each try, for logs and metrics. ``cache`` keeps answers in memory.
    ``http_client`` is an ``httpx.Client`` of your own, for proxies and certificates.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = TIMEOUT_S,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        default_headers: Mapping[str, str] | None = None,
        cache: Cache | None = None,
        on_attempt: Callable[[Attempt], object] | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._transport = Transport(http_client)
        self._sleep: Callable[[float], object] = time.sleep
        self._set_up(
            Settings(
                api_key=api_key,
                base_url=base_url,
                timeout=timeout,
                connect_timeout=connect_timeout,
                max_retries=max_retries,
                default_headers=default_headers,
                cache=cache,
                on_attempt=on_attempt,
            )
        )

    def _set_up(self, settings: Settings) -> None:
        self._settings = settings
        self.chat = _resources.Chat(self)
        self.completions = _resources.Completions(self)
        self.embeddings = _resources.Embeddings(self)
        self.models = _resources.Models(self)
        self.files = _resources.Files(self)
        self.batches = _resources.Batches(self)
        self.batch = _resources.Batch(self)
        self.usage = _resources.Usage(self)
        self.requests = _resources.Requests(self)

    def health(self, **options: Unpack[sent.CallOptions]) -> types.Health:
        """Whether the service is well. Raises ServiceUnavailableError, with the same fields in ``body``, if not."""
        answer: types.Health = self._call(_endpoints.health(options))
        return answer

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _call(self, call: Call | None) -> Any:
        if call is None:
            return None
        result = self._run(exchange(call, self._settings))
        if type(result) is OpenStream:
            return Stream(*result)
        if type(result) is Page:
            result._ask = self._call
        return result

    def _run(self, steps: Steps) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    done = self._do(step)
                except errors.APIError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()  # at once, should it be Ctrl-C or the end of a task that leaves it half-way

    def _do(self, step: Send | Pause | Call) -> Reply | Any:
        if type(step) is Send:
            return self._transport.send(step)
        if type(step) is Pause:
            return self._sleep(step.seconds)
        return self._call(step)  # type: ignore[arg-type]  # the third of three


class AsyncClient(_Base):
    """As Client, with everything to be awaited. Under asyncio or trio, in any event loop."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = TIMEOUT_S,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        default_headers: Mapping[str, str] | None = None,
        cache: Cache | None = None,
        on_attempt: Callable[[Attempt], object] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        self._transport = AsyncTransport(http_client)
        self._sleep: Callable[[float], Awaitable[object]] = _sleep
        self._set_up(
            Settings(
                api_key=api_key,
                base_url=base_url,
                timeout=timeout,
                connect_timeout=connect_timeout,
                max_retries=max_retries,
                default_headers=default_headers,
                cache=cache,
                on_attempt=on_attempt,
            )
        )

    def _set_up(self, settings: Settings) -> None:
        self._settings = settings
        self.chat = _async_resources.AsyncChat(self)
        self.completions = _async_resources.AsyncCompletions(self)
        self.embeddings = _async_resources.AsyncEmbeddings(self)
        self.models = _async_resources.AsyncModels(self)
        self.files = _async_resources.AsyncFiles(self)
        self.batches = _async_resources.AsyncBatches(self)
        self.batch = _async_resources.AsyncBatch(self)
        self.usage = _async_resources.AsyncUsage(self)
        self.requests = _async_resources.AsyncRequests(self)

    async def health(self, **options: Unpack[sent.CallOptions]) -> types.Health:
        """As Client.health."""
        answer: types.Health = await self._call(_endpoints.health(options))
        return answer

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _call(self, call: Call | None) -> Any:
        if call is None:
            return None
        result = await self._run(exchange(call, self._settings))
        if type(result) is OpenStream:
            return AsyncStream(*result)
        if type(result) is Page:
            result._ask = self._call
        return result

    async def _run(self, steps: Steps) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    done = await self._do(step)
                except errors.APIError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()  # at once, should it be Ctrl-C or the end of a task that leaves it half-way

    async def _do(self, step: Send | Pause | Call) -> Reply | Any:
        if type(step) is Send:
            return await self._transport.send(step)
        if type(step) is Pause:
            return await self._sleep(step.seconds)
        return await self._call(step)  # type: ignore[arg-type]  # the third of three


async def _sleep(seconds: float) -> None:
    import anyio  # httpx stands on it

    await anyio.sleep(seconds)
