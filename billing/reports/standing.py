"""Where an API key stands: its limits beside its organization's, and what it has used. For people to read."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.conf import settings

from accounts.models import ApiKey
from billing import key_limits
from billing.reports import usage

Amount = int | Decimal  # of requests, of money

_CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """``used`` is None while Redis can't tell."""

    name: str  # one of key_limits.LIMITS
    label: str
    period: str
    own: Amount | None
    of_organization: Amount | None
    used: Amount | None

    @property
    def in_force(self) -> Amount | None:
        """The lower of both, if the key has one of its own."""
        if self.own is None or self.of_organization is None:
            return self.own
        return min(self.own, self.of_organization)

    @property
    def without_effect(self) -> str:
        """Says so of a limit that the organization's comes before, else empty."""
        if self.own == self.in_force:
            return ""
        return (
            f"{self.label}: {with_unit(self.own)} is above your organization's {with_unit(self.of_organization)}, "
            "so it has no effect."
        )

    @property
    def unit(self) -> str:
        return settings.CURRENCY if isinstance(self.used, Decimal) else ""

    @property
    def when_empty(self) -> str:
        if self.of_organization is None:
            return "If empty, it has none."
        return f"If empty, your organization's {with_unit(self.of_organization)} applies."


def of(key: ApiKey) -> list[KeyLimit]:
    """In the order of key_limits.LIMITS."""
    own = key_limits.of(key)
    now = usage.current(key.organization_id)
    # A key that is revoked and wasn't used this month is in no usage.
    found = next((each for each in now.keys if each.key.id == key.id), None)
    minute_used = found.minute_used if found else 0
    used, cost = (found.used, found.cost) if found else (0, Decimal(0))
    minute, month = "this minute", "this month"
    return [
        KeyLimit(
            "requests_per_minute", "Requests per minute", minute, own.requests_per_minute, now.minute_limit, minute_used
        ),
        KeyLimit("requests_per_month", "Requests per month", month, own.requests_per_month, now.month_limit, used),
        KeyLimit("monthly_budget", "Monthly budget", month, own.monthly_budget, now.budget, cost),
    ]


def shown(amount: Amount) -> str:
    """Digits in groups; of money cents, and where these would be zero as many digits as it takes not to be."""
    if isinstance(amount, int):
        return f"{amount:,}"
    if 0 < amount < _CENT:
        return f"{amount:.{1 - amount.adjusted()}f}".rstrip("0")
    return f"{amount:,.2f}"


def with_unit(amount: Amount | None) -> str:
    if isinstance(amount, Decimal):
        return f"{shown(amount)} {settings.CURRENCY}"
    return "" if amount is None else shown(amount)
