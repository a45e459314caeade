"""Limits for the bodies that Django reads: it would take a whole body to disk before any view could refuse it.

To a few addresses larger ones may be sent, but not by strangers: whose API key it is, is known before any of it is
read. Of those only some are taken at a time, as each lies on disk until it has arrived.
"""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from accounts import auth
from billing.admission import snapshots
from helixflow.lib import errors
from helixflow.server.cycle import Allowance, render
from inference.batch import lines, uploads

MIB: Final = 1024 * 1024
AT_ONCE: Final = 8  # in a process
OF_ONE: Final = 2  # of these for one organization
BUSY_S: Final = 5
# Slower than a fraction of an old telephone line: then it is not meant to end. 200 MB in the hour are 0.5 Mbit/s.
LEAST: Final = 64 * 1024  # bytes in each of the server's windows
WITHIN_S: Final = 3600.0

LARGER: Final[Mapping[str, int]] = {
    "/v1/files": uploads.MAX_BYTES + MIB,  # the form around the file
    "/v1/batches": lines.MAX_BYTES,
}


class _TooLarge(Exception):
    pass


class Bodies:
    """``app``, with 413 for a body of more than ``most`` bytes, declared or chunked; ``larger`` has more by path."""

    def __init__(self, app: Any, most: int, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._most = most
        self._larger = larger or {}
        self._arriving: Counter[uuid.UUID] = Counter()  # by organization

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length, is_chunked = _announced(scope["headers"])
        most = self._larger.get(scope["path"].rstrip("/"), self._most) if scope["method"] == "POST" else self._most
        try:
            if length <= self._most and not is_chunked:
                await self._app(scope, receive, send)
            elif most == self._most:
                await self._pass(scope, receive, send, length, most)
            else:
                with self._let_in(await _identify(scope)):
                    scope["departure"].allowance = Allowance(most, LEAST, WITHIN_S)
                    await self._pass(scope | {"is_large": True}, receive, send, length, most)
        except _TooLarge:
            await refuse(send, errors.BodyTooLarge(f"The request body is too large: {most:,} bytes are taken here."))
        except errors.HelixError as error:
            await refuse(send, error)

    async def _pass(self, scope: Any, receive: Any, send: Any, length: int, most: int) -> None:
        """Raises _TooLarge."""
        if length > most:
            raise _TooLarge
        await self._app(scope, counted(receive, most), send)

    @contextmanager
    def _let_in(self, organization_id: uuid.UUID) -> Iterator[None]:
        """Raises ServiceUnavailable where too many are under way."""
        if self._arriving[organization_id] >= OF_ONE or self._arriving.total() >= AT_ONCE:
            raise errors.ServiceUnavailable("Too many uploads at once. Try again in a moment.", retry_after=BUSY_S)
        self._arriving[organization_id] += 1
        try:
            yield
        finally:
            self._arriving[organization_id] -= 1
            if not self._arriving[organization_id]:
                del self._arriving[organization_id]


async def _identify(scope: Any) -> uuid.UUID:
    """The organization. Raises AuthenticationFailed, InvalidApiKey, AuthorizationFailed, ServiceUnavailable."""
    token = auth.bearer_token([value for name, value in scope["headers"] if name == b"authorization"])
    snapshot = await snapshots.cache.get(token)
    if not snapshot.enabled:
        raise errors.AuthorizationFailed("This organization is disabled, or is to be deleted: see its dashboard.")
    return snapshot.organization_id


def _announced(headers: Any) -> tuple[int, bool]:
    """The length, 0 where none is told; and whether the body comes in chunks."""
    length, is_chunked = 0, False
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # the parser has let digits through only
        elif name == b"transfer-encoding":
            is_chunked = True
    return length, is_chunked


def counted(receive: Any, most: int) -> Any:
    seen = 0

    async def receive_counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _TooLarge
        return message

    return receive_counted


async def refuse(send: Any, error: errors.HelixError) -> None:
    headers, body = render(error)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
