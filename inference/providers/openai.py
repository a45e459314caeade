"""OpenAI's own words, which most servers speak: OpenAI, vLLM, llama.cpp, Ollama and the many compatible services."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import msgspec

from inference import answers, embeddings, schemas, sse, text_answers, text_schemas
from inference.answers import Answer, BadAnswer, Chunk
from inference.embeddings import Embeddings
from inference.providers import call_ids, dialect
from inference.providers.adapter import (
    Account,
    Adapter,
    Blame,
    Listing,
    Operation,
    Refusal,
    StreamReader,
    TextReader,
    Wire,
)
from inference.providers.presets import PRESETS
from inference.schemas import ChatRequest
from inference.text_answers import TextChunk
from inference.text_schemas import CompletionRequest, EmbeddingRequest
from inference.upstream import header_lines

DONE: Final = b"[DONE]"
EMPTY_ACCOUNT_PAUSE_S: Final = 300.0  # somebody has to pay first
TOO_LONG_FOR_A_BATCH: Final = "is too large to process"  # llama.cpp's 500 for an input of too many tokens

# OpenAI's 404 and 403 for a model that exists and does something else: its callers must not look like its outage.
_OTHER_OPERATION: Final = re.compile(r"\bis (?:not )?a chat model\b|not allowed to generate embeddings")

C = TypeVar("C")


class CompatibleAdapter(Adapter):
    """A server that speaks as OpenAI does, give or take what its preset says (``presets``)."""

    operations = frozenset(Operation)
    limit: ClassVar[Literal["max_tokens", "max_completion_tokens"] | None] = None

    def __init__(self, account: Account) -> None:
        self.preset = PRESETS.get(account.preset)
        if account.preset and self.preset is None:
            raise ValueError(f"There is no preset {account.preset[:40]!r}.")
        if self.preset is not None and not account.base_url:
            if self.preset.needs_key and not account.credential:
                raise ValueError(f"{self.preset.label} needs an API key.")
            account = replace(account, base_url=self.preset.base_url)
        super().__init__(account)
        self.headers = self._authorization()
        self._read_answer: Callable[[bytes], Answer] = answers.read_answer
        self._read_chunk: Callable[[bytes], Chunk] = answers.read_chunk
        if self.preset is not None:
            self.stream_always = self.preset.stream_always
            self._read_answer = partial(dialect.read, decode=answers.read_answer, preset=self.preset)
            self._read_chunk = partial(dialect.read, decode=answers.read_chunk, preset=self.preset)

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        return Wire(
            self.path("/chat/completions", upstream_model), self.headers, self._body(request, upstream_model, stream)
        )

    def path(self, endpoint: str, upstream_model: str) -> str:
        """Where ``endpoint`` of OpenAI's API is, after the base URL."""
        return endpoint

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        return self._read_answer(body)

    def stream(self, request: ChatRequest) -> StreamReader:
        return ChunkReader(self._read_chunk)

    async def completion_wire(self, request: CompletionRequest, *, upstream_model: str, stream: bool) -> Wire:
        if self.preset is not None:
            request = dialect.adapt_completion(request, self.preset)
        body = text_schemas.encode_completion_request(request, upstream_model=upstream_model, stream=stream)
        return Wire(self.path("/completions", upstream_model), self.headers, body)

    def read_completion(self, request: CompletionRequest, body: bytes) -> TextChunk:
        return text_answers.read_completion(body)

    def completion_stream(self, request: CompletionRequest) -> TextReader:
        return ChunkReader(text_answers.ChunkReading().read)

    async def embedding_wire(self, request: EmbeddingRequest, *, upstream_model: str) -> Wire:
        if self.preset is not None:
            request = dialect.adapt_embedding(request, self.preset)
        body = text_schemas.encode_embedding_request(request, upstream_model=upstream_model)
        return Wire(self.path("/embeddings", upstream_model), self.headers, body)

    def read_embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        return embeddings.read(body)

    def refusal(self, status: int, retry_after: bytes | None, body: bytes) -> Refusal:
        refusal = super().refusal(status, retry_after, body)
        code = _code(body)
        if status == 500 and TOO_LONG_FOR_A_BATCH in refusal.message:
            return replace(refusal, blame=Blame.CALLER)
        if status in {403, 404} and _OTHER_OPERATION.search(refusal.message):
            return replace(refusal, blame=Blame.CALLER)
        if status == 402 or (status == 429 and code == "insufficient_quota"):  # our account with them is empty
            return Refusal(Blame.PROVIDER, refusal.message, refusal.retry_after_s or EMPTY_ACCOUNT_PAUSE_S)
        if status == 413 and code == "rate_limit_exceeded":  # Groq, of a request that alone is over a minute's tokens
            return replace(refusal, blame=Blame.LIMIT)
        return refusal

    async def listing(self) -> Listing | None:
        return Listing(self.origin, "/models", self.headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            listed = msgspec.json.decode(body, type=_Listed | list[_ListedModel])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None
        models = listed if isinstance(listed, list) else listed.data  # Together AI answers with the bare array
        return [model.id for model in models]

    def _authorization(self) -> bytes:
        credential = self.account.credential
        return header_lines({"Authorization": f"Bearer {credential}"}) if credential else b""

    def _body(self, request: ChatRequest, upstream_model: str, stream: bool) -> bytes:
        if len(request.messages) > 1:  # nobody's first message has a call's id
            request = call_ids.plainly(request)
        preset = self.preset
        if preset is None:
            return schemas.encode_chat_request(request, upstream_model=upstream_model, stream=stream, limit=self.limit)
        adapted = dialect.adapt(request, preset)
        extra = dialect.extra_fields(adapted, preset)
        return schemas.encode_chat_request(
            adapted,
            upstream_model=upstream_model,
            stream=stream,
            limit=preset.limit,
            stream_options="stream_options" not in preset.lacks,
            extra=extra,
        )


class OpenAIAdapter(CompatibleAdapter):
    default_base_url = "https://api.openai.com/v1"
    limit = "max_completion_tokens"  # its reasoning models refuse max_tokens, and its older ones take the other name

    def __init__(self, account: Account) -> None:
        super().__init__(replace(account, preset=""))

    def _body(self, request: ChatRequest, upstream_model: str, stream: bool) -> bytes:
        return super()._body(dialect.without_reasoning(request), upstream_model, stream)


class ChunkReader(Generic[C]):
    """Server-sent events that are chunks already, until [DONE]."""

    __slots__ = ("_decoder", "_read_chunk", "done")

    def __init__(self, read_chunk: Callable[[bytes], C]) -> None:
        self.done = False
        self._decoder = sse.Decoder()
        self._read_chunk = read_chunk

    def feed(self, data: bytes) -> Iterator[C]:
        return self._read(self._decoder.feed(data))

    def finish(self) -> Iterator[C]:
        return self._read(self._decoder.finish())

    def _read(self, events: list[bytes]) -> Iterator[C]:
        for event in events:
            if event == DONE:
                self.done = True
                return
            yield self._read_chunk(event)


class _ListedModel(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_ListedModel]


class _CodedError(msgspec.Struct):
    code: Any = None


class _CodedBody(msgspec.Struct):
    error: _CodedError | str | None = None


def _code(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body, type=_CodedBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return error.code if isinstance(error, _CodedError) and isinstance(error.code, str) else ""
