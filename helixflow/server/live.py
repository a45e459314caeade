"""`/dashboard/live`: the WebSocket over which pages of the dashboard hear that their numbers changed (docs/live.md).

    meter ─ commit ─▶ helixflow.lib.live.nudge ─▶ Redis ─▶ Updates, one per socket ─▶ live.js ─▶ GET of the page's part

Nothing of an organization goes over it but the moment: pages are fetched as ever, with every check of theirs. Who may
listen is asked before anything is subscribed to, and again while the socket is open.
"""

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

import django.db
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.db import close_old_connections, connection, transaction
from django.http import HttpRequest
from django.http.request import validate_host
from redis import RedisError

from accounts import access
from accounts.web_sessions import SessionStore
from helixflow.lib import errors, live
from helixflow.server.websocket import refuse

NUDGE: Final = '{"type":"usage"}'
INTERVAL_S: Final = 0.5  # between two nudges to one socket
RECHECK_S: Final = 30.0
LOOK_S: Final = 4.0  # for PostgreSQL to say who that is
PER_USER: Final = 20  # in this process, as the next
PER_PROCESS: Final = 1_000
PATIENCE: Final = 10  # messages of a peer beyond one a second
AWAY_S: Final = 2.0  # in which Redis is not asked again

ENDED: Final = 4401  # no longer who the socket was opened for
FLOODED: Final = 1008
TRY_LATER: Final = 1013

_threads = ThreadPoolExecutor(2, "live")  # SQL is waited for here, never on the event loop


class TooManySockets(errors.RateLimitExceeded):
    default_message = "Too many pages are open at once."


@dataclass(frozen=True, slots=True)
class Viewer:
    user_id: uuid.UUID
    organization_id: uuid.UUID


class Places:
    """How many sockets are open in this process, and whose."""

    def __init__(self) -> None:
        self.taken: Counter[uuid.UUID] = Counter()

    @contextlib.contextmanager
    def one(self, user_id: uuid.UUID) -> Iterator[None]:
        """Raises TooManySockets, ServiceUnavailable."""
        if self.taken[user_id] >= PER_USER:
            raise TooManySockets
        if self.taken.total() >= PER_PROCESS:
            raise errors.ServiceUnavailable("Too many pages are open. Try again.", retry_after=30)
        self.taken[user_id] += 1
        try:
            yield
        finally:
            self.taken[user_id] -= 1
            if not self.taken[user_id]:
                del self.taken[user_id]


class Updates(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One open page. Sends ``NUDGE`` for every nudge of its organization, or one for several that come at once."""

    def __init__(self, viewer: Viewer, session_key: str) -> None:
        super().__init__()
        self.viewer = viewer
        self.session_key = session_key
        self.group = live.group(viewer.organization_id)
        self.loop = asyncio.get_running_loop()
        self.opened_at = self.loop.time()
        self.sent_at = 0.0
        self.messages = 0
        self.later: asyncio.Task[None] | None = None
        self.watch: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        self.watch = self.loop.create_task(self._watch())

    async def disconnect(self, code: int) -> None:
        for task in (self.later, self.watch):
            if task is not None:
                task.cancel()
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """A browser can't see that its connection is dead unless it says something now and then."""
        self.messages += 1
        if text_data != "ping" or self.messages > PATIENCE + self.loop.time() - self.opened_at:
            await self.close(FLOODED)
        else:
            await self.send(text_data="pong")

    async def usage(self, _: dict[str, Any]) -> None:
        """A nudge came (``live.USAGE``)."""
        if self.later is None or self.later.done():
            wait_s = max(0.0, self.sent_at + INTERVAL_S - self.loop.time())
            self.later = self.loop.create_task(self._nudge(wait_s))

    async def _nudge(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self.sent_at = self.loop.time()
        with contextlib.suppress(OSError, RuntimeError):  # it has just been closed
            await self.send(text_data=NUDGE)

    async def _watch(self) -> None:
        """Until the session is over, its user is out of the organization, or nobody can tell."""
        code = None
        while code is None:
            await asyncio.sleep(RECHECK_S * random.uniform(0.8, 1.0))  # noqa: S311  # spreads them
            try:
                if await _look(self.session_key) != self.viewer:
                    code = ENDED
            except errors.HelixError as error:
                code = TRY_LATER if isinstance(error, errors.ServiceUnavailable) else ENDED
        with contextlib.suppress(OSError, RuntimeError):  # as above
            await self.close(code)


places = Places()
_redis_away_until = 0.0


async def socket(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application at this address."""
    global _redis_away_until  # noqa: PLW0603  # one process has one channel layer
    try:
        check_origin(scope)
        session_key = _session_key(scope)
        viewer = await _look(session_key)
        if asyncio.get_running_loop().time() < _redis_away_until:
            raise errors.ServiceUnavailable(retry_after=30)
        with places.one(viewer.user_id):
            await _run(Updates(viewer, session_key), scope, receive, send)
    except RedisError:
        _redis_away_until = asyncio.get_running_loop().time() + AWAY_S
        await refuse(errors.ServiceUnavailable(retry_after=30), scope, send)
    except errors.HelixError as error:
        await refuse(error, scope, send)


async def unknown(scope: Any, receive: Any, send: Any) -> None:
    """Every other address, those of ``/v1`` among them."""
    await refuse(errors.NotFound("There is no WebSocket at this address."), scope, send)


async def _run(consumer: Updates, scope: Any, receive: Any, send: Any) -> None:
    """Raises RedisError if Redis can't be listened to. One that goes later is waited for by the layer."""
    accepted = False

    async def noted(message: Any) -> None:
        nonlocal accepted
        accepted = accepted or message["type"] == "websocket.accept"
        await send(message)

    try:
        await consumer(scope, receive, noted)
    except RedisError:
        if not accepted:
            raise
        with contextlib.suppress(OSError, RuntimeError):  # its peer may have left first
            await send({"type": "websocket.close", "code": TRY_LATER})


def check_origin(scope: Any) -> None:
    """Raises AuthorizationFailed: any page on the web can open a socket here, and the browser adds the cookie."""
    given: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin = given.get(b"origin", "")
    if origin == settings.PUBLIC_URL:
        return
    host = given.get(b"host", "")
    with contextlib.suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        known = validate_host(f"[{name}]" if ":" in name else name, settings.ALLOWED_HOSTS)
        if known and origin == f"{'https' if settings.HTTPS else 'http'}://{host}":
            return
    raise errors.AuthorizationFailed("Pages of other sites may not listen here.")


def _session_key(scope: Any) -> str:
    """Empty if the peer has no session."""
    cookies: SimpleCookie = SimpleCookie()
    with contextlib.suppress(CookieError):
        for name, value in scope["headers"]:
            if name == b"cookie":
                cookies.load(value.decode("latin-1"))
    morsel = cookies.get(settings.SESSION_COOKIE_NAME)
    return morsel.value if morsel else ""


async def _look(session_key: str) -> Viewer:
    """Whose session that is and which organization it looks at. Raises HelixError."""
    if not session_key:
        raise errors.AuthenticationFailed
    try:
        async with asyncio.timeout(LOOK_S + 1):
            return await asyncio.get_running_loop().run_in_executor(_threads, _viewer, session_key)
    except (TimeoutError, django.db.Error):
        raise errors.ServiceUnavailable(retry_after=30) from None


def _viewer(session_key: str) -> Viewer:
    """In a thread, by the rules of the pages."""
    close_old_connections()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LOOK_S:.0f}s"])
            request = HttpRequest()
            request.session = SessionStore(session_key)
            user = get_user(request)
            if not user.is_authenticated:
                raise errors.AuthenticationFailed
            request.user = user
            membership = access.page_membership(request)
            return Viewer(membership.user_id, membership.organization_id)
    finally:
        close_old_connections()
