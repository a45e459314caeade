"""The error table of the API reference: every code with when it comes and whether to try again."""

from typing import Final, NamedTuple

from helixflow.lib import errors


class Row(NamedTuple):
    code: str
    status: int
    when: str
    retry: str


def _row(error: type[errors.HelixError], retry: str, when: str) -> Row:
    return Row(error.code, error.status, when, retry)


ROWS: Final = (
    _row(
        errors.InvalidRequest,
        "Mend it first",
        "Something in the request is missing, misspelt or out of range. “param” names the field, “details” what is "
        "wrong with it. Unknown paths (404), wrong methods (405), bodies that are too large (413) and other media "
        "types (415) carry this code too.",
    ),
    _row(
        errors.AuthenticationFailed,
        "Log in again",
        "There are no credentials, the e-mail address or password is wrong, or an access token is no longer valid.",
    ),
    _row(errors.InvalidApiKey, "Check the key", "The API key is unknown, revoked, expired or mistyped."),
    _row(
        errors.AuthorizationFailed,
        "No",
        "You are known, but may not do this: your role, a disabled organization, or a model not on the key's list.",
    ),
    _row(errors.ModelNotFound, "Check the name", "No model has this name, or it is not offered to your organization."),
    _row(errors.RateLimitExceeded, "After Retry-After", "This minute's requests are used up."),
    _row(errors.InsufficientQuota, "No", "The month's requests are used up."),
    _row(errors.ServerError, "With backoff", "Something broke on our side, or the model's answer made no sense."),
    _row(
        errors.ServiceUnavailable,
        "After Retry-After",
        "Every upstream of the model failed, or something we depend on is down.",
    ),
    _row(errors.UpstreamTimeout, "With backoff", "The model did not answer in time."),
)
