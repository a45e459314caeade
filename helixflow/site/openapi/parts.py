"""What operations share: errors, headers, and ways to say who one is."""

from typing import Any, Final

from helixflow.lib import errors
from helixflow.site.openapi.operations import TIME, Auth, Operation

DESCRIPTION: Final = (
    "Chat completions, completions, embeddings, models, batches and files answer as OpenAI's API does; everything else "
    "is in an envelope of `data` and `meta`. Bodies are JSON in UTF-8, at most 10 MiB. Fields we don't know are "
    "refused by name; `null` means that a field isn't there. Every answer has an `X-Request-ID`. A method that an "
    "address does not know is a 405 with an `Error`."
)
REASONS: Final = {200: "OK", 201: "Created", 202: "Accepted"}
SECURITY: Final = {
    "ApiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "hflow_…",
        "description": "An API key, for inference, models and reading usage.",
    },
    "Login": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a login, for managing and for reading usage.",
    },
}
_TEXTS: Final = {
    400: ("Something in the request is missing, misspelt or out of range.", errors.InvalidRequest),
    401: ("The credentials are missing or not valid.", errors.InvalidApiKey),
    403: ("You may not do this: your role, a disabled organization, or a model not on the key's list.", None),
    404: ("There is nothing at this address, or no such model.", errors.NotFound),
    413: ("The body is too large.", errors.BodyTooLarge),
    415: ("The body is not application/json.", errors.UnsupportedMediaType),
    429: ("A limit is met, or the month's quota or a budget is spent.", errors.RateLimitExceeded),
    500: ("Something broke on our side.", errors.ServerError),
    503: ("Every upstream failed or took too long, or something we depend on is down.", errors.ServiceUnavailable),
}
_SENT: Final = ("X-Request-ID",)
_LIMITS: Final = (
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Limit-Month",
    "X-RateLimit-Remaining-Month",
    "X-RateLimit-Reset-Month",
)


def _header(text: str, kind: str = "integer") -> dict[str, Any]:
    return {"description": text, "schema": {"type": kind}}


HEADERS: Final = {
    "X-Request-ID": _header("Names this request, to us and in your logs.", "string"),
    "X-RateLimit-Limit": _header("Requests your organization has in a minute, or the key, where its limit is lower."),
    "X-RateLimit-Remaining": _header("How many of them are left."),
    "X-RateLimit-Reset": _header("When the next minute begins, in Unix seconds."),
    "X-RateLimit-Limit-Month": _header("Requests your organization has in a month."),
    "X-RateLimit-Remaining-Month": _header("How many of them are left."),
    "X-RateLimit-Reset-Month": _header("When the next month begins, in Unix seconds."),
    "Retry-After": _header("How many seconds to wait."),
    "WWW-Authenticate": _header("Bearer", "string"),
    "X-Should-Retry": _header("false where trying again changes nothing.", "string"),
}


def _parameter(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


REQUEST_HEADERS: Final = {
    "IdempotencyKey": _parameter(
        "Idempotency-Key",
        "The same on every try of one request: a second gets the answer of the first, and is not billed again.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    "Fallback": _parameter(
        "X-HelixFlow-Fallback",
        "off: only the model you ask for may answer.",
        {"type": "string", "enum": ["on", "off"]},
    ),
    "Timeout": _parameter(
        "X-HelixFlow-Timeout",
        "Your own deadline for the whole answer, in seconds. It only shortens ours.",
        {"type": "number", "exclusiveMinimum": 0},
    ),
    "CacheControl": _parameter(
        "Cache-Control",
        "no-store, no-cache or max-age, where your organization has turned the response cache on.",
        {"type": "string"},
    ),
    "Organization": _parameter(
        "X-HelixFlow-Organization",
        "The organization that a login acts for, if you are in several.",
        {"type": "string"},
    ),
}


def security(auth: Auth) -> list[dict[str, list[str]]]:
    key: dict[str, list[str]] = {"ApiKey": []}
    login: dict[str, list[str]] = {"Login": []}
    return {"key": [key], "login": [login], "either": [key, login], "none": []}[auth]


def headers(auth: Auth) -> dict[str, Any]:
    names = _SENT + (_LIMITS if auth in {"key", "either"} else ())
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def statuses(operation: Operation) -> list[int]:
    """Of the errors that it may answer with."""
    found = {500, *operation.errors}
    if operation.auth != "none":
        found |= {401, 403, 503}
    if operation.auth in {"key", "either"}:
        found.add(429)
    if "{" in operation.path:
        found.add(404)
    if operation.body is not None:
        found |= {400, 413, 415}
    if operation.query is not None:
        found.add(400)
    return sorted(found)


def error_responses() -> dict[str, Any]:
    return {f"Error{status}": _error_response(status) for status in _TEXTS}


def _error_response(status: int) -> dict[str, Any]:
    text, kind = _TEXTS[status]
    error = (kind or errors.AuthorizationFailed)()
    body = error.body("req_…")
    body["error"]["timestamp"] = TIME
    named = [
        *_SENT,
        *({401: ("WWW-Authenticate",), 429: ("Retry-After", "X-Should-Retry"), 503: ("Retry-After",)}).get(status, ()),
    ]
    return {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in named},
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}, "example": body}},
    }
