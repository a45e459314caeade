"""OpenAI's own words, which most servers speak: OpenAI, vLLM, llama.cpp, Ollama and the many compatible services."""

from collections.abc import Iterator
from typing import Final

import msgspec

from inference import answers, schemas, sse
from inference.answers import Answer, BadAnswer, Chunk
from inference.providers.adapter import Account, Adapter, Listing, StreamReader, Wire
from inference.schemas import ChatRequest
from inference.upstream import header_lines

DONE: Final = b"[DONE]"


class CompatibleAdapter(Adapter):
    renames_max_tokens = False

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self.headers = self._authorization()

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        body = schemas.encode_chat_request(
            request, upstream_model=upstream_model, stream=stream, renames_max_tokens=self.renames_max_tokens
        )
        return Wire("/chat/completions", self.headers, body)

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        return answers.read_answer(body)

    def stream(self, request: ChatRequest) -> StreamReader:
        return ChunkReader()

    async def listing(self) -> Listing | None:
        return Listing(self.origin, "/models", self.headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            return [model.id for model in msgspec.json.decode(body, type=_Listed).data]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None

    def _authorization(self) -> bytes:
        credential = self.account.credential
        return header_lines({"Authorization": f"Bearer {credential}"}) if credential else b""


class OpenAIAdapter(CompatibleAdapter):
    default_base_url = "https://api.openai.com/v1"
    renames_max_tokens = True  # its reasoning models refuse max_tokens, and its older ones take the other name


class ChunkReader:
    """Server-sent events that are chunks already, until [DONE]."""

    __slots__ = ("_decoder", "done")

    def __init__(self) -> None:
        self.done = False
        self._decoder = sse.Decoder()

    def feed(self, data: bytes) -> Iterator[Chunk]:
        return self._read(self._decoder.feed(data))

    def finish(self) -> Iterator[Chunk]:
        return self._read(self._decoder.finish())

    def _read(self, events: list[bytes]) -> Iterator[Chunk]:
        for event in events:
            if event == DONE:
                self.done = True
                return
            yield answers.read_chunk(event)


class _ListedModel(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_ListedModel]
