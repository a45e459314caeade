"""``client.chat.completions`` and its neighbours, typed. ``_endpoints`` and ``_batches`` say what is sent and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Literal, Mapping, overload

from helixflow import _batches, _endpoints

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from helixflow import types
    from helixflow._batches import BatchResults, Progress
    from helixflow._client import Client
    from helixflow._endpoints import Content
    from helixflow._pages import Page
    from helixflow._streams import Stream
    from helixflow.types import requests as sent


class Resource:
    def __init__(self, client: Client) -> None:
        self._call = client._call
        self._run = client._run


class Chat:
    def __init__(self, client: Client) -> None:
        self.completions = ChatCompletions(client)


class ChatCompletions(Resource):
    @overload
    def create(
        self,
        *,
        model: str,
        messages: Iterable[sent.MessageParam],
        stream: Literal[False] | None = ...,
        **options: Unpack[sent.ChatOptions],
    ) -> types.ChatCompletion: ...
    @overload
    def create(
        self,
        *,
        model: str,
        messages: Iterable[sent.MessageParam],
        stream: Literal[True],
        **options: Unpack[sent.ChatOptions],
    ) -> Stream[types.ChatCompletionChunk]: ...
    @overload
    def create(
        self,
        *,
        model: str,
        messages: Iterable[sent.MessageParam],
        stream: bool,
        **options: Unpack[sent.ChatOptions],
    ) -> types.ChatCompletion | Stream[types.ChatCompletionChunk]: ...
    def create(self, *, model: str, messages: Iterable[Any], **options: Any) -> Any:
        """Ask a model to go on with a conversation. With ``stream=True`` its answer comes chunk by chunk."""
        return self._call(_endpoints.chat(model, messages, options))


class Completions(Resource):
    @overload
    def create(
        self,
        *,
        model: str,
        prompt: sent.Inputs,
        stream: Literal[False] | None = ...,
        **options: Unpack[sent.CompletionOptions],
    ) -> types.Completion: ...
    @overload
    def create(
        self, *, model: str, prompt: sent.Inputs, stream: Literal[True], **options: Unpack[sent.CompletionOptions]
    ) -> Stream[types.Completion]: ...
    @overload
    def create(
        self, *, model: str, prompt: sent.Inputs, stream: bool, **options: Unpack[sent.CompletionOptions]
    ) -> types.Completion | Stream[types.Completion]: ...
    def create(self, *, model: str, prompt: Any, **options: Any) -> Any:
        """Ask a model to go on with a text."""
        return self._call(_endpoints.completion(model, prompt, options))


class Embeddings(Resource):
    def create(self, *, model: str, input: sent.Inputs, **options: Unpack[sent.EmbeddingOptions]) -> types.Embeddings:
        """Vectors of one text or several."""
        answer: types.Embeddings = self._call(_endpoints.embeddings(model, input, options))
        return answer


class Models(Resource):
    def list(self, **options: Unpack[sent.CallOptions]) -> Page[types.Model]:
        page: Page[types.Model] = self._call(_endpoints.models(options))
        return page

    def retrieve(self, model: str, **options: Unpack[sent.CallOptions]) -> types.Model:
        answer: types.Model = self._call(_endpoints.model(model, options))
        return answer


class Files(Resource):
    def create(
        self, *, file: sent.FileContent, purpose: str = "batch", **options: Unpack[sent.CallOptions]
    ) -> types.File:
        """``file``: bytes, an open file, a path, or ``(name, content)``. It is read into memory."""
        answer: types.File = self._call(_endpoints.file_create(file, purpose, options))
        return answer

    def list(self, **options: Unpack[sent.FileListOptions]) -> Page[types.File]:
        page: Page[types.File] = self._call(_endpoints.files(options))
        return page

    def retrieve(self, file_id: str, **options: Unpack[sent.CallOptions]) -> types.File:
        answer: types.File = self._call(_endpoints.file(file_id, options))
        return answer

    def content(self, file_id: str, **options: Unpack[sent.CallOptions]) -> Content:
        """The bytes of a file; ``.text`` has them as text."""
        content: Content = self._call(_endpoints.file_content(file_id, options))
        return content

    def delete(self, file_id: str, **options: Unpack[sent.CallOptions]) -> types.DeletedFile:
        answer: types.DeletedFile = self._call(_endpoints.file_delete(file_id, options))
        return answer


class Batches(Resource):
    """Call by call, in OpenAI's form. ``client.batch`` does it all at once."""

    def create(self, **options: Unpack[sent.BatchCreateOptions]) -> types.Batch:
        answer: types.Batch = self._call(_endpoints.batch_create(options))
        return answer

    def list(self, **options: Unpack[sent.PageOptions]) -> Page[types.Batch]:
        page: Page[types.Batch] = self._call(_endpoints.batches(options))
        return page

    def retrieve(self, batch_id: str, **options: Unpack[sent.CallOptions]) -> types.Batch:
        answer: types.Batch = self._call(_endpoints.batch(batch_id, options))
        return answer

    def cancel(self, batch_id: str, **options: Unpack[sent.CallOptions]) -> types.Batch:
        answer: types.Batch = self._call(_endpoints.batch_act(batch_id, "cancel", options))
        return answer

    def retry(self, batch_id: str, **options: Unpack[sent.CallOptions]) -> types.Batch:
        """A new batch of those requests that failed."""
        answer: types.Batch = self._call(_endpoints.batch_act(batch_id, "retry", options))
        return answer

    def results(self, batch_id: str, **options: Unpack[sent.PageOptions]) -> Page[types.Response]:
        """Results as they are on the wire, in the order of the requests. ``client.batch.results`` reads them."""
        page: Page[types.Response] = self._call(_endpoints.batch_results(batch_id, options))
        return page


class Batch(Resource):
    def process(
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
        found: BatchResults = self._run(
            _batches.process(
                requests, endpoint=endpoint, metadata=metadata, timeout=timeout, progress=progress, options=options
            )
        )
        return found

    def wait(self, batch_id: str, *, timeout: float | None = None, progress: Progress = None) -> types.Batch:
        """Until the batch has ended, in whatever way: its ``status`` says."""
        batch: types.Batch = self._run(_batches.wait(batch_id, timeout=timeout, progress=progress))
        return batch

    def results(self, batch_id: str) -> BatchResults:
        """What became of each request of a batch that has ended. Raises BatchError if it failed as a whole."""
        found: BatchResults = self._run(_batches.results(batch_id))
        return found


class Usage(Resource):
    def retrieve(self, **options: Unpack[sent.CallOptions]) -> types.Usage:
        """The current minute and month: limits, what is used, and what is left."""
        answer: types.Usage = self._call(_endpoints.usage(options))
        return answer

    def timeseries(self, **options: Unpack[sent.TimeseriesOptions]) -> types.TimeSeries:
        answer: types.TimeSeries = self._call(_endpoints.timeseries(options))
        return answer


class Requests(Resource):
    def list(self, **options: Unpack[sent.RequestListOptions]) -> Page[types.RequestRecord]:
        """Newest first."""
        page: Page[types.RequestRecord] = self._call(_endpoints.requests(options))
        return page

    def retrieve(self, request_id: str, **options: Unpack[sent.CallOptions]) -> types.RequestRecord:
        """The receipt of a request (``req_…``) or of what it made (``chatcmpl-…``)."""
        answer: types.RequestRecord = self._call(_endpoints.request(request_id, options))
        return answer
