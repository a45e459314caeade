"""Records of requests in the words of the dashboard."""

from decimal import Decimal
from typing import Any

from django import template

from billing.models import UsageRecord

register = template.Library()

LEFT = 499


@register.inclusion_tag("components/_badge.html")
def status_badge(record: UsageRecord) -> dict[str, Any]:
    return {"label": status_words(record), "kind": status_kind(record), "dot": True}


def status_words(record: UsageRecord) -> str:
    """``200``, ``503 timeout``, ``499 caller left``."""
    if record.status == LEFT:
        return f"{LEFT} caller left"
    return f"{record.status} {record.error_code.replace('_', ' ')}".strip()


@register.filter
def status_kind(record: UsageRecord) -> str:
    """Of a badge, or an alert."""
    if not record.has_failed:
        return "success"
    return "danger" if record.status >= 500 else "warning"


@register.filter
def exact(amount: Decimal) -> str:
    """Every digit that isn't zero, with cents at least: what adds up on a receipt must be seen to."""
    return f"{amount.normalize():f}" if amount != amount.quantize(Decimal("0.01")) else f"{amount:.2f}"
