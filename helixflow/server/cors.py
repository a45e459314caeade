"""Browsers of other origins may call /v1 if HELIXFLOW_CORS_ORIGINS names them. Without it nothing is wrapped.

Credentials are bearer tokens, which pages send by hand: cookies are never allowed across origins, and so ``*`` is a
safe value for an installation whose keys are meant for browsers.
"""

import re
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from helixflow.lib import errors, ids
from helixflow.server.cycle import render

LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
ORIGIN = re.compile(rf"https?://({LABEL}(\.{LABEL})*|\[[0-9a-f:]+\])(:\d{{1,5}})?")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EXPOSED = (
    "Idempotent-Replayed",
    "Retry-After",
    "X-HelixFlow-Cache",
    "X-HelixFlow-Fallback-Model",
    "X-HelixFlow-First-Request",
    "X-HelixFlow-Upstream",
    "X-RateLimit-Limit",
    "X-RateLimit-Limit-Month",
    "X-RateLimit-Remaining",
    "X-RateLimit-Remaining-Month",
    "X-RateLimit-Reset",
    "X-RateLimit-Reset-Month",
    "X-Request-ID",
    "X-Should-Retry",
)


class ApiCors(CORSMiddleware):
    """starlette's, with its own answers to preflights in our shape."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            response.headers["X-Request-ID"] = ids.new_id(ids.REQUEST)
            return response
        headers, body = render(errors.InvalidRequest(f"{bytes(response.body).decode()}."))
        refusal = Response(body, 400)
        refusal.raw_headers = [*headers, (b"vary", response.headers["vary"].encode())]
        return refusal


def allow_origins(app: Any, origins: list[str]) -> Any:
    """``app`` with /v1 open to ``origins``; ``app`` itself if there are none."""
    if not origins:
        return app
    check(origins)
    # Any request header: clients add their own (x-stainless-…), and none of them opens anything by itself.
    api = ApiCors(
        app, allow_origins=origins, allow_methods=METHODS, allow_headers=("*",), expose_headers=EXPOSED, max_age=7200
    )

    async def with_cors(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        await (api if path.startswith("/v1/") or path == "/v1" else app)(scope, receive, send)

    return with_cors


def check(origins: list[str]) -> None:
    if origins == ["*"]:
        return
    for origin in origins:
        if origin == "*":
            raise ImproperlyConfigured("HELIXFLOW_CORS_ORIGINS must be * alone, or a list of origins.")
        if not ORIGIN.fullmatch(origin):
            raise ImproperlyConfigured(
                "HELIXFLOW_CORS_ORIGINS must hold origins in lower case, such as https://app.example.com, "
                f"without a path or a slash at the end; {origin!r} is none."
            )
