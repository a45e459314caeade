"""What a caller, and the log, are told of an upstream that failed."""

import re
from collections.abc import Iterable
from typing import Final

from helixflow.lib import errors
from inference import sse
from inference.answers import BadAnswer, Throttled, UpstreamStreamError
from inference.providers.adapter import CredentialError
from inference.upstream import UpstreamConnectError, UpstreamDisconnected, UpstreamError, UpstreamTimeout

BUSY: Final = "The model is busy. Try again after the time in Retry-After."
UNAVAILABLE: Final = "The model is unavailable for a moment. Try again."

# How an upstream can fail, beside answering with a status that says so.
FAILURES: Final = (UpstreamError, BadAnswer, UpstreamStreamError, sse.LineTooLong, CredentialError)


def as_helix_error(error: Exception) -> errors.HelixError:
    """What a caller is told of an upstream's failure, before or after the first byte."""
    match error:
        case UpstreamTimeout():
            return errors.UpstreamTimeout()
        case Throttled():
            return errors.ServiceUnavailable(BUSY)
        case UpstreamConnectError() | UpstreamDisconnected() | UpstreamStreamError() | CredentialError():
            return errors.ServiceUnavailable(UNAVAILABLE)
    return errors.ServerError("The model's provider sent an answer that makes no sense. Try again.")


def describe(error: Exception) -> str:
    """For operators, once it is clean: in an upstream's words too."""
    return f"{type(error).__name__}: {error}"


def outcome_of(error: Exception) -> str:
    """For the ledger, which callers read: without what upstreams, their hosts and Google say of themselves."""
    match error:
        case UpstreamConnectError():
            cause = error.__cause__
            return f"{type(error).__name__}: {type(cause).__name__}" if cause else type(error).__name__
        case UpstreamStreamError() | CredentialError():
            return type(error).__name__
    return describe(error)


# Each begins where its run of characters does, so that a long text without any costs one pass: callers can have what
# they wrote repeated to them.
_ADDRESSES: Final = re.compile(
    r"""(?<![a-z0-9+.-])[a-z0-9+.-]+://[^\s"'<>]+   # URLs
      | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b          # IPv4, with a port
      | \[[0-9a-f:.]{3,}\](?::\d+)?                   # [IPv6]
      | (?<![a-z0-9.-])[a-z0-9.-]*\.[a-z]{2,}:\d+\b  # host:port
      | \blocalhost(?::\d+)?\b
      | (?<![\w/])(?:/[\w.-]+){2,}                    # file paths
    """,
    re.IGNORECASE | re.VERBOSE,
)
_KEYS: Final = re.compile(
    r"\b(?:bearer\s+\S+|(?:sk|pk|gsk|key|hflow|xai|api[-_]?key)[-_][\w*.-]{6,})|\b[A-Za-z0-9_-]{32,}\b", re.IGNORECASE
)


def clean(text: str, secrets: Iterable[str]) -> str:
    """An upstream's message without addresses, paths and keys, at most 500 characters."""
    for secret in secrets:
        text = text.replace(secret, "[key]")
    text = _KEYS.sub("[key]", _ADDRESSES.sub("[address]", text))
    return "".join(char if char.isprintable() else " " for char in text).strip()[:500]
