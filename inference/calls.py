"""What one request asks of whichever deployment answers, a class for each operation, and what came of the tries.

A call knows its request's words, ways to its upstream's and back; ``inference.relay`` knows how to try.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import msgspec

from billing.events import ESTIMATED, NOTHING, PROVIDER, Attempt
from helixflow.lib import ids
from inference import completions, embeddings, schemas, text_answers, text_schemas, usage
from inference.assembly import Assembler as ChatAssembler
from inference.catalogue import Deployment
from inference.completions import ChunkRewriter, Estimate, Usage
from inference.providers.adapter import Operation, Wire
from inference.text_answers import TextAssembler
from inference.upstream import Deadlines, UpstreamClient, UpstreamConnectError, UpstreamTimeout

CLOSE_S: Final = 0.1  # deadlines pass by the event loop's clock, which may be that far from ours


class Request(Protocol):
    """What the gateway has to know of any."""

    model: str
    user: str | None

    @property
    def wants_stream(self) -> bool: ...


class Reader(Protocol):
    """An adapter's reader of a stream. What its chunks are is between it and its call's writers."""

    done: bool

    def feed(self, data: bytes) -> Iterator[Any]: ...

    def finish(self) -> Iterator[Any]: ...


class Assembler(Protocol):
    """Makes one answer of such chunks."""

    @property
    def finished(self) -> bool: ...

    def add(self, chunk: Any) -> None: ...

    def result(self, *, id: str, created: int, model: str, estimate: Estimate) -> tuple[bytes, Usage | None, bool]: ...


@dataclass(slots=True)
class Call(ABC):
    """``on_attempt`` is told when one begins. ``usage`` is there once something was produced; ``reported`` says whether
    by the provider, or estimated. ``until``: when the caller gives up, on the monotonic clock.
    """

    operation: ClassVar[Operation]
    id_prefix: ClassVar[str] = ids.COMPLETION
    falls_back: ClassVar[bool] = True  # another model's answer will do

    request: Request
    id: str
    created: int
    client: UpstreamClient
    on_attempt: Callable[[], None] = lambda: None
    until: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    trying: str = ""  # the deployment of the attempt under way
    usage: Usage | None = None
    reported: bool = False
    written: ChunkRewriter | None = None  # of the stream under way

    @staticmethod
    @abstractmethod
    def parse(body: bytes) -> Request:
        """Raises InvalidRequest."""

    @abstractmethod
    async def wire(self, deployment: Deployment, *, stream: bool) -> Wire:
        """Raises Unsupported and CredentialError."""

    @abstractmethod
    def read(self, deployment: Deployment, answer: bytes) -> bytes:
        """A whole answer as ours. Raises BadAnswer and UpstreamStreamError."""

    def streams(self, deployment: Deployment) -> bool:
        """Whether a whole answer is put together from a stream: of those that stop only then for who leaves."""
        return deployment.stream_always

    def reader(self, deployment: Deployment) -> Reader:
        raise NotImplementedError

    def rewriter(self) -> ChunkRewriter:
        """For the chunks of its reader, as for what ``assembler`` makes."""
        raise NotImplementedError

    def assembler(self) -> Assembler:
        raise NotImplementedError

    @abstractmethod
    def estimate(self, completion_chars: int) -> Usage: ...

    def assembled(self, assembler: Assembler) -> bytes:
        body, self.usage, self.reported = assembler.result(
            id=self.id, created=self.created, model=self.request.model, estimate=self.estimate
        )
        return body

    def account(self) -> None:
        """Bring ``usage`` up to what the stream has produced so far."""
        written = self.written
        if written is not None and written.started:
            usage = written.usage
            if usage is None or (usage.completion_tokens == 0 and written.completion_chars):  # a count that never ran
                guess = self.estimate(written.completion_chars)
                usage = guess if usage is None or not usage.prompt_tokens else _completed(usage, guess)
            self.reported = usage is written.usage
            self.usage = usage

    @property
    def usage_source(self) -> str:
        """As the ledger names it."""
        if self.usage is None:
            return NOTHING
        return PROVIDER if self.reported else ESTIMATED

    def deadlines(self, deployment: Deployment) -> Deadlines:
        """The deployment's, or what the caller still has. Raises UpstreamTimeout if that is nothing."""
        if self.until is None:
            return deployment.deadlines
        return deployment.deadlines.within(self.until - time.monotonic())

    def was_hurried(self, error: Exception) -> bool:
        """Whether it is the caller's own deadline that passed: no fault of the deployment's."""
        return isinstance(error, UpstreamTimeout | UpstreamConnectError) and self.is_late

    @property
    def is_late(self) -> bool:
        return self.until is not None and time.monotonic() >= self.until - CLOSE_S


def _completed(usage: Usage, guess: Usage) -> Usage:
    """The prompt as it was reported, the rest as it is guessed."""
    completion = guess.completion_tokens
    return msgspec.structs.replace(usage, completion_tokens=completion, total_tokens=usage.prompt_tokens + completion)


@dataclass(slots=True)
class ChatCall(Call):
    operation = Operation.CHAT
    request: schemas.ChatRequest

    parse = staticmethod(schemas.parse_chat_request)

    async def wire(self, deployment: Deployment, *, stream: bool) -> Wire:
        return await deployment.adapter.wire(self.request, upstream_model=deployment.upstream_model, stream=stream)

    def read(self, deployment: Deployment, answer: bytes) -> bytes:
        body, self.usage, self.reported = completions.rewrite_completion(
            deployment.adapter.read_answer(self.request, answer),
            id=self.id,
            created=self.created,
            model=self.request.model,
            estimate=self.estimate,
        )
        return body

    def reader(self, deployment: Deployment) -> Reader:
        return deployment.adapter.stream(self.request)

    def rewriter(self) -> ChunkRewriter:
        return ChunkRewriter(
            id=self.id, created=self.created, model=self.request.model, include_usage=self.request.wants_usage_chunk
        )

    def assembler(self) -> Assembler:
        return ChatAssembler()

    def estimate(self, completion_chars: int) -> Usage:
        return usage.estimate(self.request, completion_chars)


@dataclass(slots=True)
class CompletionCall(Call):
    operation = Operation.COMPLETION
    id_prefix = ids.TEXT_COMPLETION
    request: text_schemas.CompletionRequest

    parse = staticmethod(text_schemas.parse_completion_request)

    async def wire(self, deployment: Deployment, *, stream: bool) -> Wire:
        return await deployment.adapter.completion_wire(
            self.request, upstream_model=deployment.upstream_model, stream=stream
        )

    def read(self, deployment: Deployment, answer: bytes) -> bytes:
        body, self.usage, self.reported = text_answers.rewrite_completion(
            deployment.adapter.read_completion(self.request, answer),
            id=self.id,
            created=self.created,
            model=self.request.model,
            estimate=self.estimate,
        )
        return body

    def streams(self, deployment: Deployment) -> bool:
        return deployment.stream_always and not self.request.picks_the_best

    def reader(self, deployment: Deployment) -> Reader:
        return deployment.adapter.completion_stream(self.request)

    def rewriter(self) -> ChunkRewriter:
        return ChunkRewriter(
            id=self.id,
            created=self.created,
            model=self.request.model,
            include_usage=self.request.wants_usage_chunk,
            object="text_completion",
        )

    def assembler(self) -> Assembler:
        return TextAssembler()

    def estimate(self, completion_chars: int) -> Usage:
        return usage.estimate_completion(self.request, completion_chars)


@dataclass(slots=True)
class EmbeddingCall(Call):
    """Never streamed. Another model's vectors mean nothing among this one's, so its fallbacks are not asked."""

    operation = Operation.EMBEDDING
    falls_back = False
    request: text_schemas.EmbeddingRequest

    parse = staticmethod(text_schemas.parse_embedding_request)

    async def wire(self, deployment: Deployment, *, stream: bool) -> Wire:
        return await deployment.adapter.embedding_wire(self.request, upstream_model=deployment.upstream_model)

    def read(self, deployment: Deployment, answer: bytes) -> bytes:
        found = deployment.adapter.read_embeddings(self.request, answer)
        reported = found.usage.usage() if found.usage else None
        counted = reported or self.estimate(0)
        body = embeddings.write(
            found,
            count=text_schemas.count(self.request.input),
            model=self.request.model,
            usage=counted,
            as_base64=self.request.wants_base64,
        )
        self.usage, self.reported = counted, reported is not None
        return body

    def streams(self, deployment: Deployment) -> bool:
        return False

    def estimate(self, completion_chars: int) -> Usage:
        return usage.estimate_embedding(self.request)
