"""OpenAI-compatible servers by name: where each is, and where it parts from OpenAI. Data alone; ``dialect`` acts on it.

As their documentation, clients and error messages had it in the middle of 2026. A field that is missing is refused by
the strict servers and silently ignored by the others; it is the same to us.
"""

from dataclasses import dataclass
from typing import Final, Literal

from inference.providers.adapter import Operation
from inference.schemas import ChatRequest
from inference.text_schemas import CompletionRequest, EmbeddingRequest

FIELDS: Final = frozenset(
    ChatRequest.__struct_fields__ + CompletionRequest.__struct_fields__ + EmbeddingRequest.__struct_fields__
)
CHAT: Final = frozenset({Operation.CHAT})
CHAT_AND_EMBEDDING: Final = CHAT | {Operation.EMBEDDING}
CHAT_AND_COMPLETION: Final = CHAT | {Operation.COMPLETION}
ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
# What only OpenAI's own platform knows.
OPENAI_ONLY: Final = frozenset(
    {"audio", "functions", "function_call", "metadata", "modalities", "moderation", "prediction", "prompt_cache_key"}
    | {"prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "verbosity"}
    | {"web_search_options"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """``base_url`` empty: it runs wherever the operator put it. ``lacks``: fields of requests it doesn't have."""

    label: str
    base_url: str = ""
    needs_key: bool = True
    operations: frozenset[Operation] = frozenset(Operation)
    lacks: frozenset[str] = OPENAI_ONLY
    limit: Literal["max_tokens", "max_completion_tokens"] | None = None  # the only name it has for it; None: both
    named_roles: frozenset[str] = ROLES  # whose messages may have a name
    stream_always: bool = False  # stops for a client that leaves only while it streams
    json_schema: bool = True  # as a response_format
    text_parts: bool = True  # content may be a list of texts
    takes_reasoning: bool = False  # reasoning_content of earlier answers
    required_tool: str = "required"  # its word for "call some tool"
    seed: str = "seed"  # its name for it
    short_call_ids: bool = False  # ids of tool calls are nine letters and digits, whoever made them
    thinking_parts: bool = False  # answers with reasoning have lists of parts as their content
    reasoning_apart: bool = False  # reasoning tokens are counted beside those of the completion


PRESETS: Final[dict[str, Preset]] = {
    "vllm": Preset(label="vLLM", needs_key=False, takes_reasoning=True),
    "llama.cpp": Preset(
        label="llama.cpp",
        base_url="http://127.0.0.1:8080/v1",
        needs_key=False,
        lacks=OPENAI_ONLY | {"dimensions"},  # a vector keeps its length, and nothing is said
        stream_always=True,
        takes_reasoning=True,
    ),
    "ollama": Preset(
        label="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        needs_key=False,
        lacks=OPENAI_ONLY | {"best_of", "echo", "logit_bias", "n", "parallel_tool_calls", "tool_choice", "user"},
        limit="max_tokens",
    ),
    "lmstudio": Preset(
        label="LM Studio",
        base_url="http://127.0.0.1:1234/v1",
        needs_key=False,
        lacks=OPENAI_ONLY | {"n", "user"},
        limit="max_tokens",
    ),
    "groq": Preset(
        label="Groq",
        base_url="https://api.groq.com/openai/v1",
        operations=CHAT,
        lacks=OPENAI_ONLY | {"frequency_penalty", "logit_bias", "logprobs", "n", "presence_penalty", "top_logprobs"},
        named_roles=frozenset(),
    ),
    "together": Preset(
        label="Together AI",
        base_url="https://api.together.xyz/v1",
        lacks=OPENAI_ONLY | {"logprobs", "top_logprobs"},  # its logprobs is a number, and answered in another form
        limit="max_tokens",
    ),
    "mistral": Preset(
        label="Mistral",
        base_url="https://api.mistral.ai/v1",
        operations=CHAT_AND_EMBEDDING,
        lacks=FIELDS  # and of stream_options it has no need: each stream ends with its usage
        - {"model", "messages", "stream", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"}
        - {"frequency_penalty", "presence_penalty", "n", "prediction", "response_format"}
        - {"tools", "tool_choice", "parallel_tool_calls", "input", "encoding_format"},
        limit="max_tokens",
        named_roles=frozenset({"tool"}),
        required_tool="any",
        seed="random_seed",
        short_call_ids=True,
        thinking_parts=True,
    ),
    "deepseek": Preset(
        label="DeepSeek",
        base_url="https://api.deepseek.com/v1",
        operations=CHAT,
        lacks=OPENAI_ONLY | {"logit_bias", "n", "parallel_tool_calls", "seed", "user"},
        limit="max_tokens",
        json_schema=False,
        text_parts=False,
        takes_reasoning=True,
    ),
    "openrouter": Preset(
        label="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        lacks=OPENAI_ONLY - {"prediction", "prompt_cache_key", "verbosity"} | {"n"},
        limit="max_tokens",
        takes_reasoning=True,
    ),
    "fireworks": Preset(
        label="Fireworks AI",
        base_url="https://api.fireworks.ai/inference/v1",
        limit="max_tokens",
        required_tool="any",
        takes_reasoning=True,
    ),
    "xai": Preset(
        label="xAI",
        base_url="https://api.x.ai/v1",
        operations=CHAT,
        lacks=OPENAI_ONLY | {"logit_bias"},
        named_roles=frozenset({"user"}),
        reasoning_apart=True,
    ),
    "cerebras": Preset(
        label="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        operations=CHAT_AND_COMPLETION,
        lacks=OPENAI_ONLY | {"frequency_penalty", "logit_bias", "parallel_tool_calls", "presence_penalty"},
    ),
}
CHOICES: Final = [(name, preset.label) for name, preset in PRESETS.items()]  # for forms
