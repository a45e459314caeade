"""The one tree of errors a caller can meet (contract §2), each with its code, status and OpenAI ``type``.

    HelixError
    ├── InvalidRequest        400   NotFound 404, MethodNotAllowed 405, BodyTooLarge 413, UnsupportedMediaType 415
    ├── AuthenticationFailed  401   InvalidApiKey
    ├── AuthorizationFailed   403
    ├── ModelNotFound         404
    ├── RateLimitExceeded     429   with Retry-After
    ├── InsufficientQuota     429   with X-Should-Retry: false
    ├── ServerError           500
    ├── ServiceUnavailable    503   with Retry-After
    └── UpstreamTimeout       503

Rendered in two places only: ``helixflow.lib.drf`` for Django and ``inference.exchange`` for the data plane.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from helixflow.lib import clock


class HelixError(Exception):
    code: ClassVar[str] = "server_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_message: ClassVar[str] = "Something went wrong on our side. Try again, and tell support if it stays."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        """``param`` names the one bad field; ``details`` maps each bad field to what is wrong with it.

        ``retry_after`` is in whole seconds.
        """
        self.message = message or self.default_message
        self.param = param
        self.details = dict(details) if details else ({param: self.message} if param else {})
        self.retry_after = retry_after
        super().__init__(self.message)

    def headers(self) -> dict[str, str]:
        """Headers that go with this error on every surface."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "details": self.details,
                "timestamp": clock.rfc3339(clock.now()),
                "request_id": request_id,
            }
        }


class InvalidRequest(HelixError):
    code = "invalid_request"
    status = 400
    type = "invalid_request_error"
    default_message = "The request is missing required parameters or holds invalid ones."


class NotFound(InvalidRequest):
    status = 404
    default_message = "There is nothing at this address."


class MethodNotAllowed(InvalidRequest):
    status = 405
    default_message = "This method is not allowed here."

    def __init__(self, message: str | None = None, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"Allow": ", ".join(self.allowed)} if self.allowed else {}


class BodyTooLarge(InvalidRequest):
    status = 413
    default_message = "The request body is too large."


class UnsupportedMediaType(InvalidRequest):
    status = 415
    default_message = "Send the body as application/json, without a Content-Encoding."


class AuthenticationFailed(HelixError):
    code = "authentication_failed"
    status = 401
    type = "authentication_error"
    default_message = "Credentials are missing or not valid."

    def headers(self) -> dict[str, str]:
        return super().headers() | {"WWW-Authenticate": "Bearer"}


class InvalidApiKey(AuthenticationFailed):
    code = "invalid_api_key"
    default_message = "The API key provided is invalid. Check it in your dashboard under API keys."


class AuthorizationFailed(HelixError):
    code = "authorization_failed"
    status = 403
    type = "permission_error"
    default_message = "You are not allowed to do this."


class ModelNotFound(HelixError):
    code = "model_not_found"
    status = 404
    type = "invalid_request_error"
    default_message = "The specified model does not exist."


class RateLimitExceeded(HelixError):
    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"
    default_message = "Rate limit exceeded. Wait for the time in Retry-After, then try again."


class InsufficientQuota(HelixError):
    code = "insufficient_quota"
    status = 429
    type = "insufficient_quota"
    default_message = "The monthly quota is spent."

    def headers(self) -> dict[str, str]:
        return super().headers() | {"X-Should-Retry": "false"}


class ServerError(HelixError):
    pass


class ServiceUnavailable(HelixError):
    code = "service_unavailable"
    status = 503
    type = "server_error"
    default_message = "The service is unavailable for a moment. Try again."

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(message, retry_after=retry_after)


class UpstreamTimeout(HelixError):
    code = "timeout"
    status = 503
    type = "server_error"
    default_message = "The model did not answer in time."
