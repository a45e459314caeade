"""How long the requests of batches are kept, and what they were answered."""

from datetime import timedelta
from typing import Final

from django.utils import timezone

from helixflow.lib import ids
from inference.batch_models import BatchItem

KEPT: Final = timedelta(days=31)  # from when the batch was made: a day to work in, and thirty after its end
PIECE: Final = 5_000  # rows in one transaction


def drop_old_items() -> int:
    """How many. The batches themselves stay, with their counts and costs. By the index on batch and position."""
    old = BatchItem.objects.filter(batch_id__lt=ids.first_at(timezone.now() - KEPT)).order_by("batch_id", "position")
    dropped = 0
    while piece := list(old.values_list("id", flat=True)[:PIECE]):
        dropped += BatchItem.objects.filter(id__in=piece).delete()[0]
    return dropped
