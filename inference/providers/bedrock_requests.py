"""A chat request in the words of AWS Bedrock's Converse API, which are one for all of its models.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import hashlib
import re
from typing import Any, Final

import msgspec

from inference.parts import (
    ABSENT,
    DATA_URL_HEAD,
    AssistantMessage,
    AudioPart,
    CacheBreakpoint,
    ChosenFunction,
    CustomCall,
    DeveloperMessage,
    FilePart,
    FunctionCall,
    FunctionMessage,
    FunctionTool,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    Named,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from inference.providers import bedrock_families
from inference.providers.adapter import Unsupported
from inference.providers.call_arguments import Arguments
from inference.schemas import DEFAULT_MAX_TOKENS, ChatRequest

Json = dict[str, Any]
Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart

ONLY_JSON: Final = "Write nothing but one JSON object: no text around it, no code fence."

_IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_DATA_URL: Final = re.compile(r"data:([\w.+-]++/[\w.+-]++)(?:;[\w-]++=[^;,]*+)*+;base64,", re.IGNORECASE)
_TOOL_USE_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}\Z")


def encode(request: ChatRequest, *, upstream_model: str) -> bytes:
    """Raises Unsupported. What only tunes cost or storage (seed, service_tier, metadata, …) is left out."""
    _refuse_unsupported(request)
    tools = _tool_config(request)
    conversation = _Conversation(with_tools=tools is not None, caches=bedrock_families.caches(upstream_model))
    for index, message in enumerate(request.messages):
        conversation.add(message, f"messages[{index}]")
    if isinstance(request.response_format, JsonObjectFormat):
        conversation.system.append({"text": ONLY_JSON})
    turns = conversation.turns()
    bedrock_families.finish_turns(turns, upstream_model=upstream_model)
    config = _inference_config(request)
    sampling, fields = bedrock_families.options(request, upstream_model=upstream_model, max_tokens=config["maxTokens"])
    body: Json = {"messages": turns, "inferenceConfig": config | sampling}
    optional = {
        "system": conversation.system,
        "toolConfig": tools,
        "outputConfig": _output_config(request),
        "additionalModelRequestFields": fields,
    }
    return msgspec.json.encode(body | {name: value for name, value in optional.items() if value})


def _refuse_unsupported(request: ChatRequest) -> None:
    asked = {
        "n": (request.n or 1) > 1,
        "logprobs": request.logprobs,
        "logit_bias": request.logit_bias,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "modalities": "audio" in (request.modalities or ()),
        "audio": request.audio,
        "functions": request.functions,
        "function_call": isinstance(request.function_call, Named),
        "moderation": request.moderation,
        "web_search_options": request.web_search_options,
    }
    for param, value in asked.items():
        if value:
            raise _unsupported(param)


def _unsupported(param: str, what: str = "") -> Unsupported:
    return Unsupported(param, f"This model's provider does not support {what or param}.")


# Options


def _inference_config(request: ChatRequest) -> Json:
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    limit = getattr(request, name)
    if limit == 0:
        raise _unsupported(name, "answers of no tokens")
    config: Json = {"maxTokens": DEFAULT_MAX_TOKENS if limit is None else limit}
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if any(stop):
        config["stopSequences"] = [sequence for sequence in stop if sequence]
    return config


def _output_config(request: ChatRequest) -> Json | None:
    wanted = request.response_format
    if not isinstance(wanted, JsonSchemaFormat):
        return None
    definition = wanted.json_schema
    if definition.schema is ABSENT:
        raise _unsupported("response_format.json_schema", "JSON without a schema")
    schema = {"schema": bytes(definition.schema).decode(), "name": definition.name}
    if definition.description:
        schema["description"] = definition.description
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}


def _tool_config(request: ChatRequest) -> Json | None:
    """None where no tool may be called: Converse has no word for ``none``."""
    choice = request.tool_choice
    if not request.tools or choice == "none":
        return None
    specs = []
    for index, tool in enumerate(request.tools):
        if not isinstance(tool, FunctionTool):
            raise _unsupported(f"tools[{index}].type", "custom tools")
        function = tool.function
        schema = {} if function.parameters is ABSENT else msgspec.json.decode(function.parameters, type=Json)
        spec: Json = {"name": function.name, "inputSchema": {"json": {"type": "object"} | schema}}
        if function.description:
            spec["description"] = function.description
        if function.strict:
            spec["strict"] = True
        specs.append({"toolSpec": spec})
    config: Json = {"tools": specs}
    if choice == "required":
        config["toolChoice"] = {"any": {}}
    elif isinstance(choice, ChosenFunction):
        config["toolChoice"] = {"tool": {"name": choice.function.name}}
    elif choice not in (None, "auto"):  # structs have no hash
        raise _unsupported("tool_choice")
    return config


# Messages


class _Conversation:
    """Turns that alternate, as Converse wants them: what one side says in a row becomes one message.

    Without tools (``with_tools``) Converse refuses a history of tool calls, so that is told as text.
    """

    def __init__(self, *, with_tools: bool, caches: bool) -> None:
        self.system: list[Json] = []
        self._turns: list[Json] = []
        self._with_tools = with_tools
        self._caches = caches
        self._documents = 0
        self._arguments = Arguments()
        self._called: dict[str, str] = {}  # names of tools by the ids of their calls

    def turns(self) -> list[Json]:
        if not self._turns:  # instructions alone, which OpenAI's models answer
            self._say("user", self.system)
            self.system = []
        if not self._turns:
            raise _unsupported("messages", "an empty conversation")
        if self._turns[0]["role"] != "user":
            raise _unsupported("messages", "conversations that the assistant begins")
        return self._turns

    def add(self, message: Message, param: str) -> None:
        match message:
            case SystemMessage() | DeveloperMessage():
                self.system += self._content(message.content, param)
            case UserMessage():
                self._say("user", self._content(message.content, param))
            case AssistantMessage():
                self._say("assistant", self._assistant(message, param))
            case ToolMessage():
                self._say("user", self._result(message, param))
            case FunctionMessage():
                raise _unsupported(f"{param}.role", "functions (use tools)")

    def _say(self, role: str, blocks: list[Json]) -> None:
        if not blocks:
            return
        if self._turns and self._turns[-1]["role"] == role:
            self._turns[-1]["content"] += blocks
        else:
            self._turns.append({"role": role, "content": list(blocks)})

    def _assistant(self, message: AssistantMessage, param: str) -> list[Json]:
        """Its reasoning stays out: Converse takes it only with a signature, for which OpenAI's format has no place."""
        if message.function_call is not None:
            raise _unsupported(f"{param}.function_call", "functions (use tools)")
        if message.audio is not None:
            raise _unsupported(f"{param}.audio")
        blocks = self._content(message.content or message.refusal or "", param)
        for index, call in enumerate(message.tool_calls or ()):
            blocks.append(self._call(call, f"{param}.tool_calls[{index}]"))
        return blocks

    def _call(self, call: FunctionCall | CustomCall, param: str) -> Json:
        if not isinstance(call, FunctionCall):
            raise _unsupported(f"{param}.type", "custom tools")
        name = self._called[call.id] = call.function.name
        arguments = self._arguments.read(call.function.arguments, f"{param}.function.arguments")
        if not self._with_tools:
            return {"text": f"[Called the tool {name} with {msgspec.json.encode(arguments).decode()}]"}
        return {"toolUse": {"toolUseId": _tool_use_id(call.id), "name": name, "input": arguments}}

    def _result(self, message: ToolMessage, param: str) -> list[Json]:
        content = self._content(message.content, param)
        if not self._with_tools:
            text = "".join(block.get("text", "") for block in content)
            return [{"text": f"[Result of the tool {self._called.get(message.tool_call_id, 'called')}: {text}]"}]
        points = [block for block in content if "cachePoint" in block]
        said = [block for block in content if "cachePoint" not in block]
        return [{"toolResult": {"toolUseId": _tool_use_id(message.tool_call_id), "content": said}}, *points]

    def _content(self, content: str | list[Any], param: str) -> list[Json]:
        """Blank texts, which Converse refuses, are left out."""
        if isinstance(content, str):
            return [{"text": content}] if content.strip() else []
        blocks = []
        for index, part in enumerate(content):
            block = self._block(part, f"{param}.content[{index}]")
            if block is not None:
                blocks.append(block)
                breakpoint_: CacheBreakpoint | None = getattr(part, "prompt_cache_breakpoint", None)
                if breakpoint_ is not None and self._caches:
                    blocks.append({"cachePoint": {"type": "default"}})
        return blocks

    def _block(self, part: Part, param: str) -> Json | None:
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                return {"text": text} if text.strip() else None
            case ImagePart():
                kind, data = _data(part.image_url.url)
                if kind not in _IMAGES:
                    raise _unsupported(f"{param}.image_url.url", "images but data: URLs of PNG, JPEG, GIF or WebP")
                return {"image": {"format": _IMAGES[kind], "source": {"bytes": data}}}
            case AudioPart(input_audio=audio):
                return {"audio": {"format": audio.format, "source": {"bytes": audio.data}}}
        return self._document(part, param)

    def _document(self, part: FilePart, param: str) -> Json:
        """Their names are ours: a model may read a name as an instruction, and two must not be the same."""
        kind, data = _data(part.file.file_data or "")
        suffix = (part.file.filename or "").rpartition(".")[2].lower()
        format_ = _DOCUMENTS.get(kind) or (suffix if suffix in _DOCUMENTS.values() else None)
        if not data or format_ is None:
            raise _unsupported(f"{param}.file", "files other than documents in file_data")
        self._documents += 1
        name = f"Document {self._documents}"
        return {"document": {"format": format_, "name": name, "source": {"bytes": data}}}


def _data(url: str) -> tuple[str, str]:
    """The media type of a data: URL and its base64, which the provider checks. The type is empty for anything else."""
    found = _DATA_URL.match(url, 0, DATA_URL_HEAD)
    return (found[1].lower(), url[found.end() :]) if found else ("", url)


def _tool_use_id(call_id: str) -> str:
    """Ids that another provider made can be longer, or hold other characters, than Converse takes."""
    return call_id if _TOOL_USE_ID.match(call_id) else f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"
