"""``webhooks.delivery_words`` for templates."""

from django import template
from django.utils import timezone

from webhooks import delivery_words
from webhooks.models import Delivery

register = template.Library()

register.filter("visible", delivery_words.visible)
register.filter("duration", delivery_words.duration)
register.filter("utc", delivery_words.utc)
register.filter("result", delivery_words.result)
register.filter("last_result", delivery_words.last_result)
register.filter("advice", delivery_words.advice)
register.filter("request_text", delivery_words.request_text)
register.filter("response_text", delivery_words.response_text)


@register.inclusion_tag("components/_badge.html")
def state_badge(delivery: Delivery) -> dict[str, object]:
    label, kind = delivery_words.badge(delivery)
    return {"label": label, "kind": kind, "dot": True}


@register.inclusion_tag("webhooks/deliveries/_next.html")
def next_attempt(delivery: Delivery) -> dict[str, object]:
    at = delivery.next_attempt_at
    is_now = delivery_words.is_sending(delivery) or at is None or at <= timezone.now()
    return {"waits": delivery_words.waits(delivery), "at": None if is_now else at}


@register.filter
def short_id(public_id: str) -> str:
    """``evt_0Qd…7hK2Lm9x``: ids of one time begin alike, so the end is what tells them apart."""
    return f"{public_id[:7]}…{public_id[-8:]}"
