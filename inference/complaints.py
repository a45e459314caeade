"""What msgspec says of a bad request body, in words that a person can act on."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from helixflow.lib import errors

_NAMES: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
# Bounded, since the text before may be a caller's own words that look like a path.
_AT: Final = re.compile(r" - at (`key` in )?`\$([^`]{0,200})`\Z")
_EXPECTED: Final = re.compile(r"Expected `([a-z |]+)`(?:, got `(\w+)`)?\Z")
_LENGTH: Final = re.compile(r"Expected `(\w+)` of length (<=|>=) (\d+)\Z")
_BOUND: Final = re.compile(r"Expected `(?:int|float)` (<=|>=) (-?[\d.]+)\Z")
_FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`\Z", re.DOTALL)
_VALUE: Final = re.compile(r"Invalid (?:enum )?value (.*)\Z", re.DOTALL)
_UNITS: Final = {"str": "characters", "array": "items", "object": "entries"}

Choices = Mapping[str, tuple[str, ...]]
Ranges = Mapping[str, tuple[str, str]]


def translate(
    problem: Exception, body: bytes, *, ranges: Ranges, choices: Choices, root: str = ""
) -> errors.InvalidRequest:
    """The error to raise for what a typed decode raised.

    ``ranges`` holds both bounds by parameter, for msgspec names only the one that was crossed; ``choices`` the
    values allowed, by the last name of a path. ``root`` is where in the whole body what was decoded stands.
    """
    if isinstance(problem, msgspec.ValidationError):
        return _invalid(str(problem), root, ranges, choices)
    if isinstance(problem, RecursionError):
        return errors.InvalidRequest("The request body is nested too deeply.")
    return errors.InvalidRequest(_malformed(problem, body))


def refuse(param: str, complaint: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"{param} {complaint}.", param=param)


def _malformed(problem: Exception, body: bytes) -> str:
    if not body.strip():
        return "The request body is empty. Send a JSON object."
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\x00" in body[:4]:
        return "The request body must be JSON in UTF-8, without a byte order mark."
    if isinstance(problem, UnicodeDecodeError):
        return "The request body must be JSON in UTF-8: it holds bytes that are not."
    reason = str(problem).removeprefix("JSON is malformed: ")
    if "truncated" in reason:
        reason = "it ends too early"
    return f"The request body is not valid JSON: {reason}."


def _invalid(text: str, root: str, ranges: Ranges, choices: Choices) -> errors.InvalidRequest:
    at = _AT.search(text)
    what = text[: at.start()] if at else text
    # Keys of free-form objects are printed as [...]: the path ends before them.
    path = root + at.group(2).partition("[...]")[0] if at else root
    path = path.lstrip(".")
    if field := _FIELD.match(what):
        kind, name = field.groups()
        param = f"{path}.{_short(name)}" if path else _short(name)
        if kind == "missing required":
            return refuse(param, "is required")
        return errors.InvalidRequest(f"Unknown parameter: '{param}'.", param=param)
    if what[:1].islower():  # raised by one of our own structs, and begins with the field's name
        name, _, complaint = what.partition(" ")
        return refuse(f"{path}.{name}", complaint)
    if path and what.endswith(", got `null`"):
        return refuse(path, "is required")  # null means absent
    if not path:
        return errors.InvalidRequest("The request body must be a JSON object.")
    complaint = _complaint(what, path, ranges, choices)
    if at and at.group(2).endswith("[...]"):
        part = "name" if at.group(1) else "value"
        return errors.InvalidRequest(f"Each {part} in {path} {complaint}.", param=path)
    return refuse(path, complaint)


def _complaint(what: str, path: str, ranges: Ranges, choices: Choices) -> str:
    last = re.split(r"[.\[]", path)[-1] if not path.endswith("]") else ""
    if bound := _BOUND.match(what):
        if path in ranges:
            return "must be between {} and {}".format(*ranges[path])
        return f"must be at {'most' if bound[1] == '<=' else 'least'} {bound[2].removesuffix('.0')}"
    if length := _LENGTH.match(what):
        if length[2] == ">=":
            return "must not be empty"
        return f"must have at most {length[3]} {_UNITS[length[1]]}"
    if expected := _EXPECTED.match(what):
        return _expectation(expected[1], expected[2])
    if value := _VALUE.match(what):
        if last in choices:
            return f"must be {'one of ' if len(choices[last]) > 1 else ''}{', '.join(choices[last])}"
        return f"may not be {_short(value[1])}"
    if "matching regex" in what:
        return "is empty, too long or holds characters that are not allowed"
    if "out of range" in what:
        return "holds a number that is too large"
    return f"is invalid: {_short(what)}"


def _expectation(types: str, got: str | None) -> str:
    wanted = [_NAMES.get(name, name) for name in types.split(" | ") if name != "null"]
    text = f"must be {' or '.join(wanted)}"
    return f"{text}, not {_NAMES[got]}" if got in _NAMES and got != "bool" else text


def _short(name: str) -> str:
    """A caller's text, fit for a line of a message or a log."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 64 else text[:61] + "..."


def allowed_values(struct: type[msgspec.Struct]) -> dict[str, tuple[str, ...]]:
    """The values of each field of ``struct`` that is one of a few words."""
    return {
        field.name: tuple(str(value) for value in literal.values)
        for field, options in _fields(struct)
        for literal in options
        if isinstance(literal, msgspec.inspect.LiteralType)
    }


def bounds(struct: type[msgspec.Struct]) -> dict[str, tuple[str, str]]:
    """Both ends of each field of ``struct`` that is a number in a range."""
    return {
        field.name: (str(number.ge), str(number.le))
        for field, options in _fields(struct)
        for number in options
        if isinstance(number, msgspec.inspect.IntType | msgspec.inspect.FloatType)
        and number.ge is not None
        and number.le is not None
    }


def _fields(struct: type[msgspec.Struct]) -> list[tuple[msgspec.inspect.Field, tuple[Any, ...]]]:
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101  # narrows for mypy
    return [
        (field, field.type.types if isinstance(field.type, msgspec.inspect.UnionType) else (field.type,))
        for field in info.fields
    ]
