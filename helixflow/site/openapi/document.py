"""The whole description: built once in a process, when somebody first asks, in a quarter of a second.

Paths of Django's views come from ``rest``, the data plane's from its own structs; both are told by ``OPERATIONS``.
"""

import functools
import hashlib
import threading
from copy import deepcopy
from typing import Any, Final

import msgspec
from django.conf import settings

from helixflow.site.openapi import (
    account_operations,
    answers,
    batch_operations,
    inference_operations,
    parts,
    rest,
    schemas,
    team_operations,
    usage_operations,
    webhook_operations,
    words,
)
from helixflow.site.openapi.operations import Operation, Tag
from inference import text_answers
from webhooks import event_guide, payloads

TAGS: Final[tuple[Tag, ...]] = (
    *inference_operations.TAGS,
    *batch_operations.TAGS,
    *account_operations.TAGS,
    *usage_operations.TAGS,
    *team_operations.TAGS,
    *webhook_operations.TAGS,
    inference_operations.SERVICE,
)
OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    operation.key: operation for tag in TAGS for operation in tag.operations
}
_NAMES: Final[dict[type, str]] = {text_answers.Logprobs: "TextLogprobs"}
_lock: Final = threading.Lock()


def build() -> dict[str, Any]:
    """The description as it is published. Do not change it."""
    with _lock:  # two who ask at once wait for one
        return _build(settings.PUBLIC_URL)


def encoded() -> tuple[bytes, str]:
    """As JSON, with its ETag."""
    return _encoded(settings.PUBLIC_URL)


@functools.lru_cache(maxsize=1)
def _encoded(public_url: str) -> tuple[bytes, str]:
    content = msgspec.json.encode(build())
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@functools.lru_cache(maxsize=1)
def _build(public_url: str) -> dict[str, Any]:
    paths, components = rest.describe(OPERATIONS)
    components |= schemas.components(_structs(), names=_NAMES)
    for operation in OPERATIONS.values():
        found = paths.setdefault(operation.path, {}).setdefault(operation.method, {})
        paths[operation.path][operation.method] = _tell(operation, found)
    _put_words(components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HelixFlow",
            "version": settings.VERSION,
            "summary": "One OpenAI-compatible API in front of many model providers.",
            "description": parts.DESCRIPTION,
            "contact": {"email": settings.SUPPORT_EMAIL, "url": f"{public_url}/support"},
        },
        "servers": [{"url": f"{public_url}/v1"}],
        "tags": [{"name": tag.name, "description": tag.text} for tag in TAGS],
        "paths": {path: paths[path] for path in _in_order(paths)},
        "webhooks": _webhooks(),
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": parts.error_responses(),
            "headers": parts.HEADERS,
            "parameters": parts.REQUEST_HEADERS,
            "securitySchemes": parts.SECURITY,
        },
        "security": [{"ApiKey": []}],
    }


def _structs() -> list[type]:
    found: list[type] = [answers.Error, answers.AnswerMeta, answers.PageMeta]
    for operation in OPERATIONS.values():
        used = (operation.answer, operation.stream, operation.body)
        found += [each for each in used if each is not None and issubclass(each, msgspec.Struct)]
    return list(dict.fromkeys(found))


def _in_order(paths: rest.Found) -> list[str]:
    """As the reference has them; what nobody told of comes last."""
    told = list(dict.fromkeys(operation.path for operation in OPERATIONS.values()))
    return told + sorted(paths.keys() - set(told))


def _tell(operation: Operation, found: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.text:
        told["description"] = operation.text
    told["security"] = parts.security(operation.auth)
    told["parameters"] = _parameters(operation, found)
    if body := _body(operation, found):
        told["requestBody"] = body
    told["responses"] = _responses(operation)
    return {name: value for name, value in told.items() if value or name == "security"}


def _parameters(operation: Operation, found: dict[str, Any]) -> list[dict[str, Any]]:
    told = []
    for parameter in found.get("parameters", ()):
        if parameter["in"] not in {"path", "query"}:
            continue
        name = parameter["name"]
        text, kind = words.OF_OPERATION.get(
            (operation.id, name), (words.PARAMETERS.get(name, ""), words.PARAMETER_TYPES.get(name))
        )
        told.append(parameter | {"description": text, "schema": kind or parameter["schema"]})
    if operation.auth in {"login", "either"} and operation.tag != "Authentication":
        told.append({"$ref": "#/components/parameters/Organization"})
    told += [{"$ref": f"#/components/parameters/{name}"} for name in operation.headers]
    return sorted(told, key=lambda each: each.get("in") != "path")


def _body(operation: Operation, found: dict[str, Any]) -> dict[str, Any] | None:
    if operation.body is None:
        return None
    if issubclass(operation.body, msgspec.Struct):
        schema: dict[str, Any] = {"$ref": schemas.REF + operation.body.__name__}
    else:
        content = found.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {"type": "object", "additionalProperties": False})
    media: dict[str, Any] = {"schema": schema}
    if operation.example_body is not None:
        media["example"] = operation.example_body
    kind = "application/json" if operation.form is None else "multipart/form-data"
    return {"required": not operation.optional_body, "content": {kind: media}}


def _responses(operation: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": schemas.REF + operation.answer.__name__}
    if operation.shape in {"one", "page"}:
        paged = operation.shape == "page"
        meta = "PageMeta" if paged else "AnswerMeta"
        schema = {
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": schema} if paged else schema,
                "meta": {"$ref": schemas.REF + meta},
            },
            "required": ["data", "meta"],
        }
    media: dict[str, Any] = {"schema": schema}
    if operation.example is not None:
        media["example"] = operation.example
    content = {"application/json": media}
    if operation.shape == "lines":
        content = {"application/jsonl": {"schema": {"type": "string"}, "x-line": schema}}
    if operation.stream is not None:
        frame = {"$ref": schemas.REF + operation.stream.__name__}
        content["text/event-stream"] = {"schema": {"type": "string"}, "x-chunk": frame}
    told: dict[str, Any] = {
        str(operation.status): {
            "description": parts.REASONS[operation.status],
            "headers": parts.headers(operation.auth),
            "content": content,
        }
    }
    if operation.id == "getHealth":
        told["503"] = {"description": "A service is down.", "content": content}
    for status in parts.statuses(operation):
        told.setdefault(str(status), {"$ref": f"#/components/responses/Error{status}"})
    return told


def _put_words(components: dict[str, Any]) -> None:
    for name, component in components.items():
        plain = name.removeprefix("Patched")
        texts, types = words.FIELDS.get(plain, {}), words.TYPES.get(plain, {})
        for field, schema in list(component.get("properties", {}).items()):
            extra = deepcopy(types.get(field, {}))
            if name != plain:  # what is left out of a change stays as it is
                extra.pop("default", None)
                schema.pop("default", None)
            if field in texts:
                extra["description"] = texts[field]
            component["properties"][field] = schema | extra
        if plain in words.FIELDS:
            component["additionalProperties"] = False
            component.pop("description", None)  # the serializer's own words are for those who change it


def _webhooks() -> dict[str, Any]:
    told = {}
    for guide in event_guide.GUIDES:
        data = payloads.example(guide.type, "org-…")
        schema = {
            "type": "object",
            "properties": {
                "event": {"const": str(guide.type)},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": {
                    "type": "object",
                    "properties": {
                        each.name: {"description": each.text} for each in guide.fields if "." not in each.name
                    },
                },
            },
            "required": ["event", "timestamp", "data"],
        }
        example = {"event": str(guide.type), "timestamp": "2026-01-01T00:00:00Z", "data": data}
        told[str(guide.type)] = {
            "post": {
                "operationId": "receive" + "".join(part.capitalize() for part in str(guide.type).split(".")),
                "summary": str(guide.type),
                "description": guide.when,
                "tags": ["Webhooks"],
                "security": [],
                "requestBody": {"content": {"application/json": {"schema": schema, "example": example}}},
                "responses": {"2XX": {"description": "Received."}},
            }
        }
    return told
