"""As ``_resources``, to be awaited: the same calls, made by an AsyncClient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Literal, Mapping, overload

from helixflow import _batches, _endpoints

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from helixflow import types
    from helixflow._batches import BatchResults, Progress
    from helixflow._client import AsyncClient
    from helixflow._endpoints import Content
    from helixflow._pages import Page
    from helixflow._streams import AsyncStream
    from helixflow.types import requests as sent


class AsyncResource:
    def __init__(self, client: AsyncClient) -> None:
        self._call = client._call
        self._run = client._run


class AsyncChat:
    def __init__(self, client: AsyncClient) -> None:
        self.completions = AsyncChatCompletions(client)


class AsyncChatCompletions(AsyncResource):
    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Iterable[sent.MessageParam],
        stream: Literal[False] | None = ...,
        **options: Unpack[sent.ChatOptions],
    ) -> types.ChatCompletion: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Iterable[sent.MessageParam],
        stream: Literal[True],
        **options: Unpack[sent.ChatOptions],
    ) -> AsyncStream[types.ChatCompletionChunk]: ...
    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Iterable[sent.MessageParam],
        stream: bool,
        **options: Unpack[sent.ChatOptions],
    ) -> types.ChatCompletion | AsyncStream[types.ChatCompletionChunk]: ...
    async def create(self, *, model: str, messages: Iterable[Any], **options: Any) -> Any:
        """Ask a model to go on with a conversation. With ``stream=True`` its answer comes chunk by chunk."""
        return await self._call(_endpoints.chat(model, messages, options))


class AsyncCompletions(AsyncResource):
    @overload
    async def create(
        self,
        *,
        model: str,
        prompt: sent.Inputs,
        stream: Literal[False] | None = ...,
        **options: Unpack[sent.CompletionOptions],
    ) -> types.Completion: ...
    @overload
    async def create(
        self, *, model: str, prompt: sent.Inputs, stream: Literal[True], **options: Unpack[sent.CompletionOptions]
    ) -> AsyncStream[types.Completion]: ...
    @overload
    async def create(
        self, *, model: str, prompt: sent.Inputs, stream: bool, **options: Unpack[sent.CompletionOptions]
    ) -> types.Completion | AsyncStream[types.Completion]: ...
    async def create(self, *, model: str, prompt: Any, **options: Any) -> Any:
        """Ask a model to go on with a text."""
        return await self._call(_endpoints.completion(model, prompt, options))


class AsyncEmbeddings(AsyncResource):
    async def create(
        self, *, model: str, input: sent.Inputs, **options: Unpack[sent.EmbeddingOptions]
    ) -> types.Embeddings:
        """Vectors of one text or several."""
        answer: types.Embeddings = await self._call(_endpoints.embeddings(model, input, options))
        return answer


class AsyncModels(AsyncResource):
    async def list(self, **options: Unpack[sent.CallOptions]) -> Page[types.Model]:
        page: Page[types.Model] = await self._call(_endpoints.models(options))
        return page

    async def retrieve(self, model: str, **options: Unpack[sent.CallOptions]) -> types.Model:
        answer: types.Model = await self._call(_endpoints.model(model, options))
        return answer


class AsyncFiles(AsyncResource):
    async def create(
        self, *, file: sent.FileContent, purpose: str = "batch", **options: Unpack[sent.CallOptions]
    ) -> types.File:
        """``file``: bytes, an open file, a path, or ``(name, content)``. It is read into memory."""
        answer: types.File = await self._call(_endpoints.file_create(file, purpose, options))
        return answer

    async def list(self, **options: Unpack[sent.FileListOptions]) -> Page[types.File]:
        page: Page[types.File] = await self._call(_endpoints.files(options))
        return page

    async def retrieve(self, file_id: str, **options: Unpack[sent.CallOptions]) -> types.File:
        answer: types.File = await self._call(_endpoints.file(file_id, options))
        return answer

    async def content(self, file_id: str, **options: Unpack[sent.CallOptions]) -> Content:
        """The bytes of a file; ``.text`` has them as text."""
        content: Content = await self._call(_endpoints.file_content(file_id, options))
        return content

    async def delete(self, file_id: str, **options: Unpack[sent.CallOptions]) -> types.DeletedFile:
        answer: types.DeletedFile = await self._call(_endpoints.file_delete(file_id, options))
        return answer


class AsyncBatches(AsyncResource):
    """Call by call, in OpenAI's form. ``client.batch`` does it all at once."""

    async def create(self, **options: Unpack[sent.BatchCreateOptions]) -> types.Batch:
        answer: types.Batch = await self._call(_endpoints.batch_create(options))
        return answer

    async def list(self, **options: Unpack[sent.PageOptions]) -> Page[types.Batch]:
        page: Page[types.Batch] = await self._call(_endpoints.batches(options))
        return page

    async def retrieve(self, batch_id: str, **options: Unpack[sent.CallOptions]) -> types.Batch:
        answer: types.Batch = await self._call(_endpoints.batch(batch_id, options))
        return answer

    async def cancel(self, batch_id: str, **options: Unpack[sent.CallOptions]) -> types.Batch:
        answer: types.Batch = await self._call(_endpoints.batch_act(batch_id, "cancel", options))
        return answer

    async def retry(self, batch_id: str, **options: Unpack[sent.CallOptions]) -> types.Batch:
        """A new batch of those requests that failed."""
        answer: types.Batch = await self._call(_endpoints.batch_act(batch_id, "retry", options))
        return answer

    async def results(self, batch_id: str, **options: Unpack[sent.PageOptions]) -> Page[types.Response]:
        """Results as they are on the wire, in the order of the requests. ``client.batch.results`` reads them."""
        page: Page[types.Response] = await self._call(_endpoints.batch_results(batch_id, options))
        return page


class AsyncBatch(AsyncResource):
    async def process(
        self,
        requests: Iterable[sent.BatchRequest | Mapping[str, Any]],
        *,
        endpoint: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        progress: Progress = None,
        idempotency_key: str | None = None,
    ) -> BatchResults:
        """Hand over any number of requests, wait, and return what became of each, in their order.

        Up to 1,000 requests of 8 MB go with the call itself, more through a file. ``progress`` is called with the
        batch whenever it was looked at; without it a line on stderr tells, if that is a terminal; False: nothing does.
        After ``timeout`` seconds it raises BatchTimeoutError; then, or if this program ends, the batch goes on, and
        ``wait`` and ``results`` take its id.
        """
        options = {"idempotency_key": idempotency_key} if idempotency_key else {}
        found: BatchResults = await self._run(
            _batches.process(
                requests, endpoint=endpoint, metadata=metadata, timeout=timeout, progress=progress, options=options
            )
        )
        return found

    async def wait(self, batch_id: str, *, timeout: float | None = None, progress: Progress = None) -> types.Batch:
        """Until the batch has ended, in whatever way: its ``status`` says."""
        batch: types.Batch = await self._run(_batches.wait(batch_id, timeout=timeout, progress=progress))
        return batch

    async def results(self, batch_id: str) -> BatchResults:
        """What became of each request of a batch that has ended. Raises BatchError if it failed as a whole."""
        found: BatchResults = await self._run(_batches.results(batch_id))
        return found


class AsyncUsage(AsyncResource):
    async def retrieve(self, **options: Unpack[sent.CallOptions]) -> types.Usage:
        """The current minute and month: limits, what is used, and what is left."""
        answer: types.Usage = await self._call(_endpoints.usage(options))
        return answer

    async def timeseries(self, **options: Unpack[sent.TimeseriesOptions]) -> types.TimeSeries:
        answer: types.TimeSeries = await self._call(_endpoints.timeseries(options))
        return answer


class AsyncRequests(AsyncResource):
    async def list(self, **options: Unpack[sent.RequestListOptions]) -> Page[types.RequestRecord]:
        """Newest first."""
        page: Page[types.RequestRecord] = await self._call(_endpoints.requests(options))
        return page

    async def retrieve(self, request_id: str, **options: Unpack[sent.CallOptions]) -> types.RequestRecord:
        """The receipt of a request (``req_…``) or of what it made (``chatcmpl-…``)."""
        answer: types.RequestRecord = await self._call(_endpoints.request(request_id, options))
        return answer
