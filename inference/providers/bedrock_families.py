"""What the families of models behind Converse don't have in common: sampling and reasoning.

A family is told by the model's id. The ARN of a profile of one's own hides it: then nothing of this kind is said.
"""

from typing import Any, Final

from inference.parts import ChosenFunction, ToolMessage
from inference.providers.adapter import Unsupported
from inference.providers.anthropic_requests import generation
from inference.schemas import ChatRequest

Json = dict[str, Any]

LEAST_BUDGET: Final = 1024
_BUDGETS: Final = {"low": 2048, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
# Generations of Claude from which on …
_THINKS: Final = (3, 7)  # … it can
_THINKS_BY_EFFORT: Final = (4, 6)  # … not by a budget of tokens; and it begins its answers itself
_SAMPLES_ITS_OWN_WAY: Final = (4, 7)  # … temperature and top_p are errors


def options(request: ChatRequest, *, upstream_model: str, max_tokens: int) -> tuple[Json, Json]:
    """Temperature and topP for inferenceConfig, and additionalModelRequestFields."""
    if "claude" in upstream_model:
        return _claude(request, upstream_model, max_tokens)
    sampling: Json = {}
    if request.temperature is not None:
        sampling["temperature"] = min(request.temperature, 1.0)  # its scale ends where OpenAI's goes on to 2
    if request.top_p is not None:
        sampling["topP"] = request.top_p
    return sampling, _reasoning(request.reasoning_effort, upstream_model)


def caches(upstream_model: str) -> bool:
    """Whether it takes a cachePoint, which others refuse."""
    return "anthropic.claude" in upstream_model or "amazon.nova" in upstream_model


def finish_turns(turns: list[Json], *, upstream_model: str) -> None:
    """An assistant's words at the end are the beginning of the answer; Claude takes none, or none that end in blanks.

    Raises Unsupported.
    """
    last = turns[-1]
    if last["role"] == "user" or "claude" not in upstream_model:
        return
    if generation(upstream_model) >= _THINKS_BY_EFFORT:
        raise Unsupported("messages", "This model's provider does not support messages that end with the assistant's.")
    if "text" in last["content"][-1]:
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()


def _reasoning(effort: str | None, upstream_model: str) -> Json:
    """For most families a hint of no meaning."""
    least = "low" if effort == "minimal" else effort
    if least is None:
        return {}
    if "gpt-oss" in upstream_model or "kimi" in upstream_model:
        return {"reasoning_effort": least}
    if "openai." in upstream_model:
        return {"reasoning": {"effort": least}}
    if "nova-2" in upstream_model and least != "none":
        most = "high" if least in {"xhigh", "max"} else least
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": most}}
    return {}


def _claude(request: ChatRequest, upstream_model: str, max_tokens: int) -> tuple[Json, Json]:
    """It takes one of temperature and top_p at most, and none while it thinks. 1 is everybody's default."""
    age = generation(upstream_model)
    fields = _thinking(request, age, max_tokens)
    if age >= _SAMPLES_ITS_OWN_WAY or fields.get("thinking", {}).get("type") in {"enabled", "adaptive"}:
        return {}, fields
    if request.temperature is not None and request.temperature < 1:
        return {"temperature": request.temperature}, fields
    if request.top_p is not None and request.top_p < 1:
        return {"topP": request.top_p}, fields
    return {}, fields


def _thinking(request: ChatRequest, age: tuple[int, int], max_tokens: int) -> Json:
    effort = request.reasoning_effort
    forced = request.tool_choice == "required" or isinstance(request.tool_choice, ChosenFunction)
    if effort is None or age < _THINKS:
        return {}
    if age < _THINKS_BY_EFFORT:
        # Amid calls of tools it must go on from what it thought before, which callers can't send back.
        if effort not in _BUDGETS or forced or isinstance(request.messages[-1], ToolMessage):
            return {}
        budget = min(_BUDGETS[effort], max_tokens * 3 // 4)
        return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= LEAST_BUDGET else {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    level = {"minimal": "low", "xhigh": "high" if age == _THINKS_BY_EFFORT else "xhigh"}.get(effort, effort)
    fields: Json = {"output_config": {"effort": level}}
    return fields if forced else fields | {"thinking": {"type": "adaptive"}}
