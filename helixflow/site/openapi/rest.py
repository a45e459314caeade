"""The paths of Django REST framework's views, as drf-spectacular finds them, told by ``Operation``s."""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import spectacular_settings

from helixflow.site.openapi.operations import Operation

PREFIX: Final = "/v1"
PATCHES: Final = {"OAS_VERSION": "3.1.0", "ENUM_GENERATE_CHOICE_DESCRIPTION": False, "POSTPROCESSING_HOOKS": []}
Operations = Mapping[tuple[str, str], Operation]
Found = dict[str, dict[str, dict[str, Any]]]


def describe(known: Operations) -> tuple[Found, dict[str, Any]]:
    """Every path below /v1 of the control plane by method, and the schemas of what their serializers read.

    One that ``known`` doesn't tell of is there all the same, under a name of drf-spectacular's making.
    """
    spectacular_settings.apply_patches(PATCHES)  # type: ignore[no-untyped-call]  # drf-spectacular's own
    try:
        with GENERATOR_STATS.silence():  # it misses serializers of answers, which we describe ourselves
            found = _Generator(known).get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # the same
    finally:
        spectacular_settings.clear_patches()  # type: ignore[no-untyped-call]  # drf-spectacular's own
    paths = {_plain(path): methods for path, methods in found["paths"].items() if path.startswith(f"{PREFIX}/")}
    return paths, dict(found.get("components", {}).get("schemas", {}))


def _plain(path: str) -> str:
    return path.removeprefix(PREFIX).rstrip("/")


class _Generator(SchemaGenerator):
    def __init__(self, known: Operations) -> None:
        super().__init__(urlconf="helixflow.urls")  # type: ignore[no-untyped-call]  # the same
        self._known = known

    def create_view(self, callback: Any, method: str, request: Any = None) -> Any:
        view = super().create_view(callback, method, request)  # type: ignore[no-untyped-call]  # the same
        schema = _Schema(self._known)
        schema.view = view
        view.schema = schema
        return view


class _Schema(AutoSchema):
    """One view's. Answers, tags and words are put in by ``document``."""

    def __init__(self, known: Operations) -> None:
        super().__init__()
        self._known = known

    @property
    def _operation(self) -> Operation | None:
        return self._known.get((_plain(self.path), self.method.lower()))

    def get_operation_id(self) -> str:
        if self._operation:
            return self._operation.id
        words = re.findall(r"[a-zA-Z]+", _plain(self.path))
        return self.method.lower() + "".join(word.capitalize() for word in words)

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        return ""

    def get_auth(self) -> list[Any]:
        return []

    def get_override_parameters(self) -> list[Any]:
        return [self._operation.query] if self._operation and self._operation.query else []

    def get_request_serializer(self) -> Any:
        body = self._operation.body if self._operation else None
        return body if body is None or not issubclass(body, msgspec.Struct) else None

    def _get_request_body(self, direction: Literal["request", "response"] = "request") -> Any:
        """drf-spectacular knows of no bodies of DELETE."""
        body = self.get_request_serializer()
        if self.method != "DELETE" or body is None:
            return super()._get_request_body(direction)  # type: ignore[no-untyped-call]  # the same
        component = self.resolve_serializer(body(), direction)
        return {"content": {"application/json": {"schema": component.ref}}}

    def get_response_serializers(self) -> Any:
        return None

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False
