"""Every address of the control plane, read from the URL list itself, so that a new page cannot be forgotten."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

_NOT_OURS = ("admin", "__debug__")
_CONVERTED = re.compile(r"<(?:[a-z_]+:)?([A-Za-z_]+)>")
_NAMED_GROUP = re.compile(r"\(\?P<([A-Za-z_]+)>(?:[^()]|\([^()]*\))*\)")


@dataclass(frozen=True, order=True)
class Route:
    """``template`` has its parameters in braces, as ``str.format`` takes them; ``/dashboard/api-keys/{key_id}``."""

    template: str
    name: str = ""

    @property
    def parameters(self) -> frozenset[str]:
        return frozenset(re.findall(r"{([A-Za-z_]+)}", self.template))

    @property
    def is_api(self) -> bool:
        return self.template.startswith("/v1/")

    @property
    def is_dashboard(self) -> bool:
        return self.template == "/dashboard" or self.template.startswith("/dashboard/")


@cache
def routes() -> list[Route]:
    """Without the admin's, which Django makes, and the patterns that catch what nobody else does."""
    found = (Route(f"/{path}", name) for path, name in _walk(get_resolver().url_patterns, "") if not _catches_all(path))
    return sorted(set(found))


def _walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        path = prefix + _template(str(pattern.pattern))
        if path.startswith(_NOT_OURS):
            continue
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path, pattern.name or ""


def _template(text: str) -> str:
    text = _CONVERTED.sub(r"{\1}", text) if "(?P" not in text else _NAMED_GROUP.sub(r"{\1}", text)
    return text.removeprefix("^").removesuffix("$").removesuffix("/?").replace("\\.", ".").replace("\\Z", "")


def _catches_all(path: str) -> bool:
    return any(mark in path for mark in (".+", "(?:"))
