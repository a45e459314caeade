"""For the support desk's templates."""

from django import template

from webhooks.admin import shortened
from webhooks.models import Endpoint

register = template.Library()


@register.filter
def get(known: dict[str, bool], name: str) -> bool:
    """For names with a dash, which templates can't say."""
    return known[name]


@register.filter
def address(endpoint: Endpoint) -> str:
    """Its URL without the query, which may hold a token."""
    return shortened(endpoint)
