"""What the pages of batches show."""

from decimal import Decimal
from typing import Any

from django import template
from django.utils import timezone

from billing.reports import standing
from inference.batch import words
from inference.batch_forms import LABELS
from inference.batch_models import Batch, BatchItem, ItemState, Operation
from webhooks import delivery_words

register = template.Library()
register.filter("visible", delivery_words.visible)


@register.inclusion_tag("components/_badge.html")
def batch_badge(batch: Batch) -> dict[str, Any]:
    found = words.standing(batch)
    label = "Waiting" if found.until else found.label
    return {"label": label, "kind": found.kind, "dot": True}


@register.inclusion_tag("components/_badge.html")
def item_badge(item: BatchItem) -> dict[str, Any]:
    match item.state:
        case ItemState.COMPLETED:
            return {"label": "Answered", "kind": "success", "dot": True}
        case ItemState.FAILED:
            status = f"{item.status_code} " if item.status_code else ""
            return {"label": f"{status}{item.error_code or 'failed'}", "kind": "danger", "dot": True}
        case _:
            return {"label": "Waiting", "kind": "", "dot": True}


@register.filter
def what_it_asks(batch: Batch) -> str:
    return LABELS[Operation(batch.operation)]


@register.filter
def batch_short_id(public_id: str) -> str:
    """``batch_0352…8nd1``: ids of one time begin alike, so the end is what tells them apart."""
    return f"{public_id[:10]}…{public_id[-6:]}"


@register.filter
def money(amount: Decimal) -> str:
    """``1.25``, ``0.00012``: without its unit."""
    return standing.shown(amount)


@register.filter
def took(batch: Batch) -> str:
    """From its creation to its end, or until now."""
    end = words.ended_at(batch) or timezone.now()
    return delivery_words.duration(max((end - batch.created_at).total_seconds(), 0) * 1000)
