"""What a chat request is made of: messages, tools and formats as OpenAI documents them, to the last field.

A field that isn't here is refused by name, so nothing in a body can reach the upstream's address, credentials or
headers. Addresses in content (``image_url`` and its kin) are text to us: the upstream fetches them, never HelixFlow.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta


class Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Only the fields named, and nothing that was absent is sent on."""


# A JSON object of the caller's own making, such as a schema. Left unread by the typed decode, so that a hostile one
# costs nothing; `parse_chat_request` bounds it, reads it and puts our own encoding in its place.
FreeForm = msgspec.Raw
ABSENT: Final = msgspec.Raw(b"")

DATA_URL_HEAD: Final = 300  # characters in which all that stands before the data of a data: URL has to be
NO_NUL: Final = r"^[^\x00]*\Z"  # PostgreSQL refuses it, so what may be stored holds none
Label = Annotated[str, Meta(max_length=512, pattern=NO_NUL)]
ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]


# Content


class CacheBreakpoint(Strict):
    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class TextPart(Strict, tag_field="type", tag="text"):
    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class RefusalPart(Strict, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Strict, tag_field="type", tag="image_url"):
    image_url: ImageUrl
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class InputAudio(Strict):
    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Strict, tag_field="type", tag="input_audio"):
    input_audio: InputAudio
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class FileReference(Strict):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Strict, tag_field="type", tag="file"):
    file: FileReference
    prompt_cache_breakpoint: CacheBreakpoint | None = None


TextContent = str | Annotated[list[TextPart], Meta(min_length=1)]
UserContent = str | Annotated[list[TextPart | ImagePart | AudioPart | FilePart], Meta(min_length=1)]
AssistantContent = str | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)]


# Messages


class CalledFunction(Strict):
    """As OpenAI's clients write it down: with what they made of the arguments, which is theirs alone."""

    name: str
    arguments: str
    parsed_arguments: msgspec.Raw = ABSENT

    def __post_init__(self) -> None:
        self.parsed_arguments = ABSENT


class FunctionCall(Strict, tag_field="type", tag="function"):
    id: str
    function: CalledFunction
    index: int | None = None

    def __post_init__(self) -> None:
        self.index = None  # of a stream that was put together


class CustomInput(Strict):
    name: str
    input: str


class CustomCall(Strict, tag_field="type", tag="custom"):
    id: str
    custom: CustomInput


class AudioReference(Strict):
    """An answer's audio; of all it holds, only its id is sent back."""

    id: str
    data: str | None = None
    expires_at: int | None = None
    transcript: str | None = None

    def __post_init__(self) -> None:
        self.data = self.expires_at = self.transcript = None


class SystemMessage(Strict, tag_field="role", tag="system"):
    content: TextContent
    name: Label | None = None


class DeveloperMessage(Strict, tag_field="role", tag="developer"):
    content: TextContent
    name: Label | None = None


class UserMessage(Strict, tag_field="role", tag="user"):
    content: UserContent
    name: Label | None = None


class AssistantMessage(Strict, tag_field="role", tag="assistant"):
    """Callers put our answers back into the conversation as they got them: each field of an answer fits in here."""

    content: AssistantContent | None = None
    name: Label | None = None
    refusal: str | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    function_call: CalledFunction | None = None
    audio: AudioReference | None = None
    reasoning_content: str | None = None
    annotations: msgspec.Raw = ABSENT
    parsed: msgspec.Raw = ABSENT

    def __post_init__(self) -> None:
        self.annotations = self.parsed = ABSENT  # of an answer only: no upstream takes them
        if self.content is None and not (self.tool_calls or self.function_call or self.audio or self.refusal):
            raise ValueError("content is required unless tool_calls or function_call is given")


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: TextContent
    tool_call_id: str
    name: Label | None = None


class FunctionMessage(Strict, tag_field="role", tag="function"):
    name: Label
    content: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


# Tools


class FunctionDefinition(Strict):
    name: ToolName
    description: str | None = None
    parameters: FreeForm = ABSENT
    strict: bool | None = None


class LegacyFunction(Strict):
    name: ToolName
    description: str | None = None
    parameters: FreeForm = ABSENT


class FunctionTool(Strict, tag_field="type", tag="function"):
    function: FunctionDefinition


class TextFormat(Strict, tag_field="type", tag="text"):
    pass


class Grammar(Strict):
    definition: str
    syntax: Literal["lark", "regex"]


class GrammarFormat(Strict, tag_field="type", tag="grammar"):
    grammar: Grammar


class CustomDefinition(Strict):
    name: ToolName
    description: str | None = None
    format: TextFormat | GrammarFormat | None = None


class CustomTool(Strict, tag_field="type", tag="custom"):
    custom: CustomDefinition


class Named(Strict):
    name: str


class ChosenFunction(Strict, tag_field="type", tag="function"):
    function: Named


class ChosenCustom(Strict, tag_field="type", tag="custom"):
    custom: Named


class AllowedTools(Strict):
    mode: Literal["auto", "required"]
    tools: Annotated[list[FreeForm], Meta(max_length=128)]


class ChosenAllowed(Strict, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


Tool = FunctionTool | CustomTool
ToolChoice = Literal["none", "auto", "required"] | ChosenFunction | ChosenCustom | ChosenAllowed


# Formats and options


class JsonObjectFormat(Strict, tag_field="type", tag="json_object"):
    pass


class JsonSchema(Strict):
    name: ToolName
    description: str | None = None
    schema: FreeForm = ABSENT
    strict: bool | None = None


class JsonSchemaFormat(Strict, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class VoiceReference(Strict):
    id: str


class AudioOptions(Strict):
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]
    voice: str | VoiceReference


class Prediction(Strict, tag_field="type", tag="content"):
    content: TextContent


class ModerationMode(Strict):
    mode: Literal["score", "block"]


class ModerationPolicy(Strict):
    input: ModerationMode | None = None
    output: ModerationMode | None = None


class Moderation(Strict):
    model: str
    policy: ModerationPolicy | None = None


class PromptCacheOptions(Strict):
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class ApproximateLocation(Strict):
    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class UserLocation(Strict, tag_field="type", tag="approximate"):
    approximate: ApproximateLocation


class WebSearchOptions(Strict):
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: UserLocation | None = None
