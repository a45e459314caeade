"""Items with what they hold, in order, some megabytes at a time: a request may have ten of them, an answer thirty."""

from collections.abc import Iterator
from typing import Final

from django.db.models import QuerySet
from django.db.models.functions import Length

from inference.batch_models import BatchItem

MOST: Final = 500  # items in one
MOST_BYTES: Final = 8 * 1024 * 1024  # or what they hold; a larger one comes alone


def of(items: QuerySet[BatchItem], column: str) -> Iterator[list[BatchItem]]:
    """``column`` is the one that is read of them: ``request`` or ``answer``."""
    rows, after = items.order_by("position"), -1
    while sizes := list(rows.filter(position__gt=after).values_list("position", Length(column))[:MOST]):
        last, held = sizes[0][0], sizes[0][1] or 0
        for position, size in sizes[1:]:
            held += size or 0
            if held > MOST_BYTES:
                break
            last = position
        yield list(rows.filter(position__gt=after, position__lte=last))
        after = last
