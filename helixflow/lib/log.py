"""Structured logs: every line of a request carries its ``request_id`` and the caller's own, if one was sent."""

import logging
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
client_request_id: ContextVar[str] = ContextVar("client_request_id", default="")


def clean_client_request_id(raw: str) -> str:
    """A caller's own X-Request-ID as the logs may hold it: printable ASCII, at most 128 characters."""
    return "".join(char for char in raw[:128] if " " <= char <= "~")


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.client_request_id = client_request_id.get()
        return True
