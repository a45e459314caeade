"""Middleware of the control plane; the data plane (``inference.gateway``) has its own, cheaper ways."""

import logging
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, HttpResponseNotAllowed

from accounts import audit, impersonation
from helixflow.lib import ids, log
from helixflow.lib.errors import AuthorizationFailed, HelixError, MethodNotAllowed, ServiceUnavailable
from helixflow.views import OUTAGES, error_response

GetResponse = Callable[[HttpRequest], HttpResponseBase]
logger = logging.getLogger(__name__)


class RequestIdMiddleware:
    """Gives every answer an X-Request-ID made here; a caller's own only goes into the logs."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.request_id = ids.new_id(ids.REQUEST)  # type: ignore[attr-defined]  # read by views and templates
        ours = log.request_id.set(request.request_id)  # type: ignore[attr-defined]  # HttpRequest has it from RequestIdMiddleware
        theirs = log.client_request_id.set(log.clean_client_request_id(request.headers.get("X-Request-ID", "")))
        try:
            response = self.get_response(request)
        finally:
            log.request_id.reset(ours)
            log.client_request_id.reset(theirs)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]  # HttpRequest has it from RequestIdMiddleware
        return response


class ClientAddressMiddleware:
    """Sets REMOTE_ADDR from X-Forwarded-For, believing exactly HELIXFLOW_TRUSTED_PROXIES hops and none by default.

    From there sessions and the audit log know where a request came from.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.TRUSTED_PROXIES:
            hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
            if len(hops) >= settings.TRUSTED_PROXIES:
                request.META["REMOTE_ADDR"] = hops[-settings.TRUSTED_PROXIES]
        with audit.calling_from(request.META.get("REMOTE_ADDR") or "", request.headers.get("User-Agent", "")):
            return self.get_response(request)


class PrivatePagesMiddleware:
    """What was made with a look at the session is its owner's: no cache on the way keeps it, no browser shows it again.

    Views that say how their answer may be cached are left alone. Outside of SessionMiddleware.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        session = getattr(request, "session", None)
        if session is not None and session.accessed and "Cache-Control" not in response:
            # After an outage the session may not have been read, and to try again would take as long, and fail as well.
            is_somebodys = response.status_code >= 500 or "_auth_user_id" in session
            response["Cache-Control"] = "private, no-store" if is_somebodys else "private, no-cache"
        return response


class SupportViewMiddleware:
    """While an operator looks at an organization as support, only what is looked at comes through: no change, no file.

    ``request.viewing`` is what they look at, else None. Inside of AuthenticationMiddleware.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not self._concerns(request) or impersonation.KEY not in request.session:
            return self.get_response(request)
        viewing = impersonation.current(request)
        request.viewing = viewing  # type: ignore[attr-defined]  # read by accounts.access and the banner
        if viewing is None:
            return self.get_response(request)
        if why := impersonation.refusal(request):
            return error_response(request, AuthorizationFailed(why))
        response = self.get_response(request)
        if "attachment" in response.get("Content-Disposition", ""):
            response.close()
            return error_response(request, AuthorizationFailed(impersonation.NOT_SHOWN))
        return response

    @staticmethod
    def _concerns(request: HttpRequest) -> bool:
        """Public pages have nothing of an organization, and the API has no sessions: neither is asked for one."""
        if request.path.startswith(("/v1/", "/admin/")):
            return False
        return request.path.startswith("/dashboard") or request.method not in {"GET", "HEAD", "OPTIONS"}


class ErrorMiddleware:
    """PostgreSQL or Redis out of reach is a 503 with Retry-After, as a page or as JSON, never a 500.

    A HelixError of a page (``accounts.access``) is rendered as itself; those of the API end in ``helixflow.lib.drf``.
    Django's decorators answer a wrong method with an empty 405: it gets a page too.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            return error_response(request, MethodNotAllowed(allowed=tuple(response["Allow"].split(", "))))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        if isinstance(exception, HelixError):
            return error_response(request, exception)
        if not isinstance(exception, OUTAGES):
            return None
        logger.error("a dependency is down: %s", exception.__class__.__name__)
        return error_response(request, ServiceUnavailable(retry_after=5))
