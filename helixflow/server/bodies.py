"""A limit for the bodies that Django reads: it would take a whole body to disk before any view could refuse it."""

from typing import Any

from helixflow.lib import errors
from helixflow.server.cycle import render


class _TooLarge(Exception):
    pass


def limited(app: Any, most: int) -> Any:
    """``app``, with 413 for a body of more than ``most`` bytes, declared or chunked."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        length = chunked = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value)  # the parser has let digits through only
            elif name == b"transfer-encoding":
                chunked = value
        if length is not None and length > most:
            await refuse(send)
        elif chunked is None:
            await app(scope, receive, send)
        else:
            try:
                await app(scope, counted(receive, most), send)
            except _TooLarge:
                await refuse(send)

    return application


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


async def refuse(send: Any) -> None:
    error = errors.BodyTooLarge()
    headers, body = render(error)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
