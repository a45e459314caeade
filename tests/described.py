"""Answers held to the OpenAPI description, to the last field."""

from typing import Any

from openapi_schema_validator import OAS31Validator


def problems(described: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with ``value`` by a schema of ``described``; a field it doesn't tell of is wrong too."""
    whole = _strict(schema) | {"components": _strict({"schemas": described["components"]["schemas"]})}
    return [f"{each.json_path}: {each.message}" for each in OAS31Validator(whole).iter_errors(value)]


def _strict(schema: Any) -> Any:
    """Clients are not told to refuse what is not described, so that it can grow."""
    if isinstance(schema, dict):
        found = {name: _strict(value) for name, value in schema.items()}
        if "properties" in found and found.get("type") == "object":
            found.setdefault("additionalProperties", False)
        return found
    return [_strict(each) for each in schema] if isinstance(schema, list) else schema
