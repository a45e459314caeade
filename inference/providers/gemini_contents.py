"""Messages as Gemini's contents: turns of ``user`` and ``model``, made of parts, beside one system instruction."""

import mimetypes
import re
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from inference.parts import (
    DATA_URL_HEAD,
    AssistantMessage,
    AudioPart,
    CustomCall,
    DeveloperMessage,
    FilePart,
    FunctionCall,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from inference.parts import ImagePart as Picture
from inference.providers import call_ids
from inference.providers.adapter import Unsupported
from inference.providers.call_arguments import Arguments
from inference.providers.call_ids import Carried

Part: TypeAlias = dict[str, Any]

# What Google documents for calls whose signature nobody has: those of other providers, or made up by the caller.
UNSIGNED: Final = "skip_thought_signature_validator"
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)
_PUBLIC_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9-]+(?:\.[a-z0-9-]+)+\Z")
_AUDIO: Final = {"wav": "audio/wav", "mp3": "audio/mp3"}


class Conversation:
    """Takes the messages in order. ``signed``: the model wants every call to have a signature.

    Tool results become one turn in the order of their calls, as Gemini pairs them, whichever order they came in.
    """

    def __init__(self, *, mark: str, signed: bool) -> None:
        self._mark = mark
        self._signed = signed
        self._system: list[Part] = []
        self._turns: list[Part] = []
        self._open = ""  # the role whose turn goes on with the next message of it
        self._called: dict[str, tuple[int, str, Carried]] = {}  # by the caller's id
        self._results: list[tuple[int, Part]] = []
        self._arguments = Arguments()

    def add(self, message: Message, param: str) -> None:
        """Raises Unsupported, whose ``param`` begins with this one."""
        if isinstance(message, ToolMessage):
            self._add_result(message, param)
            return
        self._end_results()
        match message:
            case SystemMessage() | DeveloperMessage():
                self._system += _texts(message.content)
            case UserMessage(content=str(text)):
                self._say("user", _texts(text))
            case UserMessage(content=list(given)):
                parts = [_part(part, f"{param}.content[{index}]") for index, part in enumerate(given)]
                self._say("user", [part for part in parts if part != {"text": ""}])
            case AssistantMessage():
                self._say("model", self._answer(message, param))
            case _:
                raise Unsupported(param, "Messages of the role function are not supported for this model: use tools.")

    def contents(self) -> list[Part]:
        """Never empty: without a turn, Gemini refuses what OpenAI takes."""
        self._end_results()
        return self._turns or [{"role": "user", "parts": self._system or [{"text": " "}]}]

    def instruction(self) -> Part | None:
        return {"parts": self._system} if self._system and self._turns else None

    def _say(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        if self._open == role:
            self._turns[-1]["parts"] += parts
        else:
            self._turns.append({"role": role, "parts": parts})
        self._open = role

    def _answer(self, message: AssistantMessage, param: str) -> list[Part]:
        if message.function_call is not None:
            raise Unsupported(f"{param}.function_call", "function_call is not supported for this model: use tools.")
        if message.audio is not None:
            raise Unsupported(f"{param}.audio", "Earlier answers as audio are not supported for this model.")
        parts = _texts(message.content or "") + _texts(message.refusal or "")
        unsigned = self._signed
        for index, call in enumerate(message.tool_calls or ()):
            part = self._call(index, call, f"{param}.tool_calls[{index}]")
            if unsigned:  # of calls in parallel the first has the signature of all
                part.setdefault("thoughtSignature", UNSIGNED)
                unsigned = False
            parts.append(part)
        return parts

    def _call(self, position: int, call: FunctionCall | CustomCall, param: str) -> Part:
        if isinstance(call, CustomCall):
            raise Unsupported(param, "Custom tools are not supported for this model.")
        name = call.function.name
        carried = call_ids.carried(call.id, mark=self._mark)
        self._called[call.id] = (position, name, carried)
        made = {"name": name, "args": self._arguments.read(call.function.arguments, f"{param}.function.arguments")}
        part: Part = {"functionCall": _with_id(made, carried)}
        if carried.signature:
            part["thoughtSignature"] = carried.signature
        return part

    def _add_result(self, message: ToolMessage, param: str) -> None:
        called = self._called.get(message.tool_call_id)
        if called is None:
            raise Unsupported(f"{param}.tool_call_id", "No tool call before this message has this id.")
        position, name, carried = called
        output = "".join(part["text"] for part in _texts(message.content))
        made = _with_id({"name": name, "response": {"output": output}}, carried)
        self._results.append((position, {"functionResponse": made}))

    def _end_results(self) -> None:
        if self._results:
            parts = [part for _, part in sorted(self._results, key=lambda result: result[0])]
            self._turns.append({"role": "user", "parts": parts})
            self._open = ""  # results have a turn to themselves
            self._results = []


def _with_id(made: dict[str, Any], carried: Carried) -> dict[str, Any]:
    """An id only where Gemini gave one: not all of its addresses know the field."""
    return {"id": carried.id} | made if carried.id else made


def _texts(content: str | list[TextPart] | list[TextPart | RefusalPart]) -> list[Part]:
    """Without the empty ones, which Gemini refuses."""
    if isinstance(content, str):
        return [{"text": content}] if content else []
    texts = [part.text if isinstance(part, TextPart) else part.refusal for part in content]
    return [{"text": text} for text in texts if text]


def _part(part: TextPart | Picture | AudioPart | FilePart, param: str) -> Part:
    match part:
        case TextPart(text=text):
            return {"text": text}
        case Picture(image_url=image):
            return _media(image.url, f"{param}.image_url.url")
        case AudioPart(input_audio=audio):
            return {"inlineData": {"mimeType": _AUDIO[audio.format], "data": audio.data}}
    file = part.file
    if file.file_data is None:
        raise Unsupported(f"{param}.file", "For this model send the file itself, as file_data.")
    if _DATA_URL.match(file.file_data, 0, DATA_URL_HEAD):
        return _media(file.file_data, f"{param}.file.file_data")
    kind, _ = mimetypes.guess_type(file.filename or "")
    if kind is None:
        raise Unsupported(f"{param}.file", "What kind of file this is can't be told: send file_data as a data: URL.")
    return {"inlineData": {"mimeType": kind, "data": file.file_data}}


def _media(url: str, param: str) -> Part:
    """A data: URL's data, or an address from which Google fetches. Raises Unsupported."""
    if data := _DATA_URL.match(url, 0, DATA_URL_HEAD):
        return {"inlineData": {"mimeType": data[1].lower(), "data": url[data.end() :]}}
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise Unsupported(param, "This is no URL.") from None
    if parts.scheme != "https" or not _PUBLIC_HOST.match(host) or "@" in parts.netloc:
        raise Unsupported(param, "For this model an address must be a public https:// or a base64 data: URL.")
    # There, Google may read with our account's rights: files and buckets of ours or of other callers.
    if f".{host}".endswith((".googleapis.com", ".cloud.google.com")):
        raise Unsupported(param, "Files kept at Google can't be named for this model: send a data: URL.")
    kind, _ = mimetypes.guess_type(parts.path)
    if kind is None:
        raise Unsupported(param, "What this address holds can't be told from its name: send a data: URL.")
    return {"fileData": {"mimeType": kind, "fileUri": url}}
