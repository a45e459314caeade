"""A chat request as Anthropic's Messages API has it.

What can't be said there and would change the answer is refused (``Unsupported``), so that another deployment of the
model may be asked. Hints are left out: penalties, seed, verbosity, prediction, store, metadata, service_tier, cache
keys, the detail of images, names of participants.
"""

import re
from typing import Any, Final

import msgspec

from inference.parts import (
    ABSENT,
    ChosenAllowed,
    ChosenCustom,
    ChosenFunction,
    FreeForm,
    FunctionDefinition,
    FunctionTool,
    JsonObjectFormat,
    JsonSchema,
    JsonSchemaFormat,
    LegacyFunction,
    Named,
)
from inference.providers.adapter import Unsupported
from inference.providers.anthropic_blocks import (
    Format,
    MessagesRequest,
    Metadata,
    OutputConfig,
    Text,
    Thinking,
    Tool,
    ToolChoice,
)
from inference.providers.anthropic_schema import OpenSchemaError, closed
from inference.providers.anthropic_turns import Conversation
from inference.schemas import DEFAULT_MAX_TOKENS, ChatRequest

MAX_USER_ID: Final = 256
LEAST_BUDGET: Final = 1024
ONLY_JSON: Final = "Answer with one JSON object and nothing else: no code fence, no words around it."
ONLY_CALLS: Final = "Answer with a call of a tool, not with words."

Generation = tuple[int, int]

# What changed between generations of the models. Other makers' models behind this protocol follow the older ways.
_NEWEST: Final[Generation] = (99, 0)
_OTHER_MAKERS: Final[Generation] = (4, 1)
_THINKS: Final[Generation] = (3, 7)
_TAKES_SCHEMAS: Final[Generation] = (4, 5)
_THINKS_BY_EFFORT: Final[Generation] = (4, 6)  # before, a budget of tokens; no longer any prefilled answers either
_SAMPLES_ITS_OWN_WAY: Final[Generation] = (4, 7)  # temperature and top_p are errors
_ALWAYS_THINKS: Final[Generation] = (5, 1)  # so thinking can't be disabled, nor the call of a tool forced
_SAMPLING_REMOVED: Final = "2026-10-21"  # the version of the API that takes neither from anybody

_NAME: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_AHEAD: Final = ("claude-fable", "claude-mythos")  # these did so from their first
_BUDGETS: Final = {"low": 2048, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
_LEAST_EFFORTS: Final = ("none", "minimal")  # of OpenAI's; Anthropic's least is low
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')

_encode: Final = msgspec.json.Encoder().encode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def generation(model: str) -> Generation:
    """Of ``claude-sonnet-4-5-20250929``: 4 and 5. Unnumbered ones are previews, and newer than all we know."""
    if (found := _NAME.search(model)) is not None:
        number = int(found[1]), int(found[2] or 0)
        return max(number, _ALWAYS_THINKS) if found[0].startswith(_AHEAD) else number
    return _NEWEST if "claude" in model else _OTHER_MAKERS


def translate(request: ChatRequest, *, model: str, stream: bool, version: str) -> MessagesRequest:
    """``version`` is of the API. Raises Unsupported."""
    _refuse(request)
    age = generation(model)
    said = Conversation(request.messages)
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    wire = MessagesRequest(
        model=model,
        # 0 would only warm Anthropic's cache, and is refused for streams.
        max_tokens=max(1, DEFAULT_MAX_TOKENS if limit is None else limit),
        messages=said.turns,
        stream=stream or None,
        stop_sequences=_stop(request.stop),
        metadata=_metadata(request.safety_identifier or request.user),
    )
    _end_with_user(wire, age)
    _add_tools(wire, request, said, age)
    _add_format(wire, request, said, age)
    _add_thinking(wire, request, said, age)
    _add_sampling(wire, request, samples=age < _SAMPLES_ITS_OWN_WAY and version < _SAMPLING_REMOVED)
    wire.system = said.system or None
    return wire


def _refuse(request: ChatRequest) -> None:
    if request.n is not None and request.n > 1:
        raise Unsupported("n", "This model gives one choice: n must be 1.")
    if request.logprobs:
        raise Unsupported("logprobs", "This model gives no logprobs.")
    if request.logit_bias:
        raise Unsupported("logit_bias", "This model takes no logit_bias.")
    if request.audio is not None or "audio" in (request.modalities or ()):
        param = "audio" if request.audio is not None else "modalities"
        raise Unsupported(param, "This model answers in text only.")
    if request.web_search_options is not None:
        raise Unsupported("web_search_options", "This model can't search the web from here.")
    if request.moderation is not None:
        raise Unsupported("moderation", "This model's provider does no moderation of that kind.")


def _stop(stop: str | list[str] | None) -> list[str] | None:
    sequences = [stop] if isinstance(stop, str) else stop or []
    for sequence in sequences:
        if sequence and not sequence.strip():
            raise Unsupported("stop", "This model can't stop at white space alone.")
    return [sequence for sequence in sequences if sequence] or None


def _metadata(user: str | None) -> Metadata | None:
    return Metadata(user) if user and len(user) <= MAX_USER_ID else None


def _end_with_user(wire: MessagesRequest, age: Generation) -> None:
    """An assistant's message at the end is the beginning of the answer, where a model takes that at all."""
    last = wire.messages[-1]
    if last.role == "user":
        return
    if age >= _THINKS_BY_EFFORT:
        raise Unsupported("messages", "The last message must be the user's or a tool's for this model.")
    if isinstance(text := last.content[-1], Text):
        text.text = text.text.rstrip()


# Tools


def _add_tools(wire: MessagesRequest, request: ChatRequest, said: Conversation, age: Generation) -> None:
    wire.tools = _tools(request, strictly=age >= _TAKES_SCHEMAS)
    if wire.tools is None:
        if names := said.tools_called:  # calls in the conversation want their tools defined
            wire.tools = [Tool(name, _NO_PARAMETERS) for name in names]
            wire.tool_choice = ToolChoice("none")
        return
    choice = _tool_choice(wire, request)
    if not wire.tools:  # none of them is allowed
        wire.tools = None
        return
    if age >= _ALWAYS_THINKS and choice is not None:
        choice = _asked_for_in_words(choice, wire, said)
    wire.tool_choice = choice
    if (request.parallel_tool_calls is False or request.functions) and (choice is None or choice.type != "none"):
        wire.tool_choice = choice = choice or ToolChoice("auto")
        choice.disable_parallel_tool_use = True


def _tools(request: ChatRequest, *, strictly: bool) -> list[Tool] | None:
    tools = []
    for index, tool in enumerate(request.tools or ()):
        if not isinstance(tool, FunctionTool):
            raise Unsupported(f"tools[{index}]", "Custom tools are not supported by this model.")
        tools.append(_tool(tool.function, strictly=strictly and tool.function.strict is True))
    tools += [_tool(function, strictly=False) for function in request.functions or ()]
    return tools or None


def _tool(function: FunctionDefinition | LegacyFunction, *, strictly: bool) -> Tool:
    tool = Tool(function.name, _NO_PARAMETERS, function.description)
    if function.parameters is not ABSENT:
        schema = _decode_object(function.parameters)
        schema.setdefault("type", "object")
        if strictly:
            try:
                schema = closed(schema)
                tool.strict = True
            except OpenSchemaError:
                pass  # the model gets the schema all the same, and nearly always keeps to it
        tool.input_schema = msgspec.Raw(_encode(schema))
    return tool


def _tool_choice(wire: MessagesRequest, request: ChatRequest) -> ToolChoice | None:
    match request.tool_choice if request.tool_choice is not None else request.function_call:
        case "none":
            return ToolChoice("none")
        case "auto":
            return ToolChoice("auto")
        case "required":
            return ToolChoice("any")
        case ChosenFunction(function=Named(name=name)) | Named(name=name):
            if all(tool.name != name for tool in wire.tools or ()):
                raise Unsupported("tool_choice", "The chosen function must be one of those offered.")
            return ToolChoice("tool", name)
        case ChosenCustom():
            raise Unsupported("tool_choice", "Custom tools are not supported by this model.")
        case ChosenAllowed(allowed_tools=allowed):
            names = {_allowed_name(tool, index) for index, tool in enumerate(allowed.tools)}
            wire.tools = [tool for tool in wire.tools or () if tool.name in names]
            return ToolChoice("any" if allowed.mode == "required" else "auto")
    return None


def _asked_for_in_words(choice: ToolChoice, wire: MessagesRequest, said: Conversation) -> ToolChoice:
    """Instead of forced."""
    if choice.type == "tool":
        wire.tools = [tool for tool in wire.tools or () if tool.name == choice.name]
    if choice.type in {"tool", "any"}:
        said.system.append(Text(ONLY_CALLS))
        return ToolChoice("auto")
    return choice


class _Allowed(msgspec.Struct):
    function: Named


def _allowed_name(tool: FreeForm, index: int) -> str:
    try:
        return msgspec.json.decode(tool, type=_Allowed).function.name
    except msgspec.DecodeError:
        param = f"tool_choice.allowed_tools.tools[{index}]"
        raise Unsupported(param, "Only functions can be allowed for this model.") from None


# Format, thinking, sampling


def _add_format(wire: MessagesRequest, request: ChatRequest, said: Conversation, age: Generation) -> None:
    form = request.response_format
    if isinstance(form, JsonSchemaFormat) and form.json_schema.schema is not ABSENT:
        if age < _TAKES_SCHEMAS:
            raise Unsupported("response_format", "This model can't be held to a schema.")
        wire.output_config = OutputConfig(format=_format(form.json_schema))
    elif isinstance(form, JsonObjectFormat | JsonSchemaFormat):
        said.system.append(Text(ONLY_JSON))  # there is no such mode, but these models do as they are told


def _format(definition: JsonSchema) -> Format:
    try:
        schema = closed(_decode_object(definition.schema))
    except OpenSchemaError:
        message = "For this model every object of a schema must name its properties."
        raise Unsupported("response_format.json_schema.schema", message) from None
    if definition.description:
        schema.setdefault("description", definition.description)
    return Format(msgspec.Raw(_encode(schema)))


def _add_thinking(wire: MessagesRequest, request: ChatRequest, said: Conversation, age: Generation) -> None:
    effort = request.reasoning_effort
    forced = wire.tool_choice is not None and wire.tool_choice.type in {"any", "tool"}  # not to be had with thinking
    if effort is None or age < _THINKS:
        return
    if age < _THINKS_BY_EFFORT:
        # Within a loop of tools, thinking must go on from what was thought, which callers can't send back.
        if effort in _BUDGETS and not forced and not said.in_tool_loop:
            budget = min(_BUDGETS[effort], wire.max_tokens * 3 // 4)
            wire.thinking = Thinking("enabled", budget) if budget >= LEAST_BUDGET else None
    elif effort == "none" and age < _ALWAYS_THINKS:
        wire.thinking = Thinking("disabled")
    else:
        wire.output_config = wire.output_config or OutputConfig()
        wire.output_config.effort = _level(effort, age)
        wire.thinking = None if forced else Thinking("adaptive")


def _level(effort: str, age: Generation) -> str:
    if effort in _LEAST_EFFORTS:
        return "low"
    return "high" if effort == "xhigh" and age == _THINKS_BY_EFFORT else effort


def _add_sampling(wire: MessagesRequest, request: ChatRequest, *, samples: bool) -> None:
    """Most models take one of the two at most, and none while they think. 1 is everybody's default."""
    if not samples or wire.thinking is not None:
        return
    if request.temperature is not None and request.temperature < 1:
        wire.temperature = request.temperature
    elif request.top_p is not None and request.top_p < 1:
        wire.top_p = request.top_p
