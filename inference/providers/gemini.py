"""Google Gemini: ``generateContent`` under an API key."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from inference.answers import Answer, BadAnswer
from inference.embeddings import Embeddings
from inference.providers import adapter, call_ids, gemini_answers, gemini_embeddings, gemini_requests
from inference.providers.adapter import Account, Adapter, Blame, Listing, Operation, Refusal, StreamReader, Wire
from inference.providers.gemini_embeddings import Way
from inference.schemas import ChatRequest
from inference.text_schemas import EmbeddingRequest
from inference.upstream import header_lines

_USED: Final = {"generateContent", "embedContent"}  # methods of models
_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s\Z")


class GenerateContentAdapter(Adapter):
    """What Gemini and Vertex AI have in common: all but their addresses and credentials."""

    operations: ClassVar = frozenset({Operation.CHAT, Operation.EMBEDDING})

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._mark = call_ids.mark(account)

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        body = gemini_requests.encode(request, model=upstream_model, mark=self._mark)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return Wire(f"{self.resource(upstream_model)}:{method}", await self.headers(), body)

    def resource(self, upstream_model: str) -> str:
        """The path of a model, which its methods follow."""
        raise NotImplementedError

    async def headers(self) -> bytes:
        """Raises CredentialError."""
        raise NotImplementedError

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        return gemini_answers.read_answer(request, body, mark=self._mark)

    def stream(self, request: ChatRequest) -> StreamReader:
        return gemini_answers.PieceReader(request, mark=self._mark)

    async def embedding_wire(self, request: EmbeddingRequest, *, upstream_model: str) -> Wire:
        way, resource = self.embedding_way(upstream_model), self.resource(upstream_model)
        body = gemini_embeddings.encode(request, model=resource[1:], way=way)
        return Wire(f"{resource}:{way.method}", await self.headers(), body)

    def embedding_way(self, upstream_model: str) -> Way:
        return Way.BATCH

    def read_embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        return gemini_embeddings.read(body)

    def refusal(self, status: int, retry_after: bytes | None, body: bytes) -> Refusal:
        error = _error(body)
        pause = adapter.retry_after_s(retry_after)
        return Refusal(_blame(status, error), error.message, error.retry_delay_s if pause is None else pause)


class GeminiAdapter(GenerateContentAdapter):
    default_base_url: ClassVar[str] = "https://generativelanguage.googleapis.com/v1beta"

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._headers = header_lines({"x-goog-api-key": account.credential}) if account.credential else b""

    def resource(self, upstream_model: str) -> str:
        """``upstream_model`` may name the collection too: ``tunedModels/…``."""
        return f"/{quote(upstream_model if '/' in upstream_model else f'models/{upstream_model}')}"

    async def headers(self) -> bytes:
        return self._headers

    async def listing(self) -> Listing | None:
        return Listing(self.origin, "/models?pageSize=1000", self._headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            models = msgspec.json.decode(body, type=_Listed).models
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None
        usable = [model for model in models if _USED & model.supported_generation_methods]
        return [model.name.removeprefix("models/") for model in usable]


class _ListedModel(msgspec.Struct, rename="camel"):
    name: str
    supported_generation_methods: set[str] = set()


class _Listed(msgspec.Struct):
    models: list[_ListedModel] = []


# Errors: https://cloud.google.com/apis/design/errors


class _Error(msgspec.Struct):
    message: str = ""
    status: str = ""
    details: list[dict[str, Any]] = []

    @property
    def about_the_key(self) -> bool:
        return any(str(detail.get("reason", "")).startswith("API_KEY_") for detail in self.details)

    @property
    def retry_delay_s(self) -> float | None:
        delays = (_DELAY.match(str(detail.get("retryDelay", ""))) for detail in self.details)
        return next((float(delay[1]) for delay in delays if delay), None)


def _error(body: bytes) -> _Error:
    """Streams' errors come in a list. What isn't an error of Google's has whatever message it has."""
    try:
        read = msgspec.json.decode(body)
        found = read[0] if isinstance(read, list) and read else read
        return msgspec.convert(found["error"] if isinstance(found, Mapping) else None, _Error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return _Error(adapter.message(body))


def _blame(status: int, error: _Error) -> Blame:
    if status == 429 or error.status == "RESOURCE_EXHAUSTED":
        return Blame.LIMIT
    # Two answers of 400 that no caller can help: a bad key, and a country or an account that isn't served.
    ours = error.about_the_key or error.status == "FAILED_PRECONDITION"
    return Blame.PROVIDER if ours else adapter.blame(status)
