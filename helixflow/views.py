"""Pages and endpoints of the platform itself: health, error pages, unknown paths."""

import sys
from typing import Final

from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import is_valid_path
from django.views.decorators.csrf import csrf_exempt
from redis import RedisError

from helixflow.lib import errors

OUTAGES: Final = (OperationalError, InterfaceError, RedisError)  # of PostgreSQL or Redis: they will be back


def error_response(request: HttpRequest, error: errors.HelixError) -> HttpResponseBase:
    """``error`` as JSON under /v1, as a page elsewhere."""
    response: HttpResponse
    if is_api(request):
        response = JsonResponse(error.body(request.request_id), status=error.status)  # type: ignore[attr-defined]  # RequestIdMiddleware sets it
    else:
        response = render(request, "errors/error.html", {"error": error}, status=error.status)
    for name, value in error.headers().items():
        response[name] = value
    return response


def is_api(request: HttpRequest) -> bool:
    return request.path == "/v1" or request.path.startswith("/v1/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if isinstance(exception, RequestDataTooBig):
        return error_response(request, errors.BodyTooLarge("What you sent is too large."))
    return error_response(request, errors.InvalidRequest("The request could not be understood."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return error_response(request, errors.AuthorizationFailed())


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    return error_response(request, errors.NotFound())


@csrf_exempt
def unknown_endpoint(request: HttpRequest) -> HttpResponseBase:
    """Below /v1 nothing reads cookies, and a POST to a wrong path deserves a 404 as well."""
    return not_found(request)


def without_slash(request: HttpRequest) -> HttpResponseBase:
    """Typed with a slash at its end, a page is still found."""
    path = f"/{request.path_info.strip('/')}"  # one slash: two would lead to another site
    if request.method not in ("GET", "HEAD") or not is_valid_path(path):
        return not_found(request)
    query = request.META["QUERY_STRING"]
    return redirect(f"{path}?{query}" if query else path)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Called while the exception is handled: middleware's come here, where ``ErrorMiddleware`` can't see them."""
    if isinstance(sys.exc_info()[1], OUTAGES):
        return error_response(request, errors.ServiceUnavailable(retry_after=5))
    return error_response(request, errors.ServerError())


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    return error_response(
        request, errors.AuthorizationFailed("This form was open for too long. Go back, reload the page and try again.")
    )
