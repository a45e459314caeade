"""What a request's headers ask of the data plane."""

import math
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from helixflow.lib import errors, log


class Asked(msgspec.Struct):
    """``timeout_s``: the caller's own deadline for the whole answer. ``fallback``: another model may answer."""

    authorization: list[bytes] = []
    content_type: bytes = b""
    content_length: bytes = b""
    content_encoding: bytes = b""
    fallback: bool = True
    idempotency_key: str | None = None
    cache_control: list[bytes] = []
    timeout: bytes = b""
    timeout_s: float | None = None

    def check(self) -> None:
        """Once it is known who asks. Raises UnsupportedMediaType and InvalidRequest."""
        if self.content_encoding not in {b"", b"identity"}:
            raise errors.UnsupportedMediaType
        if self.content_type.partition(b";")[0].strip().lower() != b"application/json":
            raise errors.UnsupportedMediaType
        if self.timeout:
            self.timeout_s = _seconds(self.timeout)


NOTHING: Final = Asked()


def read(headers: Iterable[tuple[bytes, bytes]]) -> Asked:
    asked = Asked()
    for name, value in headers:
        if name == b"authorization":
            asked.authorization.append(value)
        elif name == b"content-type":
            asked.content_type = value
        elif name == b"content-length":
            asked.content_length = value
        elif name == b"content-encoding":
            asked.content_encoding = value.lower()
        elif name == b"x-request-id":
            log.client_request_id.set(log.clean_client_request_id(value.decode("latin-1")))
        elif name == b"idempotency-key":
            asked.idempotency_key = value.decode("latin-1").strip()
        elif name == b"cache-control":
            asked.cache_control.append(value)
        elif name == b"x-helixflow-fallback":
            asked.fallback = value.strip().lower() != b"off"
        elif name == b"x-helixflow-timeout":
            asked.timeout = value
    return asked


def _seconds(value: bytes) -> float:
    with suppress(ValueError):
        seconds = float(value)
        if 0 < seconds < math.inf:
            return seconds
    raise errors.InvalidRequest("X-HelixFlow-Timeout must be a number of seconds above 0, such as 30 or 2.5.")
