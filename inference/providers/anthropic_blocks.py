"""What a request to Anthropic's Messages API is made of. Only what was set is sent."""

from typing import Literal

import msgspec


class Part(msgspec.Struct, omit_defaults=True):
    """Base of all."""


class CacheControl(Part, tag_field="type", tag="ephemeral"):
    ttl: Literal["5m", "1h"] | None = None


class Base64(Part, tag_field="type", tag="base64"):
    media_type: str
    data: str


class PlainText(Part, tag_field="type", tag="text"):
    media_type: str
    data: str


class Url(Part, tag_field="type", tag="url"):
    url: str


class Text(Part, tag_field="type", tag="text"):
    text: str
    cache_control: CacheControl | None = None


class Image(Part, tag_field="type", tag="image"):
    source: Base64 | Url
    cache_control: CacheControl | None = None


class Document(Part, tag_field="type", tag="document"):
    source: Base64 | PlainText
    title: str | None = None
    cache_control: CacheControl | None = None


class ToolUse(Part, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class ToolResult(Part, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: list[Text] = msgspec.field(default_factory=list)


Block = Text | Image | Document | ToolUse | ToolResult


class Turn(Part):
    role: Literal["user", "assistant"]
    content: list[Block]


class Tool(Part):
    name: str
    input_schema: msgspec.Raw
    description: str | None = None
    strict: bool | None = None


class ToolChoice(Part):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Part):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = None


class Format(Part, tag_field="type", tag="json_schema"):
    schema: msgspec.Raw


class OutputConfig(Part):
    effort: str | None = None
    format: Format | None = None


class Metadata(Part):
    user_id: str


class MessagesRequest(Part, kw_only=True):
    """``model`` stands in the path instead, and ``anthropic_version`` in the body, where clouds host these models."""

    model: str | None = None
    anthropic_version: str | None = None
    max_tokens: int
    messages: list[Turn]
    system: list[Text] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
