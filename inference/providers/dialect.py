"""A request in the words of an OpenAI-compatible server that is not OpenAI, and its answers in OpenAI's.

What a server can't do and the answer doesn't depend on is left out (HINTS, and values that say what happens anyway).
Whatever else it can't do raises Unsupported: another deployment of the model may be able to.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from inference.answers import Answer, BadAnswer, Chunk, ReportedUsage
from inference.parts import (
    AssistantMessage,
    ChosenAllowed,
    ChosenCustom,
    CustomCall,
    CustomTool,
    DeveloperMessage,
    FunctionMessage,
    JsonSchemaFormat,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
)
from inference.providers.adapter import Operation, Unsupported
from inference.providers.presets import Preset
from inference.schemas import ChatRequest
from inference.text_schemas import CompletionRequest, EmbeddingRequest

# Wishes and notes: speed, cost, effort, storage, who asks. OpenAI promises an answer's content for none of them.
HINTS: Final = frozenset(
    {"metadata", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"}
    | {"reasoning_effort", "safety_identifier", "seed", "service_tier", "store", "user", "verbosity"}
)
# What happens without the field.
NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("auto",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "tool_choice": ("auto",),
    "top_logprobs": (0,),
}
_CALL_ID: Final = re.compile(r"[A-Za-z0-9]{9}\Z")
_ROLES: Final = {kind: str(kind.__struct_config__.tag) for kind in Message.__args__}

A = TypeVar("A", Answer, Chunk)


def adapt(request: ChatRequest, preset: Preset) -> ChatRequest:
    """A copy for this server; the caller's stays as it is. Raises Unsupported."""
    adapted = msgspec.structs.replace(request, stream_options=None)  # the caller's are between us and them
    _leave_out(adapted, preset)
    _check_tools(adapted, preset)
    adapted.messages = [_message(message, at, preset) for at, message in enumerate(request.messages)]
    return adapted


def adapt_completion(request: CompletionRequest, preset: Preset) -> CompletionRequest:
    """As ``adapt``."""
    _require(Operation.COMPLETION, preset)
    adapted = msgspec.structs.replace(request, stream_options=None)
    _leave_out(adapted, preset)
    return adapted


def adapt_embedding(request: EmbeddingRequest, preset: Preset) -> EmbeddingRequest:
    """As ``adapt``."""
    _require(Operation.EMBEDDING, preset)
    adapted = msgspec.structs.replace(request)
    _leave_out(adapted, preset)
    return adapted


def extra_fields(request: ChatRequest, preset: Preset) -> dict[str, Any]:
    """Fields under names that OpenAI doesn't have, moved out of an adapted ``request``."""
    extra: dict[str, Any] = {}
    if request.seed is not None and preset.seed != "seed":
        extra[preset.seed], request.seed = abs(request.seed), None  # it takes none below zero
    if request.tool_choice == "required" and preset.required_tool != "required":
        extra["tool_choice"], request.tool_choice = preset.required_tool, None
    return extra


def _require(operation: Operation, preset: Preset) -> None:
    if operation not in preset.operations:
        raise Unsupported("model", f"This model's provider does not do {operation}.")


def _leave_out(request: ChatRequest | CompletionRequest | EmbeddingRequest, preset: Preset) -> None:
    for name in request.__struct_fields__:
        value = getattr(request, name)
        if value is not None and name in preset.lacks:
            if name not in HINTS and value not in NEUTRAL.get(name, ()):
                raise Unsupported(name, f"This model's provider does not support {name}.")
            setattr(request, name, None)


def without_reasoning(request: ChatRequest) -> ChatRequest:
    """For OpenAI, which writes no reasoning into conversations and refuses what others wrote."""
    if not any(isinstance(message, AssistantMessage) and message.reasoning_content for message in request.messages):
        return request
    messages = [
        msgspec.structs.replace(message, reasoning_content=None) if isinstance(message, AssistantMessage) else message
        for message in request.messages
    ]
    return msgspec.structs.replace(request, messages=messages)


def _check_tools(request: ChatRequest, preset: Preset) -> None:
    for at, tool in enumerate(request.tools or ()):
        if isinstance(tool, CustomTool):
            raise Unsupported(f"tools[{at}].type", "This model's provider supports tools of the type function only.")
    if isinstance(request.tool_choice, ChosenAllowed | ChosenCustom):
        raise Unsupported("tool_choice", "This model's provider does not support this kind of tool_choice.")
    if isinstance(request.response_format, JsonSchemaFormat) and not preset.json_schema:
        raise Unsupported("response_format", "This model's provider does not support JSON schemas.")


def _message(message: Message, at: int, preset: Preset) -> Message:
    role = _ROLES[type(message)]
    if isinstance(message, FunctionMessage):
        raise Unsupported(f"messages[{at}].role", "This model's provider does not support functions: use tools.")
    changes: dict[str, Any] = {}
    if message.name is not None and role not in preset.named_roles:
        if not isinstance(message, ToolMessage):  # there it only repeats the call's
            raise Unsupported(f"messages[{at}].name", "This model's provider does not support names of messages.")
        changes["name"] = None
    if not preset.text_parts and isinstance(message.content, list):
        parts = [part.text for part in message.content if isinstance(part, TextPart)]
        if len(parts) == len(message.content):
            changes["content"] = "\n".join(parts)
    if isinstance(message, AssistantMessage):
        changes |= _of_assistant(message, at, preset)
    if isinstance(message, ToolMessage) and preset.short_call_ids:
        changes["tool_call_id"] = _short(message.tool_call_id)
    if isinstance(message, DeveloperMessage):  # OpenAI's newer name for the system's role
        return SystemMessage(content=changes.get("content", message.content), name=message.name)
    return msgspec.structs.replace(message, **changes) if changes else message


def _of_assistant(message: AssistantMessage, at: int, preset: Preset) -> dict[str, Any]:
    """What earlier answers, of OpenAI's own models perhaps, hold that this server would trip over."""
    changes: dict[str, Any] = {}
    if message.function_call is not None or message.audio is not None:
        param = f"messages[{at}].{'audio' if message.audio is not None else 'function_call'}"
        raise Unsupported(param, "This model's provider does not support this in a conversation.")
    if any(isinstance(call, CustomCall) for call in message.tool_calls or ()):
        raise Unsupported(f"messages[{at}].tool_calls", "This model's provider supports calls of functions only.")
    if message.refusal is not None:
        changes["refusal"] = None
        if message.content is None and not message.tool_calls:
            changes["content"] = message.refusal
    if message.reasoning_content is not None and not preset.takes_reasoning:
        changes["reasoning_content"] = None
    if message.tool_calls and preset.short_call_ids:
        changes["tool_calls"] = [msgspec.structs.replace(call, id=_short(call.id)) for call in message.tool_calls]
    return changes


def _short(call_id: str) -> str:
    """The same nine characters for the same id, so that a call and its result still belong together."""
    return call_id if _CALL_ID.match(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:9]


# Answers


def read(data: bytes, decode: Callable[[bytes], A], preset: Preset) -> A:
    """``decode`` reads OpenAI's form. Raises what it raises."""
    try:
        answer = decode(data)
    except BadAnswer:
        plain = _without_parts(data) if preset.thinking_parts else None
        if plain is None:
            raise
        answer = decode(plain)
    if preset.reasoning_apart and answer.usage is not None:
        _count_reasoning(answer.usage)
    return answer


def _count_reasoning(usage: ReportedUsage) -> None:
    """OpenAI counts reasoning among the completion's tokens. A total that only adds up otherwise tells who doesn't."""
    details = usage.completion_tokens_details
    reasoning = details.reasoning_tokens if details is not None else None
    counted = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    if isinstance(reasoning, int) and reasoning > 0 and usage.total_tokens == counted + reasoning:
        usage.completion_tokens = (usage.completion_tokens or 0) + reasoning


def _without_parts(data: bytes) -> bytes | None:
    """The answer with lists of texts and thoughts as ``content`` and ``reasoning_content``; None if there are none."""
    try:
        answer = msgspec.json.decode(data)
        found = False
        for choice in answer["choices"]:
            part = choice.get("message") or choice.get("delta") or {}
            if isinstance(part.get("content"), list):
                found = True
                thoughts = [piece for each in part["content"] for piece in each.get("thinking") or ()]
                texts = [each for each in part["content"] if each.get("type") == "text"]
                part["content"] = "".join(text["text"] for text in texts) if texts else None
                if thoughts:
                    part["reasoning_content"] = "".join(thought["text"] for thought in thoughts)
        return msgspec.json.encode(answer) if found else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return None
