"""Tokens as the ledger counts them: from what the provider reported, or estimated where it reported nothing.

A token is taken for four bytes of text, which fits English and is the usual rule of thumb.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from billing.events import Tokens
from inference.answers import Usage
from inference.schemas import ChatRequest
from inference.text_schemas import CompletionRequest, EmbeddingRequest

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4  # role and separators
_TEXTS: Final = frozenset({"text", "content", "arguments", "input", "refusal", "name"})


def tokens(usage: Usage) -> Tokens:
    """Disjoint classes. Parts that are larger than their whole are cut; a total that is larger is reasoning."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    hidden = max(0, usage.total_tokens - prompt - completion)  # some providers leave reasoning out of the completion
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    if not given and not made and not hidden:
        return Tokens(input=prompt, output=completion)
    cached = _part(given and given.cached_tokens, prompt)
    written = _part(given and given.cache_write_tokens, prompt - cached)
    heard = _part(given and given.audio_tokens, prompt - cached - written)
    reasoning = _part(made and made.reasoning_tokens, completion)
    spoken = _part(made and made.audio_tokens, completion - reasoning)
    return Tokens(
        input=prompt - cached - written - heard,
        cached_input=cached,
        cache_write=written,
        input_audio=heard,
        output=completion - reasoning - spoken,
        reasoning=reasoning + hidden,
        output_audio=spoken,
    )


def _part(said: Any, whole: int) -> int:
    return min(max(said, 0), whole) if isinstance(said, int) else 0


def estimate(request: ChatRequest, completion_chars: int) -> Usage:
    messages = msgspec.to_builtins(request.messages)
    size = sum(len(text.encode()) for text in _texts(messages))
    prompt = len(messages) * TOKENS_PER_MESSAGE + _tokens_of(size)
    completion = _tokens_of(completion_chars)
    return Usage(prompt, completion, prompt + completion)


def estimate_completion(request: CompletionRequest, completion_chars: int) -> Usage:
    prompt = _tokens_in(request.prompt)
    repeated = prompt * (request.n or 1) if request.echo else 0
    completion = max(0, _tokens_of(completion_chars) - repeated)
    return Usage(prompt, completion, prompt + completion)


def estimate_embedding(request: EmbeddingRequest) -> Usage:
    prompt = _tokens_in(request.input)
    return Usage(prompt, 0, prompt)


def _tokens_of(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _tokens_in(inputs: int | str | Sequence[int | str | Sequence[int]]) -> int:
    """Of all texts in there. Tokens count themselves."""
    if isinstance(inputs, int):
        return 1
    if isinstance(inputs, str):
        return _tokens_of(len(inputs.encode()))
    if isinstance(inputs[0], int):  # then all are, and there can be millions
        return len(inputs)
    return sum(map(_tokens_in, inputs))


def _texts(value: Any) -> Iterator[str]:
    """What the model reads of messages: no pictures, no sound."""
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str):
                if name in _TEXTS:
                    yield item
            else:
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from [item] if isinstance(item, str) else _texts(item)
