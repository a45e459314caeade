"""What the pages of models show."""

from decimal import Decimal

from django import template

from billing import prices
from billing.models import Price
from billing.reports import standing

register = template.Library()


@register.filter
def rate(price: Price | None, token_class: str) -> str:
    """Per million tokens; an en dash where nobody has set a price."""
    return "–" if price is None else amount(prices.rate(price, token_class))


@register.filter
def own_rate(price: Price | None, token_class: str) -> str:
    """The same, and a dash where the class has no price of its own."""
    own = None if price is None else getattr(price, token_class)
    return "–" if own is None else amount(own)


def amount(value: Decimal) -> str:
    """``2.50``, ``0.075``, ``0.0028``: cents at least, and no digit is left out."""
    trimmed = value.normalize()
    exact = f"{trimmed:f}"
    return exact if len(exact.partition(".")[2]) > 2 else standing.shown(value)
