"""What an operation of the API is, beyond what its view's code tells: its name, words, answer and examples."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from rest_framework.serializers import Serializer

Auth = Literal["key", "login", "either", "none"]
Shape = Literal["one", "page", "plain", "lines"]  # in the envelope, a page of it, as it is, or as JSON Lines

TIME: Final = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``path`` is below ``/v1``. ``anchors`` are earlier addresses of it in the reference.

    ``body`` and ``query`` are the serializer, or the struct, that reads them. ``errors`` come on top of those that
    follow from ``auth`` and ``path``.
    """

    method: Literal["get", "post", "put", "patch", "delete"]
    path: str
    id: str
    tag: str
    summary: str
    text: str = ""
    auth: Auth = "login"
    body: type[Serializer[Any]] | type[msgspec.Struct] | None = None
    query: type[Serializer[Any]] | None = None
    answer: type[msgspec.Struct]
    shape: Shape = "one"
    status: int = 200
    stream: type[msgspec.Struct] | None = None
    example_query: str = ""
    example_body: dict[str, Any] | None = None
    form: dict[str, str] | None = None  # in place of an example of JSON: fields of multipart/form-data
    example: Any = None
    errors: tuple[int, ...] = ()
    anchors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()  # of the request, by their names in components
    optional_body: bool = False

    @property
    def takes_openai(self) -> bool:
        return self.body is not None and issubclass(self.body, msgspec.Struct)

    @property
    def key(self) -> tuple[str, str]:
        return self.path, self.method


@dataclass(frozen=True)
class Tag:
    """A chapter of the reference: ``/docs/api/<slug>``."""

    name: str
    slug: str
    text: str
    operations: tuple[Operation, ...] = field(default=())


def envelope(data: Any) -> dict[str, Any]:
    return {"data": data, "meta": {"timestamp": TIME, "request_id": "req_…"}}


def page(*data: Any) -> dict[str, Any]:
    return {"data": list(data), "meta": {"timestamp": TIME, "request_id": "req_…", "next_cursor": None}}
