"""A chat request in the words of ``generateContent``, which Gemini and Vertex AI share.

Reference: https://ai.google.dev/api/generate-content. What has no counterpart there is refused by its name, so that
another deployment of the model can be asked; hints (``user``, ``store``, ``verbosity`` and their like) are left out.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from inference.parts import ABSENT, ChosenAllowed, ChosenFunction, CustomTool, FunctionTool, JsonSchemaFormat
from inference.providers.adapter import Unsupported
from inference.providers.gemini_contents import Conversation
from inference.schemas import DEFAULT_MAX_TOKENS, ChatRequest

_encode: Final = msgspec.json.Encoder().encode

_WITHOUT_COUNTERPART: Final = (
    "logit_bias",
    "functions",
    "audio",
    "moderation",
    "web_search_options",
)
MAX_CANDIDATES: Final = 8
# Tokens to think with, for the models that count them; Google's own table for its OpenAI-compatible address.
_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_LEVELS: Final = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_LEAST_BUDGET_OF_PRO: Final = 128  # these models can't stop thinking
_OLDER: Final = re.compile(r"gemini-[12]\b")
_UNTHINKING: Final = re.compile(r"gemini-(?:1|2\.0)\b|gemma|learnlm")


def encode(request: ChatRequest, *, model: str, mark: str) -> bytes:
    """``mark``: the account's (``call_ids``). Raises Unsupported."""
    _refuse_what_has_no_counterpart(request)
    conversation = Conversation(mark=mark, signed=not _OLDER.search(model))
    for index, message in enumerate(request.messages):
        conversation.add(message, f"messages[{index}]")
    body: dict[str, Any] = {"contents": conversation.contents()}
    if instruction := conversation.instruction():
        body["systemInstruction"] = instruction
    if request.tools:
        body["tools"], body["toolConfig"] = _tools(request, request.tools)
    body["generationConfig"] = _generation(request, model)
    return _encode(body)


def _refuse_what_has_no_counterpart(request: ChatRequest) -> None:
    for name in _WITHOUT_COUNTERPART:
        if getattr(request, name):
            raise Unsupported(name, f"{name} is not supported for this model.")
    if "audio" in (request.modalities or ()):
        raise Unsupported("modalities", "Answers as audio are not supported for this model.")
    if request.n is not None and request.n > MAX_CANDIDATES:
        raise Unsupported("n", f"This model gives at most {MAX_CANDIDATES} choices.")


# Tools


def _tools(request: ChatRequest, offered: Iterable[FunctionTool | CustomTool]) -> tuple[list[Any], dict[str, Any]]:
    mode, only = _calling(request)
    declarations = []
    for index, tool in enumerate(offered):
        if not isinstance(tool, FunctionTool):
            raise Unsupported(f"tools[{index}]", "Custom tools are not supported for this model.")
        function = tool.function
        declaration: dict[str, Any] = {"name": function.name}
        if function.description:
            declaration["description"] = function.description
        if function.parameters is not ABSENT:
            declaration["parametersJsonSchema"] = function.parameters
        declarations.append(declaration)
    config: dict[str, Any] = {"mode": mode}
    if only is not None and mode == "ANY":
        config["allowedFunctionNames"] = only
    elif only is not None:  # names go with ANY alone: those not allowed are not offered
        declarations = [each for each in declarations if each["name"] in only]
    return [{"functionDeclarations": declarations}], {"functionCallingConfig": config}


def _calling(request: ChatRequest) -> tuple[str, list[str] | None]:
    """The mode, and the names that may be called where not all may."""
    match request.tool_choice:
        case None | "auto":
            return "AUTO", None
        case "none":
            return "NONE", None
        case "required":
            return "ANY", None
        case ChosenFunction(function=chosen):
            return "ANY", [chosen.name]
        case ChosenAllowed(allowed_tools=allowed):
            return ("ANY" if allowed.mode == "required" else "AUTO"), _allowed(allowed.tools)
    raise Unsupported("tool_choice", "Custom tools are not supported for this model.")


class _Named(msgspec.Struct):
    name: str


class _AllowedFunction(msgspec.Struct):
    function: _Named


def _allowed(tools: list[msgspec.Raw]) -> list[str]:
    try:
        return [msgspec.json.decode(tool, type=_AllowedFunction).function.name for tool in tools]
    except msgspec.DecodeError:
        raise Unsupported("tool_choice.allowed_tools.tools", "Name each allowed tool as a function.") from None


# Generation


def _generation(request: ChatRequest, model: str) -> dict[str, Any]:
    limit = request.max_completion_tokens
    if limit is None:
        limit = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    wanted = {
        "maxOutputTokens": limit,
        "temperature": request.temperature,
        "topP": request.top_p,
        "candidateCount": request.n if request.n != 1 else None,
        "stopSequences": [each for each in stop if each] if stop else None,
        "seed": request.seed if request.seed is None else _seed(request.seed),
        # Models that know no penalties refuse even those of 0.
        "presencePenalty": request.presence_penalty or None,
        "frequencyPenalty": request.frequency_penalty or None,
        "responseLogprobs": request.logprobs or None,
        "logprobs": request.top_logprobs or None,
        "thinkingConfig": _thinking(request.reasoning_effort, model),
    }
    return {name: value for name, value in wanted.items() if value not in (None, [])} | _format(request)


def _seed(seed: int) -> int:
    """Theirs has 32 bits. The same seed stays the same."""
    return seed if -(2**31) <= seed < 2**31 else seed % 2**31


def _format(request: ChatRequest) -> dict[str, Any]:
    asked = request.response_format
    if asked is None or asked.__struct_config__.tag == "text":
        return {}
    wanted: dict[str, Any] = {"responseMimeType": "application/json"}
    if isinstance(asked, JsonSchemaFormat) and asked.json_schema.schema is not ABSENT:
        wanted["responseJsonSchema"] = asked.json_schema.schema
    return wanted


def _thinking(effort: str | None, model: str) -> dict[str, Any] | None:
    """Models up to 2.5 count tokens, later ones have levels; one that can't think refuses to be asked."""
    if effort is None or _UNTHINKING.search(model):
        return None
    shown = {"includeThoughts": True} if effort != "none" else {}
    if _OLDER.search(model):
        budget = _BUDGETS.get(effort, _BUDGETS["high"])
        least = _LEAST_BUDGET_OF_PRO if "pro" in model else 0
        return {"thinkingBudget": max(budget, least)} | shown
    level = _LEVELS.get(effort, "HIGH")
    return {"thinkingLevel": "LOW" if level == "MINIMAL" and "pro" in model else level} | shown
