"""How an endpoint did, in figures for people."""

from typing import Final

from django import template

from webhooks import delivery_words
from webhooks.deliveries import EndpointStatistics

register = template.Library()
NEARLY_ALL: Final = 99.9


@register.filter
def success_rate(statistics: EndpointStatistics) -> str:
    """``100%`` only if every attempt succeeded, ``0%`` only if none did; a dash without attempts."""
    if statistics.success_rate is None:
        return "–"
    percent = 100 * statistics.success_rate
    if percent in {0, 100}:
        return f"{percent:.0f}%"
    return f"{min(max(percent, 0.1), NEARLY_ALL):.1f}%"


@register.filter
def duration_or_dash(ms: float | None) -> str:
    return "–" if ms is None else delivery_words.duration(ms)
