"""Structured logs: every line of a request carries its ``request_id`` and the caller's own, if one was sent."""

import logging
import re
from contextvars import ContextVar
from typing import Final

request_id: ContextVar[str] = ContextVar("request_id", default="")
client_request_id: ContextVar[str] = ContextVar("client_request_id", default="")


def clean_client_request_id(raw: str) -> str:
    """A caller's own X-Request-ID as the logs may hold it: printable ASCII, at most 128 characters."""
    return "".join(char for char in raw[:128] if " " <= char <= "~")


# The last part of these paths lets in whoever knows it; Django writes the paths of answers from 400 on.
_TOKENS: Final = re.compile(r"(/(?:invitations|verify-email|password/reset/[^/\s]+)/)[^/\s?]+")


class TokenFilter(logging.Filter):
    """Takes the tokens of links out of the paths that a line names."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_TOKENS.sub(r"\1…", arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.client_request_id = client_request_id.get()
        return True
