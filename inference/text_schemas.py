"""The bodies of ``POST /v1/completions`` and ``POST /v1/embeddings``: strictly read, and written anew for the upstream.

Both take texts, or tokens in their place: one, or a list of them.
"""

from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from inference import complaints
from inference.parts import Label, StreamOptions
from inference.schemas import ModelName, Penalty, Tokens

DEFAULT_MAX_TOKENS: Final = 16
MAX_INPUTS: Final = 2048

Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenList = Annotated[list[Token], Meta(min_length=1)]
# One array is all that a typed decode can tell apart, so ``_check_inputs`` sees to it that nothing is mixed.
Inputs = str | Annotated[list[str | Token | TokenList], Meta(min_length=1)]

R = TypeVar("R", "CompletionRequest", "EmbeddingRequest")


class CompletionRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """OpenAI's documented parameters. ``null`` means absent."""

    model: ModelName
    prompt: Inputs
    suffix: str | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    logit_bias: Annotated[dict[str, Annotated[int, Meta(ge=-100, le=100)]], Meta(max_length=1024)] | None = None
    user: Label | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None

    @property
    def wants_stream(self) -> bool:
        return self.stream is True

    @property
    def wants_usage_chunk(self) -> bool:
        return self.stream is True and self.stream_options is not None and self.stream_options.include_usage is True

    @property
    def picks_the_best(self) -> bool:
        """Of more candidates than are answered with, which nobody can stream."""
        return self.best_of is not None and self.best_of > (self.n or 1)


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """OpenAI's documented parameters. ``null`` means absent."""

    model: ModelName
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: Label | None = None

    @property
    def wants_stream(self) -> bool:
        return False

    @property
    def wants_base64(self) -> bool:
        return self.encoding_format == "base64"


_encode = msgspec.json.Encoder().encode
_decode_completion = msgspec.json.Decoder(CompletionRequest).decode
_decode_embedding = msgspec.json.Decoder(EmbeddingRequest).decode
_RANGES: Final = complaints.bounds(CompletionRequest) | complaints.bounds(EmbeddingRequest)
_CHOICES: Final = complaints.allowed_values(EmbeddingRequest)


def parse_completion_request(body: bytes) -> CompletionRequest:
    """Raises ``errors.InvalidRequest``, whose ``param`` names the field."""
    request = _parse(_decode_completion, body)
    _check_inputs(request.prompt, "prompt")
    if request.best_of is not None and request.best_of < (request.n or 1):
        raise complaints.refuse("best_of", "must be at least n")
    if request.picks_the_best and request.stream:
        raise complaints.refuse("best_of", "must not be greater than n where stream is true")
    return request


def parse_embedding_request(body: bytes) -> EmbeddingRequest:
    """As ``parse_completion_request``."""
    request = _parse(_decode_embedding, body)
    _check_inputs(request.input, "input")
    if isinstance(request.input, str):
        if not request.input:
            raise complaints.refuse("input", "must not be empty")
    elif "" in request.input:
        raise complaints.refuse(f"input[{request.input.index('')}]", "must not be empty")
    return request


def encode_completion_request(request: CompletionRequest, *, upstream_model: str, stream: bool) -> bytes:
    """As ``schemas.encode_chat_request``."""
    wire = msgspec.structs.replace(request, model=upstream_model, stream=stream or None, stream_options=None)
    if stream:
        wire.stream_options = StreamOptions(include_usage=True)
    if wire.max_tokens is None:
        wire.max_tokens = DEFAULT_MAX_TOKENS
    return _encode(wire)


def encode_embedding_request(request: EmbeddingRequest, *, upstream_model: str) -> bytes:
    return _encode(msgspec.structs.replace(request, model=upstream_model))


def count(inputs: Inputs) -> int:
    """How many texts, or lists of tokens, these are."""
    return 1 if isinstance(inputs, str) or isinstance(inputs[0], int) else len(inputs)


def _parse(decode: Callable[[bytes], R], body: bytes) -> R:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise complaints.translate(problem, body, ranges=_RANGES, choices=_CHOICES) from None


def _check_inputs(inputs: Inputs, param: str) -> None:
    if isinstance(inputs, str):
        return
    kinds = {type(each) for each in inputs}
    if len(kinds) > 1:
        raise complaints.refuse(param, "must hold strings alone, or tokens alone, or lists of tokens alone")
    if int not in kinds and len(inputs) > MAX_INPUTS:
        raise complaints.refuse(param, f"must have at most {MAX_INPUTS} items")
