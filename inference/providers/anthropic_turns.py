"""A conversation in OpenAI's messages, as Anthropic's system prompt and turns.

Anthropic has one system prompt, before everything; turns that alternate between user and assistant; and the results of
tools at the beginning of the user's turn that follows their calls.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Final

import msgspec

from inference.parts import (
    DATA_URL_HEAD,
    AssistantMessage,
    AudioPart,
    CacheBreakpoint,
    CalledFunction,
    CustomCall,
    DeveloperMessage,
    FilePart,
    FunctionMessage,
    ImagePart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from inference.providers import call_ids
from inference.providers.adapter import Unsupported
from inference.providers.anthropic_blocks import (
    Base64,
    Block,
    CacheControl,
    Document,
    Image,
    PlainText,
    Text,
    ToolResult,
    ToolUse,
    Turn,
    Url,
)
from inference.providers.call_arguments import Arguments

# Stands where Anthropic wants a user's turn and the conversation has none. It can't be empty.
NOTHING_SAID: Final = "(no message)"

_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.ASCII)
_encode: Final = msgspec.json.Encoder().encode

Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart


class Conversation:
    """``system`` and ``turns`` of these messages. ``in_tool_loop``: the last of them answer calls of tools.

    Raises Unsupported.
    """

    def __init__(self, messages: list[Message]) -> None:
        self.system: list[Text] = []
        self.turns: list[Turn] = []
        self._arguments = Arguments()
        self._functions_called = 0  # of the older kind, whose calls have no id
        for index, message in enumerate(messages):
            self._add(message, f"messages[{index}]")
        for turn in self.turns:
            turn.content.sort(key=lambda block: not isinstance(block, ToolResult))
        if not self.turns and self.system:
            self.turns, self.system = [Turn("user", list(self.system))], []
        if not self.turns or self.turns[0].role == "assistant":
            self.turns.insert(0, Turn("user", [Text(NOTHING_SAID)]))

    @property
    def in_tool_loop(self) -> bool:
        return isinstance(self.turns[-1].content[0], ToolResult)

    @property
    def tools_called(self) -> list[str]:
        """Their names, each once."""
        uses = (block.name for turn in self.turns for block in turn.content if isinstance(block, ToolUse))
        return list(dict.fromkeys(uses))

    def _add(self, message: Message, at: str) -> None:
        match message:
            case SystemMessage() | DeveloperMessage():
                self.system += _texts(message.content)
            case UserMessage():
                self._say("user", _blocks(message.content, f"{at}.content"))
            case AssistantMessage():
                self._say("assistant", self._assistant(message, at))
            case ToolMessage():
                self._say("user", [ToolResult(_id(message.tool_call_id), _texts(message.content))])
            case FunctionMessage():
                result = ToolResult(f"function_{self._functions_called}", _texts(message.content or ""))
                self._say("user", [result])

    def _say(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1].role == role:
            self.turns[-1].content += blocks
        else:
            self.turns.append(Turn("assistant" if role == "assistant" else "user", blocks))

    def _assistant(self, message: AssistantMessage, at: str) -> list[Block]:
        """Its reasoning is left out: Anthropic takes that only with a signature, for which OpenAI has no place."""
        if message.audio is not None:
            raise Unsupported(f"{at}.audio", "Audio is not supported by this model.")
        blocks = _blocks(message.content or message.refusal or "", f"{at}.content")
        for position, call in enumerate(message.tool_calls or ()):
            where = f"{at}.tool_calls[{position}]"
            if isinstance(call, CustomCall):
                raise Unsupported(where, "Custom tools are not supported by this model.")
            blocks.append(self._tool_use(_id(call.id), call.function, f"{where}.function"))
        if message.function_call is not None:
            self._functions_called += 1
            called = f"function_{self._functions_called}"
            blocks.append(self._tool_use(called, message.function_call, f"{at}.function_call"))
        return blocks

    def _tool_use(self, called: str, function: CalledFunction, at: str) -> ToolUse:
        arguments = self._arguments.read(function.arguments, f"{at}.arguments")
        return ToolUse(called, function.name, msgspec.Raw(_encode(arguments)))


def _id(said: str) -> str:
    """Other providers' ids of calls may hold characters that Anthropic's can't."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_ids.plain(said)) or "_"


def _texts(content: str | list[TextPart]) -> list[Text]:
    """Anthropic refuses blank ones."""
    if isinstance(content, str):
        return [Text(content)] if content.strip() else []
    return [Text(part.text, _cache(part.prompt_cache_breakpoint)) for part in content if part.text.strip()]


def _blocks(content: str | Sequence[Part], at: str) -> list[Block]:
    if isinstance(content, str):
        return list(_texts(content))
    found = (_block(part, f"{at}[{position}]") for position, part in enumerate(content))
    return [block for block in found if block is not None]


def _block(part: Part, at: str) -> Block | None:
    match part:
        case TextPart(text=text):
            return Text(text, _cache(part.prompt_cache_breakpoint)) if text.strip() else None
        case RefusalPart(refusal=text):
            return Text(text) if text.strip() else None
        case ImagePart():
            return _image(part, f"{at}.image_url.url")
        case FilePart():
            return _document(part, f"{at}.file")
    raise Unsupported(at, "Audio is not supported by this model.")


def _image(part: ImagePart, at: str) -> Image:
    url = part.image_url.url
    cache = _cache(part.prompt_cache_breakpoint)
    if url.startswith("https://"):
        return Image(Url(url), cache)
    media_type, data = _data_url(url, at)
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if media_type not in _IMAGES:
        raise Unsupported(at, "Images must be JPEG, PNG, GIF or WebP for this model.")
    return Image(Base64(media_type, data), cache)


def _document(part: FilePart, at: str) -> Document:
    if part.file.file_data is None:
        raise Unsupported(f"{at}.file_id", "Send the file itself, as file_data: this model has no stored files.")
    media_type, data = _data_url(part.file.file_data, f"{at}.file_data")
    cache = _cache(part.prompt_cache_breakpoint)
    title = part.file.filename or None
    if media_type == "application/pdf":
        return Document(Base64(media_type, data), title, cache)
    if media_type.startswith("text/"):
        try:
            text = b64decode(data).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Unsupported(f"{at}.file_data", "A text file must be base64 of UTF-8.") from None
        return Document(PlainText("text/plain", text), title, cache)
    raise Unsupported(f"{at}.file_data", "Files must be PDF or text for this model.")


def _data_url(url: str, at: str) -> tuple[str, str]:
    """The media type and the base64 of it. Anthropic checks that."""
    head = _DATA_URL.match(url, 0, DATA_URL_HEAD)
    if head is None:
        raise Unsupported(at, "This must be an https: address or base64 in a data: URL.")
    return head[1].lower(), url[head.end() :]


def _cache(mark: CacheBreakpoint | None) -> CacheControl | None:
    """Anthropic keeps a prefix for five minutes or an hour; the caller's times are longer than the first."""
    if mark is None:
        return None
    return CacheControl("1h" if mark.ttl else None)
