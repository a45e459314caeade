"""Every error the package raises.

HelixFlowError
├── APIError                      anything that went wrong with a call
│   ├── APIConnectionError        no answer: not reached, reset, or cut
│   │   ├── APITimeoutError
│   │   │   └── BatchTimeoutError ``process`` or ``wait`` took longer than its ``timeout``; the batch goes on
│   │   └── StreamCutError        a stream ended without its last line
│   ├── APIResponseError          an answer that makes no sense, such as broken JSON
│   ├── BatchError                a batch that failed as a whole
│   └── APIStatusError            the API refused
│       ├── InvalidRequestError   400, 405, 413, 415
│       │   └── NotFoundError     404
│       │       └── ModelNotFoundError
│       ├── AuthenticationError   401
│       │   └── InvalidAPIKeyError
│       ├── PermissionDeniedError 403
│       ├── RateLimitError        429
│       │   └── InsufficientQuotaError
│       └── ServerError           5xx
│           ├── ServiceUnavailableError
│           └── ServiceTimeoutError
└── WebhookVerificationError
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Mapping

from helixflow._retries import retry_after_s

if TYPE_CHECKING:
    from helixflow.types import Batch


class HelixFlowError(Exception):
    """Whatever this package raises on purpose."""


class APIError(HelixFlowError):
    """Something went wrong with a call. Whatever isn't known is None.

    ``code`` is the API's (``rate_limit_exceeded``), ``status`` that of HTTP, ``details`` maps each bad field to what
    is wrong with it, ``param`` names the one bad field, ``retry_after`` is in seconds, ``body`` is what was answered:
    parsed JSON, or else text.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        details: Mapping[str, Any] | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.request_id = request_id
        self.details = dict(details or {})
        self.param = param
        self.retry_after = retry_after
        self.body = body
        self.headers = headers or {}

    @property
    def status_code(self) -> int | None:
        """``status``, under the name it has in other packages."""
        return self.status

    def __str__(self) -> str:
        facts = [str(fact) for fact in (self.status, self.code, self.request_id) if fact]
        return f"{self.message} ({', '.join(facts)})" if facts else self.message

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.message, self.__dict__)


def _revive(kind: type[APIError], message: str, state: dict[str, Any]) -> APIError:
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    return error


class APIConnectionError(APIError):
    pass


class APITimeoutError(APIConnectionError):
    pass


class StreamCutError(APIConnectionError):
    pass


class APIResponseError(APIError):
    pass


class BatchError(APIError):
    """The batch failed as a whole; ``batch`` is what became of it, and its ``errors`` name the bad lines."""

    def __init__(self, message: str, *, batch: Batch, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code=code, param=param, request_id=batch.request_id, body=batch)
        self.batch = batch
        self.batch_id = batch.id


class BatchTimeoutError(APITimeoutError):
    """The batch goes on: ``client.batch.wait(error.batch_id)`` and ``client.batch.results(error.batch_id)``."""

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class APIStatusError(APIError):
    pass


class InvalidRequestError(APIStatusError):
    pass


class NotFoundError(InvalidRequestError):
    pass


class ModelNotFoundError(NotFoundError):
    pass


class AuthenticationError(APIStatusError):
    pass


class InvalidAPIKeyError(AuthenticationError):
    pass


class PermissionDeniedError(APIStatusError):
    pass


class RateLimitError(APIStatusError):
    pass


class InsufficientQuotaError(RateLimitError):
    pass


class ServerError(APIStatusError):
    pass


class ServiceUnavailableError(ServerError):
    pass


class ServiceTimeoutError(ServerError):
    pass


class WebhookVerificationError(HelixFlowError):
    """``reason`` is one word of ``webhooks.REASONS``."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.message, self.__dict__)


_BY_CODE: dict[str, type[APIStatusError]] = {
    "invalid_request": InvalidRequestError,
    "authentication_failed": AuthenticationError,
    "invalid_api_key": InvalidAPIKeyError,
    "authorization_failed": PermissionDeniedError,
    "model_not_found": ModelNotFoundError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": InsufficientQuotaError,
    "server_error": ServerError,
    "service_unavailable": ServiceUnavailableError,
    "timeout": ServiceTimeoutError,
}
_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: InvalidRequestError,
    408: ServiceTimeoutError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitError,
    502: ServiceUnavailableError,
    503: ServiceUnavailableError,
    504: ServiceTimeoutError,
}


def from_answer(status: int, headers: Mapping[str, str], content: bytes) -> APIStatusError:
    """The error of an answer that isn't a success, also where a proxy gave it."""
    body: Any
    try:
        body = json.loads(content)
    except ValueError:
        body = content.decode("utf-8", "replace")
    return from_body(body, status=status, headers=headers)


def from_body(
    body: Any, *, status: int | None = None, headers: Mapping[str, str] | None = None, request_id: str | None = None
) -> APIStatusError:
    """The error of ``{"error": {…}}``, or of anything else that came with ``status``; in a stream there is none."""
    headers = headers or {}
    told = body.get("error") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        told = {"message": told} if isinstance(told, str) else {}
    code = told.get("code") if isinstance(told.get("code"), str) else None
    kind = _BY_CODE.get(code or "")
    if kind is None or (kind is InvalidRequestError and status == 404):
        kind = _BY_STATUS.get(status or 0, ServerError if (status or 0) >= 500 else APIStatusError)
    message = told.get("message")
    details = told.get("details")
    return kind(
        message if isinstance(message, str) and message else _without_message(status, headers),
        code=code,
        status=status,
        request_id=headers.get("x-request-id") or told.get("request_id") or request_id,
        details=details if isinstance(details, dict) else None,
        param=told.get("param"),
        retry_after=retry_after_s(headers),
        body=body,
        headers=headers,
    )


def _without_message(status: int | None, headers: Mapping[str, str]) -> str:
    if status is None:
        return "The API told of an error without saying which."
    if 300 <= status < 400:
        return f"The API answered with status {status}, a redirect. It isn't followed, as the key would go along."
    kind = headers.get("content-type", "").partition(";")[0].strip()
    hint = " Check the base URL: it ends in /v1." if status == 404 else ""
    return f"The API answered with status {status} and {f'a body of type {kind}' if kind else 'no message'}.{hint}"
