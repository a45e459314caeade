"""One request of a batch, as a line of its input file or as an entry of ``requests``, strictly read. Pure.

Its body meets the gateway's own schemas before anything is asked, so that a batch doesn't find its mistakes one by one.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from helixflow.lib import errors
from inference import complaints, schemas, text_schemas
from inference.batch_models import Operation
from inference.calls import Request
from inference.parts import NO_NUL

MAX_BYTES: Final = 10 * 1024 * 1024  # of a line, as of a request's body
MAX_CUSTOM_ID: Final = 512

INVALID_JSON: Final = "invalid_json_line"
INVALID_LINE: Final = "invalid_line"
INVALID_REQUEST: Final = "invalid_request"
TOO_LONG: Final = "line_too_long"
DUPLICATE: Final = "duplicate_custom_id"

CustomId = Annotated[str, Meta(min_length=1, max_length=MAX_CUSTOM_ID, pattern=NO_NUL)]


class BadLine(Exception):
    """``number`` counts from 1. ``param`` is a path into the line, such as ``body.temperature``."""

    def __init__(self, number: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.code = code
        self.message = message
        self.param = param

    def error(self) -> dict[str, Any]:
        """As ``Batch.errors`` holds it, in OpenAI's words."""
        return {"code": self.code, "message": self.message, "param": self.param, "line": self.number}


@dataclass(frozen=True, slots=True)
class Line:
    """``body`` is the caller's JSON without the white space, and has passed the gateway's check."""

    custom_id: str
    model: str
    body: bytes


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's."""

    custom_id: CustomId
    method: Literal["POST"]
    url: str
    body: msgspec.Raw


_PARSERS: Final[Mapping[str, Callable[[bytes], Request]]] = {
    Operation.CHAT: schemas.parse_chat_request,
    Operation.COMPLETIONS: text_schemas.parse_completion_request,
    Operation.EMBEDDINGS: text_schemas.parse_embedding_request,
}
_OF_A_BODY: Final = frozenset({"model", "messages", "prompt", "input"})
_CHOICES: Final = complaints.allowed_values(Envelope)
_decode_line = msgspec.json.Decoder(Envelope).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_custom_id = msgspec.json.Decoder(CustomId | None).decode
_encode = msgspec.json.Encoder().encode


def parse(raw: bytes, number: int, operation: str) -> Line:
    """A line of an input file, without its end. Raises BadLine."""
    line = envelope(raw, number)
    if line.url != operation:
        message = f"url must be {operation}, as the batch's endpoint: give each endpoint a batch of its own."
        raise BadLine(number, INVALID_LINE, message, "url")
    try:
        return _read(line.custom_id, bytes(line.body), operation)
    except errors.InvalidRequest as error:
        param = f"body.{error.param}" if error.param else "body"
        raise BadLine(number, INVALID_REQUEST, error.message, param) from None


def envelope(raw: bytes, number: int) -> Envelope:
    """The line around a body that is not looked at. Raises BadLine."""
    if len(raw) > MAX_BYTES:
        raise BadLine(number, TOO_LONG, f"A line may have at most {MAX_BYTES} bytes: split this request.")
    try:
        return _decode_line(raw)
    except msgspec.ValidationError as problem:
        raise _bad_line(problem, raw, number) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadLine(number, INVALID_JSON, _malformed(problem)) from None


def parse_inline(raw: bytes, index: int, operation: str) -> Line:
    """An entry of ``requests``: a body with its ``custom_id`` in it, which has a default.

    Raises InvalidRequest, whose ``param`` is a path such as ``requests[3].temperature``.
    """
    root = f"requests[{index}]"
    try:
        fields = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.InvalidRequest(f"{root} must be an object: the body of one request.", param=root) from None
    if "body" in fields and "url" in fields:
        message = f"{root} is a line of a batch file: give its body alone, with custom_id as one more field."
        raise errors.InvalidRequest(message, param=f"{root}.body")
    custom_id = _custom_id(fields.pop("custom_id", None), f"{root}.custom_id") or f"request-{index + 1}"
    try:
        return _read(custom_id, _encode(fields), operation)
    except errors.InvalidRequest as error:
        param = f"{root}.{error.param}" if error.param else root
        raise errors.InvalidRequest(f"{root}: {error.message}", param=param) from None


def write(line: Line, operation: str) -> bytes:
    """As a line of an input file."""
    return _encode(Envelope(line.custom_id, "POST", str(operation), msgspec.Raw(line.body))) + b"\n"


def digest(custom_id: str) -> bytes:
    """To know it again: 50,000 of the longest would weigh 100 MB."""
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def _read(custom_id: str, raw: bytes, operation: str) -> Line:
    try:
        request = _PARSERS[operation](raw)
    except errors.InvalidRequest as error:
        if error.param in _OF_A_BODY and error.message.startswith("Unknown"):  # there, but not here
            raise errors.InvalidRequest(
                f"{error.message} This batch's endpoint is {operation}.", param=error.param
            ) from None
        raise
    if request.wants_stream:
        raise complaints.refuse("stream", "must be false or left out: the answers of a batch are not streamed")
    return Line(custom_id, request.model, msgspec.json.format(raw, indent=-1))


def _custom_id(raw: msgspec.Raw | None, param: str) -> str | None:
    if raw is None:
        return None
    try:
        custom_id: str | None = _decode_custom_id(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        complaint = f"must be a string of 1 to {MAX_CUSTOM_ID} characters without NUL"
        raise complaints.refuse(param, complaint) from None
    return custom_id


def _bad_line(problem: msgspec.ValidationError, raw: bytes, number: int) -> BadLine:
    error = complaints.translate(problem, raw, ranges={}, choices=_CHOICES)
    if error.param is None:
        message = "This line is not a JSON object: write one with custom_id, method, url and body."
        return BadLine(number, INVALID_LINE, message)
    if error.param in _OF_A_BODY:
        message = 'This is a body alone. Around it belongs {"custom_id": "…", "method": "POST", "url": "…", "body": …}.'
        return BadLine(number, INVALID_LINE, message, error.param)
    return BadLine(number, INVALID_LINE, error.message, error.param)


def _malformed(problem: Exception) -> str:
    if isinstance(problem, UnicodeDecodeError):
        return "This line is not in UTF-8: save the file as UTF-8."
    if isinstance(problem, RecursionError):
        return "This line is nested too deeply: a request has at most 64 levels."
    reason = str(problem).removeprefix("JSON is malformed: ")
    return f"This line is not valid JSON ({reason}): write one JSON object, whole, on each line."
