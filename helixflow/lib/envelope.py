"""The envelope of everything that is not OpenAI-shaped: ``{"data": …, "meta": {"timestamp", "request_id"}}``."""

from typing import Any

from helixflow.lib import clock


def envelope(data: Any, request_id: str, *, next_cursor: str | None = None, paged: bool = False) -> dict[str, Any]:
    """``paged`` lists always carry ``meta.next_cursor``, null on the last page."""
    meta: dict[str, Any] = {"timestamp": clock.rfc3339(clock.now()), "request_id": request_id}
    if paged:
        meta["next_cursor"] = next_cursor
    return {"data": data, "meta": meta}
