"""WebSockets of the dashboard for tests: opened as a browser does, on a real web process."""

from contextlib import AbstractContextManager

from django.conf import settings
from django.test import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from accounts.models import User

PATH = "/dashboard/live"
NUDGE = '{"type":"usage"}'


def cookie_of(user: User) -> str:
    """Of a new session."""
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def opened(
    site: str, cookie: str = "", *, origin: str | None = None, path: str = PATH
) -> AbstractContextManager[ClientConnection]:
    """``site`` is the server's address, and ``origin`` the same unless one is given."""
    headers = {"Cookie": cookie} if cookie else {}
    return connect(
        site.replace("http", "ws", 1) + path,
        origin=Origin(site if origin is None else origin),
        additional_headers=headers,
        open_timeout=10,
        close_timeout=5,
    )


def code_of(ended: ConnectionClosed) -> int:
    """Why the server ended it."""
    assert ended.rcvd is not None
    return ended.rcvd.code


def hear_all(socket: ClientConnection, *, silence_s: float) -> list[str | bytes]:
    """What comes until nothing has come for so long. Raises ConnectionClosed."""
    heard = []
    while True:
        try:
            heard.append(socket.recv(silence_s))
        except TimeoutError:
            return heard
