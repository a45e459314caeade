"""JSON schemas as Anthropic's constrained decoding takes them.

It wants every object closed, and knows fewer keywords than callers write. An answer that fits the narrower schema made
here fits the caller's too, but for the keywords it does not know: those are told to the model in the description.
"""

from typing import Any, Final

import msgspec

_HINTS: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
    }
)
# In tuples, since a caller may have written anything in their place, such as a list.
_FORMATS: Final = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_MIN_ITEMS: Final = (0, 1)
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})
_LISTS: Final = frozenset({"anyOf", "allOf", "oneOf"})


class OpenSchemaError(Exception):
    """Some object in it holds names that the schema doesn't know: closed, it could only be empty."""


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Raises OpenSchemaError. Recursive: how deep a body may nest is limited (``schemas.MAX_DEPTH``)."""
    found: dict[str, Any] = {}
    hints: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            found[name] = {key: _closed(each) for key, each in value.items()}
        elif name in _LISTS and isinstance(value, list):
            found["anyOf" if name == "oneOf" else name] = [_closed(each) for each in value]
        elif name == "items":
            found[name] = _closed(value)
        elif _is_hint(name, value):
            hints[name] = value
        else:
            found[name] = value
    if _is_object(schema):
        if not schema.get("properties") and schema.get("additionalProperties") is not False:
            raise OpenSchemaError
        found["additionalProperties"] = False
    if hints:
        said = msgspec.json.encode(hints).decode()
        found["description"] = f"{found['description']}\n\n{said}" if found.get("description") else said
    return found


def _closed(value: Any) -> Any:
    return closed(value) if isinstance(value, dict) else value


def _is_object(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _is_hint(name: str, value: Any) -> bool:
    if name == "minItems":
        return value not in _MIN_ITEMS
    return name in _HINTS or (name == "format" and value not in _FORMATS)
