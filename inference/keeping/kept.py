"""An answer that is kept: what its caller got, in the bytes they got it in. Pure."""

import time
import zlib
from typing import Final, Self

import msgspec

MAX_BODY: Final = 1024 * 1024
WORTH_DEFLATING: Final = 1024
PLAIN, DEFLATED = b"\0", b"\1"


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer of status 200. ``id`` and ``created`` are those printed in it; ``kept_at`` is by the clock."""

    body: bytes
    content_type: str
    upstream: str  # the deployment that gave it
    fallback_model: str = ""  # whose that is, where it stood in for the model that was asked
    id: str = ""
    created: int = 0
    request_id: str = ""  # of the request that was answered, whose receipt it is
    cached: bool = False  # it came from the response cache, and cost nothing
    kept_at: float = msgspec.field(default_factory=time.time)

    @property
    def streamed(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    @property
    def age_s(self) -> float:
        return max(0.0, time.time() - self.kept_at)

    def said_again(self) -> list[tuple[bytes, bytes]]:
        """Headers for who sends the request again."""
        headers = [(b"idempotent-replayed", b"true")]
        if self.request_id:
            headers.append((b"x-helixflow-first-request", self.request_id.encode()))
        if self.cached:
            headers.append((b"x-helixflow-cache", b"hit"))
        return headers

    def renamed(self, new_id: str, created: int) -> Self:
        """The same answer to another request.

        Ids are drawn at random, so these bytes are nothing but the id; nor can the key and its quotes be in a text,
        where JSON writes quotes with a backslash.
        """
        if not self.id:
            return self
        body = self.body.replace(self.id.encode(), new_id.encode())
        body = body.replace(b'"created":%d,' % self.created, b'"created":%d,' % created)
        return msgspec.structs.replace(self, body=body, id=new_id, created=created)


class Recording:
    """Takes an answer down as it is sent, as long as it is small enough to be kept; ``head``: or else its beginning."""

    __slots__ = ("_head", "_parts", "_size")

    def __init__(self, *, head: bool = False) -> None:
        self._head = head
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        room = MAX_BODY - self._size
        self._size += len(part)
        if self._size <= MAX_BODY:
            self._parts.append(part)
        elif not self._head:
            self._parts.clear()
        elif room > 0:
            self._parts.append(part[:room])

    @property
    def is_cut(self) -> bool:
        return self._size > MAX_BODY

    @property
    def held_bytes(self) -> int:
        return min(self._size, MAX_BODY)

    def beginning(self) -> bytes:
        """As much of it as was taken down."""
        return b"".join(self._parts)

    def body(self) -> bytes | None:
        """None: it was too large."""
        return b"".join(self._parts) if self._size <= MAX_BODY else None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(KeptAnswer).decode


def pack(answer: KeptAnswer) -> bytes:
    """Streams shrink to a tenth, as each frame repeats the one before: more of them fit into the room."""
    packed = _encode(answer)
    return PLAIN + packed if len(packed) < WORTH_DEFLATING else DEFLATED + zlib.compress(packed, 1)


def unpack(packed: bytes) -> KeptAnswer:
    """Raises ValueError."""
    try:
        return _decode(packed[1:] if packed[:1] == PLAIN else zlib.decompress(packed[1:]))
    except (msgspec.DecodeError, zlib.error) as problem:
        raise ValueError(str(problem)) from None
