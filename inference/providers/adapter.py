"""The seam between the gateway and a kind of provider: an adapter translates, and does nothing else.

It says where a request goes, under which headers and in which words, and reads what comes back as the answers that
OpenAI would have given (``inference.answers``). It opens no connections, retries nothing, measures nothing and keeps no
state of a request; ``inference.relay`` does all that, the same for each kind. Adapters are shared by all deployments of
a provider, for as long as its settings stay the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, ClassVar, Final, Protocol

import msgspec

from inference.answers import Answer, Chunk
from inference.embeddings import Embeddings
from inference.schemas import ChatRequest
from inference.text_answers import TextChunk
from inference.text_schemas import CompletionRequest, EmbeddingRequest
from inference.upstream import Origin


class Operation(StrEnum):
    """What callers can ask of a model. The value names it in messages."""

    CHAT = "chat completions"
    COMPLETION = "completions"
    EMBEDDING = "embeddings"


@dataclass(frozen=True, slots=True)
class Account:
    """How one provider is reached, as its row says (``inference.models.Provider``). It holds the secret."""

    kind: str
    base_url: str = ""
    credential: str = field(default="", repr=False)
    preset: str = ""
    region: str = ""
    project: str = ""
    api_version: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """One request as it is sent: ``path`` follows the origin's and may have a query, ``headers`` are complete lines."""

    path: str
    headers: bytes = field(repr=False)  # they hold the credential
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """A GET that lists a provider's models. Its origin may be another than that of its answers."""

    origin: Origin
    path: str
    headers: bytes = field(repr=False)


class Blame(Enum):
    """Whose fault an answer other than 200 is."""

    CALLER = "the caller's"  # shown to them, and not retried
    LIMIT = "a limit of ours with the provider"  # the next deployment, and this one after a while
    PROVIDER = "the provider's, or of our settings"  # the next deployment


@dataclass(frozen=True, slots=True)
class Refusal:
    """``message`` in the provider's words, not yet cleaned; ``retry_after_s`` where it asked for a pause."""

    blame: Blame
    message: str = ""
    retry_after_s: float | None = None


class StreamReader(Protocol):
    """Reads one streamed answer, whatever its framing. ``done``: the upstream has said that this was all of it.

    Both methods raise BadAnswer, UpstreamStreamError and sse.LineTooLong, after yielding what came before. Chunks are
    for the writer to keep: a reader never yields the same object twice.
    """

    done: bool

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that these bytes complete."""

    def finish(self) -> Iterator[Chunk]:
        """The connection has ended: what was still unfinished."""


class TextReader(Protocol):
    """The same for text completions."""

    done: bool

    def feed(self, data: bytes) -> Iterator[TextChunk]: ...

    def finish(self) -> Iterator[TextChunk]: ...


class Adapter:
    """Base of all kinds. Raises ValueError from its constructor for settings that can't work, without their secrets."""

    operations: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT})
    default_base_url: ClassVar[str] = ""
    stream_always: bool = False  # its server stops for a client that leaves only while it streams

    def __init__(self, account: Account) -> None:
        self.account = account
        self.origin = Origin.parse(account.base_url or self.default_base_url)
        self.secrets: tuple[str, ...] = (account.credential,) if account.credential else ()  # never in any text

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        """``stream`` says what the upstream is to do, which may differ from what the caller asked.

        Raises Unsupported and CredentialError.
        """
        raise NotImplementedError

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        """A whole answer. Raises BadAnswer and UpstreamStreamError."""
        raise NotImplementedError

    def stream(self, request: ChatRequest) -> StreamReader:
        raise NotImplementedError

    # The same three for text completions, and what embeddings need of them: for kinds with these ``operations``.

    async def completion_wire(self, request: CompletionRequest, *, upstream_model: str, stream: bool) -> Wire:
        raise NotImplementedError

    def read_completion(self, request: CompletionRequest, body: bytes) -> TextChunk:
        raise NotImplementedError

    def completion_stream(self, request: CompletionRequest) -> TextReader:
        raise NotImplementedError

    async def embedding_wire(self, request: EmbeddingRequest, *, upstream_model: str) -> Wire:
        raise NotImplementedError

    def read_embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        raise NotImplementedError

    def refusal(self, status: int, retry_after: bytes | None, body: bytes) -> Refusal:
        """What a status other than 200 means. ``body`` is at most 64 KiB of it."""
        return Refusal(blame(status), message(body), retry_after_s(retry_after))

    async def listing(self) -> Listing | None:
        """How to ask for its models; None where there is no such list. Raises CredentialError."""
        return None

    def read_listing(self, body: bytes) -> list[str]:
        """The names a deployment can have as its ``upstream_model``, as the provider orders them. Raises BadAnswer."""
        raise NotImplementedError


class Unsupported(Exception):
    """This kind of provider can't be asked that; another deployment of the model may be able to. ``param`` as OpenAI
    prints it, such as ``messages[0].content``."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class CredentialError(Exception):
    """A token could not be had. The message is for the log and for operators, and holds no secret."""


_CALLERS: Final = frozenset({400, 413, 422})


def blame(status: int) -> Blame:
    if status in _CALLERS:
        return Blame.CALLER
    return Blame.LIMIT if status == 429 else Blame.PROVIDER


def retry_after_s(value: bytes | None) -> float | None:
    """Seconds, of a Retry-After that says them (some say fractions); None for a date or nonsense."""
    if value is not None and re.fullmatch(rb"\d{1,9}(\.\d{1,9})?", value.strip()):
        return float(value)
    return None


class _ErrorBody(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")
    message: Any = None
    detail: Any = None


class _ErrorObject(msgspec.Struct):
    message: Any = None


def message(body: bytes) -> str:
    """The message of an error body, as the usual servers write it; empty if there is none."""
    try:
        parsed = msgspec.json.decode(body, type=_ErrorBody)
        found = msgspec.json.decode(parsed.error, type=_ErrorObject | str | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    candidates = (found.message if isinstance(found, _ErrorObject) else found, parsed.message, parsed.detail)
    return next((text for text in candidates if isinstance(text, str) and text), "")
