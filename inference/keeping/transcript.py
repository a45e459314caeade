"""What a request asked, cut to what is worth storing; and, from what was stored, what people read. Pure.

Data of images, sound and files is left out, and of a prompt that is too long the older messages are: the newest say
what was asked. Answers are stored as their callers got them, streams too, and are put together when somebody looks.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from inference import sse

MAX_PROMPT: Final = 256 * 1024  # bytes, of messages or texts
MAX_PARAMETER: Final = 64 * 1024  # of one of the others, such as tools
MAX_DATA: Final = 1024  # of what isn't text: more of it nobody reads
PROMPTS: Final = ("messages", "prompt", "input")  # whichever a request has
_DATA_FIELDS: Final = frozenset({"url", "data", "file_data"})
_MEDIA_TYPE: Final = re.compile(r"data:([\w.+-]{1,60}/[\w.+-]{1,60})")

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Stored(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``prompt`` (messages, a text, or texts) and ``parameters`` are JSON, ``answer`` is as it was sent. ``left_out``
    counts older messages, or later texts."""

    prompt: bytes
    parameters: bytes
    answer: bytes = b""
    left_out: int = 0
    prompt_cut: bool = False
    answer_cut: bool = False


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Stored).decode


def pack(stored: Stored) -> bytes:
    return zlib.compress(_pack(stored), 1)


def unpack(packed: bytes) -> Stored:
    """Raises ValueError."""
    try:
        return _unpack(zlib.decompress(packed))
    except (msgspec.DecodeError, zlib.error) as problem:
        raise ValueError(str(problem)) from None


def take(request: Any, answer: bytes, *, answer_cut: bool) -> Stored:
    """``request`` is one that was read: any of ``inference.calls``."""
    name = next(name for name in PROMPTS if name in request.__struct_fields__)
    given = getattr(request, name)
    empty: Any = "" if isinstance(given, str) else []
    parameters = _decode(_encode(msgspec.structs.replace(request, **{name: empty})))
    for left in (name, "model"):
        parameters.pop(left, None)
    for parameter, value in parameters.items():
        size = len(_encode(value))
        if size > MAX_PARAMETER:
            parameters[parameter] = f"({_size(size)}, not stored)"
    if name == "messages":
        prompt, left_out, cut = _newest(msgspec.to_builtins(given))
    else:
        prompt, left_out, cut = _first(given)
    return Stored(
        prompt=_encode(prompt),
        parameters=_encode(parameters),
        answer=b"" if name == "input" and answer.startswith(b'{"object"') else answer,  # vectors tell nobody anything
        left_out=left_out,
        prompt_cut=cut,
        answer_cut=answer_cut,
    )


def _newest(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int, bool]:
    """As many as there is room for, the newest first of all; how many are left out; whether one was cut."""
    room = MAX_PROMPT
    taken: list[dict[str, Any]] = []
    for message in reversed(messages):
        slim = _without_data(message)
        size = len(_encode(slim))
        if size > room and not taken:  # the very newest: its beginning is better than nothing
            return [_cut_texts(slim, room)], len(messages) - 1, True
        if size > room:
            break
        room -= size
        taken.append(slim)
    return taken[::-1], len(messages) - len(taken), False


def _first(given: Any) -> tuple[Any, int, bool]:
    """A text, texts, tokens, or lists of tokens."""
    if isinstance(given, str):
        return given[:MAX_PROMPT], 0, len(given) > MAX_PROMPT
    room = MAX_PROMPT
    for index, item in enumerate(given):
        room -= len(_encode(item)) + 1
        if room < 0:
            return (
                ([item[:MAX_PROMPT]], len(given) - 1, True) if not index else (given[:index], len(given) - index, False)
            )
    return given, 0, False


def _without_data(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _placeholder(each) if name in _DATA_FIELDS and _is_data(each) else _without_data(each)
            for name, each in value.items()
        }
    return [_without_data(each) for each in value] if isinstance(value, list) else value


def _is_data(value: Any) -> bool:
    return isinstance(value, str) and len(value) > MAX_DATA


def _placeholder(data: str) -> str:
    found = _MEDIA_TYPE.match(data)
    return f"({found[1] if found else 'data'}, {_size(len(data))}, not stored)"


def _cut_texts(value: Any, room: int) -> Any:
    """Every text in it to its share of the room at most."""
    texts = max(1, sum(1 for _ in _texts(value)))
    most = max(1, room // (2 * texts))  # JSON may write a character with more than one byte

    def cut(each: Any) -> Any:
        if isinstance(each, str):
            return each[:most]
        if isinstance(each, dict):
            return {name: cut(inner) for name, inner in each.items()}
        return [cut(inner) for inner in each] if isinstance(each, list) else each

    return cut(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _size(length: int) -> str:
    return f"{length / 1024 / 1024:.1f} MB" if length >= 1024 * 1024 else f"{length / 1024:.0f} kB"


# Reading


@dataclass(slots=True)
class Block:
    """A piece of a message. ``kind``: text, refusal, reasoning, tool_call or media. ``title``: of a tool or medium."""

    kind: str
    text: str
    title: str = ""


@dataclass(slots=True)
class Turn:
    """``note`` is what else is to be said, such as why an answer ended."""

    role: str
    blocks: list[Block] = field(default_factory=list)
    note: str = ""

    @property
    def text(self) -> str:
        """For copying."""
        return "\n\n".join(
            f"{block.title}({block.text})" if block.kind == "tool_call" else block.text for block in self.blocks
        )


@dataclass(slots=True)
class Answer:
    """``raw`` where what was stored can't be put together; ``error`` as code and message."""

    turns: list[Turn] = field(default_factory=list)
    error: tuple[str, str] | None = None
    raw: str = ""


def turns_of(prompt: bytes) -> list[Turn]:
    """Raises ValueError."""
    given = _loads(prompt)
    if isinstance(given, str):
        return [Turn("prompt", [Block("text", given)])]
    if given and all(isinstance(each, dict) for each in given):
        return [_turn(each) for each in given]
    texts = [given] if given and isinstance(given[0], int) else given
    return [Turn("prompt", [Block("text", each if isinstance(each, str) else f"{len(each)} tokens")]) for each in texts]


def parameters_of(parameters: bytes) -> dict[str, Any]:
    found: dict[str, Any] = _loads(parameters)
    return found


def answer_of(body: bytes) -> Answer:
    """What the caller got, whole or as a stream; of one that was cut, as much as there is."""
    if body.startswith(b"data:"):
        return _assembled(_events(body))
    try:
        whole = _loads(body)
    except ValueError:
        return Answer(raw=body.decode(errors="replace"))
    if not isinstance(whole, dict) or not ("choices" in whole or "error" in whole):
        return Answer(raw=body.decode(errors="replace"))
    return Answer([_choice(each) for each in whole.get("choices") or ()], _error(whole))


def _loads(body: bytes) -> Any:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(str(problem)) from None


def _turn(message: dict[str, Any]) -> Turn:
    turn = Turn(str(message.get("role", "")), note=str(message.get("name") or message.get("tool_call_id") or ""))
    content = message.get("content")
    if isinstance(content, str) and content:
        turn.blocks.append(Block("text", content))
    elif isinstance(content, list):
        turn.blocks += [_part(part) for part in content]
    turn.blocks += _said_otherwise(message)
    return turn


def _part(part: dict[str, Any]) -> Block:
    kind = part.get("type")
    if kind in {"text", "refusal"}:
        return Block(str(kind), str(part.get(kind, "")))
    inner = part.get(str(kind))
    found = next(iter(_texts(inner)), "") if isinstance(inner, dict | list | str) else ""
    return Block("media", found, {"image_url": "Image", "input_audio": "Audio", "file": "File"}.get(str(kind), "Part"))


def _said_otherwise(message: dict[str, Any]) -> list[Block]:
    """What a message has beside its content."""
    blocks = [
        Block(kind, str(message[name]))
        for name, kind in (("reasoning_content", "reasoning"), ("refusal", "refusal"))
        if message.get(name)
    ]
    calls = list(message.get("tool_calls") or ())
    if message.get("function_call"):
        calls.append({"function": message["function_call"]})
    for call in calls:
        inner = call.get("function") or call.get("custom") or {}
        blocks.append(
            Block("tool_call", str(inner.get("arguments", inner.get("input", ""))), str(inner.get("name", "")))
        )
    return blocks


def _choice(choice: dict[str, Any]) -> Turn:
    message = choice.get("message")
    turn = (
        _turn(message) if isinstance(message, dict) else Turn("assistant", [Block("text", str(choice.get("text", "")))])
    )
    turn.role = turn.role or "assistant"
    turn.note = _ending(choice.get("finish_reason"))
    return turn


def _ending(reason: Any) -> str:
    return {"stop": "", None: "", "length": "ended at its limit of tokens"}.get(reason, f"ended with {reason}")


def _error(body: dict[str, Any]) -> tuple[str, str] | None:
    error = body.get("error")
    return (str(error.get("code", "")), str(error.get("message", ""))) if isinstance(error, dict) else None


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    """Of a stream; the last one, where that was cut, is left out."""
    try:
        events = sse.Decoder().feed(body)
    except sse.LineTooLong:
        return
    for event in events:
        try:
            found = _loads(event)
        except ValueError:  # [DONE]
            continue
        if isinstance(found, dict):
            yield found


def _assembled(events: Iterator[dict[str, Any]]) -> Answer:
    choices: dict[int, dict[str, Any]] = {}
    error = None
    for event in events:
        error = _error(event) or error
        for choice in event.get("choices") or ():
            known = choices.setdefault(choice.get("index", 0), {"text": "", "calls": {}, "finish_reason": None})
            known["finish_reason"] = choice.get("finish_reason") or known["finish_reason"]
            known["text"] += choice.get("text") or ""
            _add_delta(known, choice.get("delta") or {})
    turns = []
    for _, known in sorted(choices.items()):
        message = {name: known.get(name) for name in ("reasoning_content", "refusal")}
        message |= {"content": known.get("content") or known["text"], "tool_calls": list(known["calls"].values())}
        turns.append(_choice({"message": {"role": "assistant"} | message, "finish_reason": known["finish_reason"]}))
    return Answer(turns, error)


def _add_delta(known: dict[str, Any], delta: dict[str, Any]) -> None:
    for name in ("content", "refusal", "reasoning_content"):
        if isinstance(delta.get(name), str):
            known[name] = known.get(name, "") + delta[name]
    calls = list(delta.get("tool_calls") or ())
    if delta.get("function_call"):
        calls.append({"function": delta["function_call"]})
    for call in calls:
        whole = known["calls"].setdefault(call.get("index", 0), {"function": {"name": "", "arguments": ""}})
        part = call.get("function") or {}
        for name in ("name", "arguments"):
            whole["function"][name] += part.get(name) or ""
