"""Items with what they hold, in order, some megabytes at a time: a request may have ten of them, an answer thirty."""

from collections.abc import Iterator
from typing import Final

from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce, Length

from inference.batch_models import BatchItem

MOST: Final = 500  # items in one
MOST_BYTES: Final = 8 * 1024 * 1024  # or what they hold; a larger one comes alone


def of(items: QuerySet[BatchItem], *columns: str) -> Iterator[list[BatchItem]]:
    """``columns`` are those that are read of them: ``request``, ``answer``."""
    weight = sum((Coalesce(Length(column), 0) for column in columns), Value(0))
    rows, after = items.order_by("position"), -1
    while sizes := list(rows.filter(position__gt=after).values_list("position", weight)[:MOST]):
        last, held = sizes[0]
        for position, size in sizes[1:]:
            held += size
            if held > MOST_BYTES:
                break
            last = position
        yield list(rows.filter(position__gt=after, position__lte=last))
        after = last
