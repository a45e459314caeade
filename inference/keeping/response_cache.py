"""The response cache: what an organization asked before gets the answer it got then (docs/response-cache.md).

Opt-in by organization, never across organizations, and only for requests whose answer would be the same again. It is a
help and no more: with Redis away everything is a miss.
"""

import hashlib
import logging
import re
import uuid
from collections.abc import Iterable
from typing import Any, Final, Self

import msgspec

from helixflow.lib import redis
from inference.keeping import room
from inference.keeping.kept import MAX_BODY, KeptAnswer
from inference.keeping.sealing import Seal, Unopenable

logger = logging.getLogger(__name__)

# Who asks, and notes of theirs: the answer does not depend on them.
LABELS: Final = ("user", "safety_identifier", "metadata")
MAX_SECONDS: Final = 2**31  # RFC 9111, 1.2.2: larger ones count as this

_get = room.script("get")
_put = room.script("room", "put")
_canonical: Final = msgspec.json.Encoder(order="deterministic").encode
# RFC 9110, 5.6: a token, and perhaps a token or a quoted string after it. What is neither matches nothing.
_DIRECTIVE: Final = re.compile(rb"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=("(?:[^"\\]|\\.)*"|[^\s,"]*))?\s*(?:,|\Z)""")


def cacheable(request: Any) -> bool:
    """Whether the same request would have the same answer, as far as models can promise.

    Embeddings have no temperature. What has effects (``store``) or looks at the world (``web_search_options``) is sent.
    """
    if getattr(request, "store", None) or getattr(request, "web_search_options", None) is not None:
        return False
    if "temperature" not in request.__struct_fields__:
        return True
    return getattr(request, "temperature", None) == 0 or getattr(request, "seed", None) is not None


class Directives(msgspec.Struct, frozen=True):
    """What a request's Cache-Control asks. ``max_age_s``: how old an answer may be."""

    reads: bool = True
    writes: bool = True
    max_age_s: int | None = None

    @classmethod
    def parse(cls, values: Iterable[bytes]) -> Self:
        """Of all the header's lines. What is malformed or not known is ignored; of several the strictest counts."""
        found: dict[bytes, bytes] = {}
        ages: list[int] = []
        for match in _directives(b",".join(values)):
            name, value = match[1].lower(), (match[2] or b"").strip(b'"')
            if name == b"max-age" and value.isdigit():
                ages.append(int(value) if len(value) <= 10 else MAX_SECONDS)
            else:
                found[name] = value
        stores = b"no-store" not in found
        age = min(*ages, MAX_SECONDS) if ages else None
        return cls(reads=stores and b"no-cache" not in found and age != 0, writes=stores, max_age_s=age)


class Entry:
    """Where the answer to one request is kept: only for the same organization, operation and request."""

    __slots__ = ("_key", "_organization_id", "_seal")

    def __init__(self, organization_id: uuid.UUID, operation: str, request: Any) -> None:
        digest = hashlib.sha256(operation.encode() + b"\0" + canonical(request)).digest()
        self._organization_id = organization_id
        self._seal = Seal.derive(b"response cache", organization_id.bytes, secret=digest)
        self._key = room.key(organization_id, self._seal.name)

    async def get(self, directives: Directives, ttl_s: int) -> KeptAnswer | None:
        """``ttl_s`` is the organization's, which may be shorter now than when the answer was stored. Never raises."""
        if not directives.reads:
            return None
        try:
            sealed = await room.run(_get, (self._key,))
            answer = None if sealed is None else room.open_(self._seal, sealed)
        except redis.RedisError:
            return None
        except Unopenable:
            logger.exception("an answer in the response cache could not be opened")
            return None
        oldest = ttl_s if directives.max_age_s is None else min(ttl_s, directives.max_age_s)
        return answer if answer is not None and answer.age_s <= oldest else None

    async def put(self, answer: KeptAnswer, directives: Directives, ttl_s: int) -> None:
        """Only whole answers of the model that was asked for. Never raises; what is too large is not stored."""
        if not directives.writes or len(answer.body) > MAX_BODY:
            return
        try:
            sealed = await room.close(self._seal, answer)
            await room.store(_put, self._organization_id, self._seal.name, ttl_s * 1000, sealed)
        except redis.RedisError:
            logger.info("an answer was not cached: Redis is away")


def canonical(request: Any) -> bytes:
    """The same bytes for what means the same, however it was written."""
    same: dict[str, Any] = {name: None for name in LABELS if name in request.__struct_fields__}
    if "stream" in request.__struct_fields__ and not getattr(request, "stream", None):
        same["stream"] = None
        if "stream_options" in request.__struct_fields__:
            same["stream_options"] = None
    return _canonical(msgspec.structs.replace(request, **same))


def _directives(value: bytes) -> Iterable[re.Match[bytes]]:
    """What is malformed is left out, up to the next comma."""
    at = 0
    while at < len(value):
        match = _DIRECTIVE.match(value, at)
        if match is not None:
            yield match
            at = match.end()
        else:
            comma = value.find(b",", at)
            at = len(value) if comma < 0 else comma + 1
