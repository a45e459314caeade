"""How Django REST framework speaks HelixFlow: strict JSON in, the envelope out, errors from the one tree."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import msgspec
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from redis import RedisError
from rest_framework import exceptions, negotiation, parsers, status
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from helixflow.lib import errors
from helixflow.lib.envelope import envelope

logger = logging.getLogger(__name__)
MAX_DEPTH = 64


def respond(request: Request, data: Any, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(envelope(data, request_id(request)), status=status_code)


def respond_page(request: Request, data: list[Any], next_cursor: str | None) -> Response:
    return Response(envelope(data, request_id(request), next_cursor=next_cursor, paged=True))


def request_id(request: Request) -> str:
    return str(getattr(request, "request_id", ""))  # set by RequestIdMiddleware on the HttpRequest below


class AlwaysJSON(negotiation.BaseContentNegotiation):
    """The API speaks JSON whatever Accept says."""

    def select_parser(self, request: Request, parsers: Iterable[parsers.BaseParser]) -> parsers.BaseParser | None:
        return negotiation.DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        only = next(iter(renderers))
        return only, only.media_type


class StrictJSONParser(parsers.BaseParser):
    """A JSON object in UTF-8: no NaN, no lone surrogates or NULs (PostgreSQL refuses them), depth at most 64."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            data = msgspec.json.decode(stream.read())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise errors.InvalidRequest(f"The body is not valid JSON: {error}") from None
        if not isinstance(data, dict):
            raise errors.InvalidRequest("The body must be a JSON object.")
        if any("\0" in text for text in _texts(data, depth=1)):
            raise errors.InvalidRequest("The body holds a NUL character.")
        return data


def _texts(value: Any, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise errors.InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, depth + 1)


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response | None:
    """An exception of a DRF view as the contract's error. None (a crash) is left to ``views.server_error``."""
    error = as_helix_error(exception)
    if error is None:
        return None
    request: Request = context["request"]
    return Response(error.body(request_id(request)), status=error.status, headers=error.headers())


def as_helix_error(exception: Exception) -> errors.HelixError | None:
    match exception:
        case errors.HelixError():
            return exception
        case exceptions.ValidationError():
            details = _details(exception.detail)
            param = next(iter(details), None)
            message = (
                f"{param}: {details[param]}" if param and param != "non_field_errors" else next(iter(details.values()))
            )
            return errors.InvalidRequest(message, param=param, details=details)
        case exceptions.ParseError():
            return errors.InvalidRequest(str(exception.detail))
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return errors.AuthenticationFailed(str(exception.detail))
        case exceptions.PermissionDenied() | PermissionDenied():
            return errors.AuthorizationFailed()
        case exceptions.NotFound() | Http404():
            return errors.NotFound()
        case exceptions.MethodNotAllowed():
            return errors.MethodNotAllowed()
        case exceptions.UnsupportedMediaType():
            return errors.UnsupportedMediaType()
        case exceptions.Throttled():
            return errors.RateLimitExceeded(retry_after=int(getattr(exception, "wait", None) or 1))
        case OperationalError() | InterfaceError() | RedisError():
            logger.error("a dependency is down: %s", exception.__class__.__name__)
            return errors.ServiceUnavailable(retry_after=5)
    return None


def _details(detail: Any) -> dict[str, str]:
    """DRF's nested detail as ``{"field": "what is wrong"}``."""
    if isinstance(detail, Mapping):
        return {str(field): " ".join(_details(inner).values()) for field, inner in detail.items()}
    if isinstance(detail, list):
        return {"non_field_errors": " ".join(" ".join(_details(inner).values()) for inner in detail)}
    return {"non_field_errors": str(detail)}
