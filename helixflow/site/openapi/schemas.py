"""JSON Schema of msgspec types, for OpenAPI 3.1.

Not msgspec's own: that stumbles over defaults that are raw JSON (``inference.parts.ABSENT``), and tells of every
optional field that its default is null. Here null is one of the types where an answer may hold it.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import inspect

REF: Final = "#/components/schemas/"
Schema = dict[str, Any]


def components(types: Iterable[type], *, names: dict[type, str] | None = None) -> dict[str, Schema]:
    """Every struct of ``types`` and what they are made of, by name. Raises ValueError where two share a name."""
    writer = _Writer(names or {})
    for info in inspect.multi_type_info(tuple(types)):
        writer.write(info)
    return dict(sorted(writer.found.items()))


class _Writer:
    def __init__(self, names: dict[type, str]) -> None:
        self.found: dict[str, Schema] = {}
        self._names = names
        self._by: dict[str, type] = {}

    def write(self, info: inspect.Type) -> Schema:
        match info:
            case inspect.Metadata():
                return self._with_metadata(info)
            case inspect.StructType():
                return self._struct(info)
            case inspect.UnionType():
                return self._union(info)
            case inspect.ListType():
                schema: Schema = {"type": "array", "items": self.write(info.item_type)}
                return schema | _given(minItems=info.min_length, maxItems=info.max_length)
            case inspect.DictType():
                schema = {"type": "object", "additionalProperties": self.write(info.value_type)}
                return schema | _given(maxProperties=info.max_length)
            case inspect.LiteralType():
                return {"type": _literal_type(info.values), "enum": sorted(info.values, key=str)}
        return _plain(info)

    def _with_metadata(self, info: inspect.Metadata) -> Schema:
        schema, extra = self.write(info.type), info.extra_json_schema or {}
        return {"allOf": [schema], **extra} if "$ref" in schema and extra else schema | extra

    def _union(self, info: inspect.UnionType) -> Schema:
        written = [self.write(each) for each in info.types if not isinstance(each, inspect.NoneType)]
        if not info.includes_none:
            return written[0] if len(written) == 1 else {"anyOf": written}
        if len(written) == 1 and isinstance(written[0].get("type"), str) and "enum" not in written[0]:
            return written[0] | {"type": [written[0]["type"], "null"]}
        return {"anyOf": [*written, {"type": "null"}]}

    def _struct(self, info: inspect.StructType) -> Schema:
        name = self._names.get(info.cls, info.cls.__name__.strip("_"))
        if self._by.setdefault(name, info.cls) is not info.cls:
            raise ValueError(f"{info.cls} and {self._by[name]} are both called {name}")
        if name not in self.found:
            self.found[name] = {}  # first: a struct may hold itself
            self.found[name].update(self._object(info))
        return {"$ref": REF + name}

    def _object(self, info: inspect.StructType) -> Schema:
        properties: Schema = {}
        required = []
        if info.tag_field:
            properties[info.tag_field] = {"type": "string", "const": info.tag}
            required.append(info.tag_field)
        for field in info.fields:
            schema = self.write(field.type)
            properties[field.encode_name] = schema
            if field.required:
                required.append(field.encode_name)
            elif isinstance(field.default, str | int | float):
                schema["default"] = field.default
        schema = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        return schema | ({"additionalProperties": False} if info.forbid_unknown_fields else {})


def _plain(info: inspect.Type) -> Schema:
    match info:
        case inspect.StrType():
            limits = _given(minLength=info.min_length, maxLength=info.max_length)
            return {"type": "string", **limits, **_given(pattern=_pattern(info.pattern))}
        case inspect.IntType() | inspect.FloatType():
            kind = "integer" if isinstance(info, inspect.IntType) else "number"
            limits = _given(minimum=info.ge, maximum=info.le, exclusiveMinimum=info.gt, exclusiveMaximum=info.lt)
            return {"type": kind, **limits}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.AnyType() | inspect.RawType():
            return {}
    raise TypeError(f"{info} has no schema here")


def _pattern(pattern: str | None) -> str | None:
    """As JavaScript writes it."""
    return pattern.replace(r"\Z", "$") if pattern else None


def _literal_type(values: tuple[Any, ...]) -> str:
    kinds = {bool: "boolean", int: "integer", str: "string"}
    return kinds[type(values[0])]


def _given(**limits: Any) -> Schema:
    return {name: value for name, value in limits.items() if value is not None}
