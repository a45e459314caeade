"""The description as the reference shows it: chapters of operations, fields as rows, a curl command for each.

Made once in a process from ``document.build``; templates/site/docs/chapter.html draws it.
"""

import functools
import json
import re
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from helixflow.site.openapi import document, parts, words
from helixflow.site.openapi.operations import Operation, Tag

DEPTH: Final = 3  # of objects within objects
SHORT: Final = 64  # characters of JSON that stay on one line
WORDS_OF_AUTH: Final = {
    "key": "API key",
    "login": "Access token of a login",
    "either": "API key, or access token of a login",
    "none": "No credentials",
}


class Field(NamedTuple):
    name: str
    type: str
    needed: bool
    text: str
    fields: tuple["Field", ...] = ()


class Example(NamedTuple):
    title: str
    code: str


class Entry(NamedTuple):
    """One operation; ``id`` is its anchor, ``curl`` a command that can be run."""

    id: str
    anchors: tuple[str, ...]
    method: str
    path: str
    summary: str
    text: SafeString
    auth: str
    parameters: tuple[Field, ...]
    headers: tuple[Field, ...]
    body: tuple[Field, ...]
    answer: tuple[Field, ...]
    answer_kind: str
    curl: str
    example: Example
    errors: tuple[int, ...]


class Chapter(NamedTuple):
    title: str
    slug: str
    text: str
    operations: tuple[Entry, ...]

    @property
    def href(self) -> str:
        return f"/docs/api/{self.slug}"


def chapters() -> tuple[Chapter, ...]:
    return _chapters(settings.PUBLIC_URL)


def chapter(slug: str) -> Chapter | None:
    return next((each for each in chapters() if each.slug == slug), None)


@functools.lru_cache(maxsize=1)
def _chapters(public_url: str) -> tuple[Chapter, ...]:
    described = document.build()
    drawn = _Drawing(described, f"{public_url}/v1")
    return tuple(_chapter(tag, drawn) for tag in document.TAGS)


def _chapter(tag: Tag, drawn: "_Drawing") -> Chapter:
    return Chapter(tag.name, tag.slug, tag.text, tuple(drawn.entry(operation) for operation in tag.operations))


class _Drawing:
    def __init__(self, described: dict[str, Any], base_url: str) -> None:
        self._described = described
        self._base_url = base_url

    def entry(self, operation: Operation) -> Entry:
        told = self._described["paths"][operation.path][operation.method]
        parameters = [self._resolved(each) for each in told.get("parameters", ())]
        answer = self._of_components(operation.answer.__name__)
        return Entry(
            id=operation.id,
            anchors=operation.anchors,
            method=operation.method.upper(),
            path=operation.path,
            summary=operation.summary,
            text=markdown(operation.text),
            auth=WORDS_OF_AUTH[operation.auth],
            parameters=tuple(self._parameter(each) for each in parameters if each["in"] != "header"),
            headers=tuple(self._parameter(each) for each in parameters if each["in"] == "header"),
            body=self._body(operation, told),
            answer=self._fields(answer, 1),
            answer_kind={"one": "in data", "page": "each entry of data", "plain": "", "lines": "each line"}[
                operation.shape
            ],
            curl=curl(operation, self._base_url),
            example=Example(
                f"{operation.status} {parts.REASONS[operation.status]}",
                "" if operation.example is None else pretty(operation.example),
            ),
            errors=tuple(int(each) for each in told["responses"] if int(each) >= 400),
        )

    def _body(self, operation: Operation, told: dict[str, Any]) -> tuple[Field, ...]:
        content = told.get("requestBody", {}).get("content", {})
        schema: dict[str, Any] = next((media["schema"] for media in content.values()), {})
        fields = self._fields(self._resolved(schema), DEPTH - 1)
        if operation.takes_openai:  # there null is nothing but an absent field
            fields = tuple(each._replace(type=each.type.replace(" or null", "")) for each in fields)
        return fields

    def _of_components(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._described["components"]["schemas"][name]
        return found

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in schema:
            return schema
        kind, name = schema["$ref"].split("/")[-2:]
        found: dict[str, Any] = self._described["components"][kind][name]
        return found

    def _parameter(self, parameter: dict[str, Any]) -> Field:
        needed = bool(parameter.get("required"))
        return Field(parameter["name"], self._type(parameter["schema"]), needed, parameter.get("description", ""))

    def _fields(self, schema: dict[str, Any], depth: int) -> tuple[Field, ...]:
        needed = schema.get("required", ())
        return tuple(
            Field(
                name,
                self._type(each),
                name in needed,
                str(each.get("description", "")),
                self._within(each, depth - 1),
            )
            for name, each in schema.get("properties", {}).items()
        )

    def _within(self, schema: dict[str, Any], depth: int) -> tuple[Field, ...]:
        """The fields of the one kind of object that may be there; nothing where there are several."""
        if depth <= 0:
            return ()
        objects = [each for each in self._kinds(schema) if "properties" in each]
        return self._fields(objects[0], depth) if len(objects) == 1 else ()

    def _kinds(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        schema = self._resolved(schema)
        if several := schema.get("anyOf") or schema.get("allOf"):
            return [kind for each in several for kind in self._kinds(each)]
        if schema.get("type") == "array" or schema.get("type") == ["array", "null"]:
            return self._kinds(schema.get("items", {}))
        return [schema]

    def _type(self, schema: dict[str, Any]) -> str:
        told = self._kind(schema)
        if "default" in schema:
            told += f", default {json.dumps(schema['default']).strip(chr(34))}"
        return told

    def _kind(self, schema: dict[str, Any]) -> str:
        schema = self._resolved(schema)
        if "anyOf" in schema:
            kinds = dict.fromkeys(self._kind(each) for each in schema["anyOf"])
            return " or ".join(kinds)
        if "allOf" in schema:
            return self._kind(schema["allOf"][0])
        if "const" in schema:
            return f"“{schema['const']}”"
        if "enum" in schema:
            return _list([str(each) for each in schema["enum"]])
        types = schema.get("type", "any")
        if isinstance(types, list):
            rest = schema | {"type": types[0]}
            return f"{self._kind(rest)} or null"
        if types == "array":
            return f"array of {_plural(self._kind(schema.get('items', {})))}"
        if schema.get("format") == "date-time":
            return "time"
        return str(types) + _range(schema)


def curl(operation: Operation, base_url: str) -> str:
    """A command that can be run as it is, where the variables in it are set."""
    path = re.sub(r"\{(\w+)\}", lambda match: words.VARIABLES.get(match[1], match[0]), operation.path)
    url = f"{base_url}{path}" + (f"?{operation.example_query}" if operation.example_query else "")
    method = operation.method.upper()
    quoted = f'"{url}"' if "?" in url else url
    has_body = operation.example_body is not None or operation.form is not None
    lines = [f"curl {quoted}" if method == "GET" or (method == "POST" and has_body) else f"curl -X {method} {quoted}"]
    if operation.auth != "none":
        token = "$ACCESS_TOKEN" if operation.auth == "login" else "$HELIXFLOW_API_KEY"  # their names
        lines.append(f'-H "Authorization: Bearer {token}"')
    if operation.form is not None:
        lines += [f"-F {name}={value}" for name, value in operation.form.items()]
    elif has_body:
        lines += ['-H "Content-Type: application/json"', f"-d {_shell(pretty(operation.example_body))}"]
    return " \\\n  ".join(lines)


def _shell(text: str) -> str:
    if "$" in text:
        return '"' + text.replace('"', '\\"') + '"'
    return "'" + text.replace("\n", "\n  ") + "'"


def pretty(value: Any, indent: int = 0) -> str:
    """JSON that keeps what is short on one line."""
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (len(short) + indent <= SHORT and indent):
        return short
    if len(short) <= SHORT and not indent:
        return short
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(name)}: {pretty(each, indent + 2)}" for name, each in value.items()]
        return "{\n" + ",\n".join(inner) + f"\n{' ' * indent}}}"
    return "[\n" + ",\n".join(f"{pad}{pretty(each, indent + 2)}" for each in value) + f"\n{' ' * indent}]"


def markdown(text: str) -> SafeString:
    """The little of it that descriptions use: `code` and [links](/to)."""
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    safe = re.sub(r"\[([^\]]+)\]\((/[\w/#-]*)\)", r'<a href="\2">\1</a>', safe)
    return mark_safe(safe)  # noqa: S308  # escaped before


def _list(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _plural(kind: str) -> str:
    return {"string": "strings", "object": "objects", "integer": "integers", "number": "numbers"}.get(kind, kind)


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**31 - 1:
        return f" {low}–{high}" if low >= 0 else f" {low} to {high}".replace("-", "−")
    if low is not None and low > -(2**31):
        return f", at least {low}"
    longest = schema.get("maxLength")
    return f", at most {longest} characters" if longest and longest < 4096 else ""
