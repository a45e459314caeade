"""The OpenAPI description: valid, whole, and true to what is read. tests/e2e/test_docs.py holds real answers to it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from openapi_spec_validator import validate
from pytest_django import DjangoAssertNumQueries

from helixflow import asgi
from helixflow.site.openapi import document, reference, words
from tests.described import problems

METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document.encoded()[0])
    return found


def plain(pattern: str) -> str:
    """The path of a URL pattern, as the description writes it."""
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern)
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)
    path = re.sub(r"\((\w+)/\)\?", "", path)  # (v1/)?health
    return "/" + path.replace("/?$", "").replace("\\", "").strip("^$/")


def addresses(patterns: list[URLPattern | URLResolver], before: str = "") -> list[tuple[str, Any]]:
    found = []
    for each in patterns:
        pattern = before + str(each.pattern).removeprefix("^")
        if isinstance(each, URLResolver):
            found += addresses(each.url_patterns, pattern)
        else:
            found.append((pattern, each.callback))
    return found


def methods_of(view: Any) -> set[str]:
    """Those that the view answers. A plain view that says none is taken to be for GET."""
    kind = getattr(view, "cls", None) or getattr(view, "view_class", None)
    return {method for method in METHODS if hasattr(kind, method)} if kind else {"get"}


def test_it_is_valid(described: dict[str, Any]) -> None:
    validate(described)
    assert described["openapi"].startswith("3.1")


def test_every_address_under_v1_is_described(described: dict[str, Any]) -> None:
    served = {
        (plain(pattern).removeprefix("/v1"), method)
        for pattern, view in addresses(get_resolver().url_patterns)
        if pattern.startswith("v1/")
        for method in methods_of(view)
    }
    for pattern in asgi.routes:
        if "v1/" in pattern:
            path = plain(pattern).removeprefix("/v1")
            served.add((path, "get" if path == "/health" else "post"))
    told = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert served == told
    unnamed = {key for key in served if key not in document.OPERATIONS}
    assert unnamed == set(), "tell of them in helixflow/site/openapi/*_operations.py"


def test_names_of_operations_are_stable_words(described: dict[str, Any]) -> None:
    names = [each["operationId"] for methods in described["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][A-Za-z]*)*", name)] == []


def test_each_field_and_parameter_is_explained(described: dict[str, Any]) -> None:
    silent: list[tuple[str, ...]] = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", ()):
                if not parameter.get("description", "$ref" in parameter):
                    silent += [(path, method, parameter["name"])]
            (media,) = operation.get("requestBody", {"content": {"": {}}})["content"].values()
            schema = media.get("schema", {})
            if "$ref" in schema:
                name = schema["$ref"].rpartition("/")[2]
                fields = described["components"]["schemas"][name].get("properties", {})
                silent += [(name, field) for field, told in fields.items() if not told.get("description")]
    assert silent == [], "explain them in helixflow/site/openapi/words.py"


def test_nothing_is_explained_that_is_not_there(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    gone = [
        (name, field)
        for name, fields in words.FIELDS.items()
        for field in fields
        if field not in schemas.get(name, schemas.get(f"Patched{name}", {})).get("properties", {})
    ]
    assert gone == []


def test_examples_fit_their_schemas(described: dict[str, Any]) -> None:
    wrong = {}
    for methods in described["paths"].values():
        for operation in methods.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            media = [body["content"].get("application/json", {}) for body in bodies if "content" in body]
            found = [
                text
                for each in media
                if "example" in each
                for text in problems(described, each["schema"], each["example"])
            ]
            if found:
                wrong[operation["operationId"]] = found
    assert wrong == {}


def test_errors_are_told_of_with_one_schema(described: dict[str, Any]) -> None:
    for told in described["components"]["responses"].values():
        media = told["content"]["application/json"]
        assert problems(described, media["schema"], media["example"]) == []
    without = [
        operation["operationId"]
        for methods in described["paths"].values()
        for operation in methods.values()
        if operation.get("security") and not {"401", "403", "500"} <= operation["responses"].keys()
    ]
    assert without == []


@pytest.mark.django_db
def test_it_is_served_to_anybody_without_a_query(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        answer = client.get("/v1/openapi.json")
    assert answer["Content-Type"] == "application/json"
    assert "public" in answer["Cache-Control"]
    assert answer.json()["servers"][0]["url"].endswith("/v1")
    again = client.get("/v1/openapi.json", headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    refused = client.post("/v1/openapi.json")
    assert refused.status_code == 405
    assert refused.json()["error"]["code"] == "invalid_request"


def test_it_is_written_to_a_file(tmp_path: Path, described: dict[str, Any]) -> None:
    call_command("openapi", str(tmp_path / "openapi.json"))
    assert json.loads((tmp_path / "openapi.json").read_text()) == described


def test_the_reference_shows_ranges_defaults_and_what_is_needed() -> None:
    chapters = {chapter.slug: chapter for chapter in reference.chapters()}
    chat = {field.name: field for field in chapters["chat"].operations[0].body}
    assert chat["model"].needed
    assert (chat["temperature"].type, chat["temperature"].needed) == ("number 0–2, default 1", False)
    assert chat["presence_penalty"].type == "number −2 to 2, default 0"
    assert [field.name for field in chat["stream_options"].fields] == ["include_usage", "include_obfuscation"]
    told = {(each.method, each.path) for chapter in chapters.values() for each in chapter.operations}
    assert told == {(method.upper(), path) for path, method in document.OPERATIONS}
