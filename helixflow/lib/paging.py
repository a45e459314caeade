"""Lists paged by key, never by offset: newest first, and the cursor is the public id of the last row shown."""

from typing import Any, Final, TypeVar

from django.db.models import Model, QuerySet

from helixflow.lib import errors, ids

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100

Row = TypeVar("Row", bound=Model)


def limit_of(raw: str | None) -> int:
    """The ``limit`` of a query string. Raises InvalidRequest."""
    if raw is None:
        return DEFAULT_LIMIT
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 9 and 1 <= int(raw) <= MAX_LIMIT):
        raise errors.InvalidRequest(f"The limit is a whole number from 1 to {MAX_LIMIT}.", param="limit")
    return int(raw)


def page(rows: QuerySet[Row, Any], *, prefix: str, cursor: str | None, limit: int) -> tuple[list[Row], str | None]:
    """One page of rows whose primary key is a UUIDv7, and the cursor of the next one. Raises InvalidRequest."""
    if cursor is not None:
        try:
            rows = rows.filter(pk__lt=ids.parse_public_id(prefix, cursor))
        except ValueError:
            raise errors.InvalidRequest(
                "The cursor is not one of ours: take it from meta.next_cursor.", param="cursor"
            ) from None
    found = list(rows.order_by("-pk")[: limit + 1])
    shown = found[:limit]
    return shown, ids.public_id(prefix, shown[-1].pk) if len(found) > limit else None
