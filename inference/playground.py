"""``POST /dashboard/playground/completions``: a session in place of an API key, then the gateway as for everybody.

A thread finds out who asks and for which organization; the request then goes on, in this process, under that member's
own key (``accounts.playground``), so that limits, ledger, streaming and disconnects are those of any other call.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import CSRFCheck

from accounts import access, impersonation, playground, roles
from accounts.models import Membership, User
from helixflow.lib import errors, log
from inference import gateway
from inference.responder import Receive, Responder, Scope, Send

CHECK_S: Final = 5.0
ORGANIZATION: Final = "X-HelixFlow-Organization"  # whose page it is: the session's choice may have changed meanwhile
# The browser's alone. Content-Type: of a form Django would look for the token in a body it hasn't got.
_NOT_FOR_THE_CHECK: Final = frozenset({b"content-type", b"content-length"})
_NOT_FOR_THE_GATEWAY: Final = frozenset({b"authorization", b"cookie", b"x-csrftoken"})

# Of its own: Django's threads may all be busy with pages.
_threads = ThreadPoolExecutor(4, "playground")


async def completions(scope: Scope, receive: Receive, send: Send) -> None:
    door = Responder(scope, receive, send)
    log.request_id.set(door.public_id)
    try:
        secret = await _secret(scope)
    except errors.HelixError as error:
        await door.send_error(error)
        return
    await gateway.chat_completions(_under_key(scope, secret), receive, send)


async def _secret(scope: Scope) -> str:
    if scope["method"] != "POST":
        raise errors.MethodNotAllowed("Use POST.", allowed=("POST",))
    try:
        async with asyncio.timeout(CHECK_S):
            return await asyncio.get_running_loop().run_in_executor(_threads, _secret_in_thread, scope)
    except (DatabaseError, TimeoutError):
        raise errors.ServiceUnavailable("Your session can't be checked at the moment. Try again.") from None


def _secret_in_thread(scope: Scope) -> str:
    close_old_connections()
    if connection.connection is None:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout TO '4s'")
    return playground.secret_of(membership_of(scope))


def membership_of(scope: Scope) -> Membership:
    """Who asks, and for which organization. Raises AuthenticationFailed, AuthorizationFailed, NotFound."""
    request = _request(scope)
    user = get_user(request)
    if not isinstance(user, User):
        raise errors.AuthenticationFailed("Your session is over. Log in again.")
    _check_csrf(request)
    impersonation.require_nobody(request.session)  # whichever organization is named
    named = request.headers.get(ORGANIZATION)
    membership = access.api_membership(user, named) if named else access.session_membership(user, request.session)
    access.require(membership, roles.PLAYGROUND)
    return membership


def _request(scope: Scope) -> ASGIRequest:
    """What Django's own middleware would see of it, without the body."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _NOT_FOR_THE_CHECK]
    request = ASGIRequest({**scope, "headers": headers}, BytesIO())
    engine: Any = import_module(settings.SESSION_ENGINE)
    request.session = engine.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    return request


def _check_csrf(request: ASGIRequest) -> None:
    """Django's own check of token and Origin. Raises AuthorizationFailed."""
    check = CSRFCheck(_view)
    check.process_request(request)
    if check.process_view(request, _view, (), {}):
        raise errors.AuthorizationFailed(
            "This page was open for too long. Reload it and try again: what you typed stays."
        )


def _view(_: HttpRequest) -> HttpResponse:
    """What Django's check stands in front of: nothing, for the gateway is no view."""
    return HttpResponse()


def _under_key(scope: Scope, secret: str) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name not in _NOT_FOR_THE_GATEWAY]
    return {**scope, "headers": [*headers, (b"authorization", f"Bearer {secret}".encode())]}
