"""What the API answers, as Python objects: dictionaries whose fields are attributes too."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Mapping

if TYPE_CHECKING:
    from typing_extensions import Self


class Object(dict):  # type: ignore[type-arg]  # of str and Any; dict[…] as a base costs a look-up on each access
    """A JSON object: ``answer.usage.total_tokens`` and ``answer["usage"]["total_tokens"]`` are the same.

    Fields nobody knew when this package was made are there as well. Documented ones that the API left out are None as
    attributes, and a KeyError by ``[]``.
    """

    __slots__ = ()
    # Field → class of the objects in it, taken from the annotations when the class is first used.
    _fields: ClassVar[dict[str, type[Object]] | None] = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """``data`` as an object of this class, and what is in it as objects of theirs."""
        fields = cls.__dict__.get("_fields") or cls._learn()
        made = cls(data)
        for name, value in data.items():
            kind = type(value)
            if kind is dict or kind is Object:  # an Object was read without knowing where it belongs
                dict.__setitem__(made, name, fields.get(name, Object).read(value))
            elif kind is list and value and type(value[0]) not in _NUMBERS:
                dict.__setitem__(made, name, _read_list(value, fields.get(name, Object)))
        return made

    @classmethod
    def _learn(cls) -> dict[str, type[Object]]:
        """``choices: list[Choice]`` means that objects in ``choices`` are of class Choice. Others are Objects."""
        found: dict[str, type[Object]] = {}
        for base in reversed(cls.__mro__):
            names = vars(sys.modules[base.__module__])
            for field, annotation in _annotations(base).items():
                if not field.startswith("_"):
                    classes = [names.get(word) for word in re.findall(r"[A-Z]\w*", str(annotation))]
                    ours = [one for one in classes if isinstance(one, type) and issubclass(one, Object)]
                    found[field] = ours[0] if ours else Object
        cls._fields = found
        return found

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            fields = type(self).__dict__.get("_fields") or self._learn()
            if name in fields:
                return None
            raise AttributeError(f"{type(self).__name__} has no field {name!r}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, all the way down: a copy."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"{type(self).__name__}({fields})"

    def __dir__(self) -> list[str]:
        return sorted(
            {*super().__dir__(), *map(str, dict.keys(self)), *(type(self).__dict__.get("_fields") or self._learn())}
        )


def _annotations(base: type) -> Mapping[str, Any]:
    """Those of the class itself: before Python 3.10 a class without any shows its parent's."""
    found: Mapping[str, Any] = (
        getattr(base, "__annotations__", {}) if sys.version_info >= (3, 10) else vars(base).get("__annotations__", {})
    )
    return found


_NUMBERS = (float, int)  # long lists of them, embeddings, are left as they are


def _read_list(values: list[Any], of: type[Object]) -> list[Any]:
    return [
        of.read(value)
        if type(value) is dict or type(value) is Object
        else (_read_list(value, of) if type(value) is list else value)
        for value in values
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


class Response(Object):
    """An answer as a whole, with what came in its headers."""

    __slots__ = ("_headers",)
    _headers: Mapping[str, str]

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer: names in any case. Empty for what was not an answer of its own."""
        return getattr(self, "_headers", None) or {}

    @property
    def request_id(self) -> str | None:
        """``req_…``: what to tell support."""
        return self.headers.get("x-request-id")
