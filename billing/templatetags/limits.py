"""What pages of the apps below may show of limits: they can't import billing."""

from decimal import Decimal
from typing import Any

from django import template

from accounts import access
from accounts.models import ApiKey, Membership
from billing.forms import KeyLimitsForm
from billing.reports import standing

register = template.Library()


@register.filter
def shown(amount: int | Decimal) -> str:
    """``1,234`` requests; ``1,234.50`` or ``0.00012`` of money, without its unit."""
    return standing.shown(amount)


@register.filter
def with_unit(amount: int | Decimal) -> str:
    """``1,234`` or ``1,234.50 USD``."""
    return standing.with_unit(amount)


@register.filter
def percents(numbers: list[int]) -> str:
    """``80%, 100%``."""
    return ", ".join(f"{number}%" for number in numbers) or "None"


@register.inclusion_tag("billing/_key_limits.html")
def key_limits_card(membership: Membership, key: ApiKey, form: KeyLimitsForm | None = None) -> dict[str, Any]:
    """The limits of ``key`` and what it has used, for those who manage keys as a form. ``form``: one sent back."""
    return {
        "key": key,
        "form": form or KeyLimitsForm(standing.of(key)),
        "read_only": _why_read_only(membership, key),
    }


def _why_read_only(membership: Membership, key: ApiKey) -> str:
    revoked = "This key is revoked: its limits can no longer be changed." if key.revoked_at else ""
    return access.why_not_manager(membership, of="its API keys") or revoked
