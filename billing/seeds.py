"""The three plans (contract §5), and prices to begin with. Rows that are there stay as they are: the operator's."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.conf import settings

from billing import prices
from billing.models import STARTER, Plan, Price
from billing.prices import Rates

PLANS: Final = (
    Plan(slug=STARTER, name="Starter", requests_per_minute=100, requests_per_month=10_000),
    Plan(slug="pro", name="Pro", requests_per_minute=1_000, requests_per_month=100_000),
    Plan(slug="enterprise", name="Enterprise"),  # limits are set per organization
)
LIST_CURRENCY: Final = "USD"


@dataclass(frozen=True)
class ListPrice:
    """What a provider asks in public, in dollars per million tokens."""

    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None

    def rates(self) -> Rates:
        return {
            "input": Decimal(self.input),
            "cached_input": None if self.cached_input is None else Decimal(self.cached_input),
            "cache_write": None if self.cache_write is None else Decimal(self.cache_write),
            "output": Decimal(self.output),
        }


FREE: Final = ListPrice("0", "0")


def seed_plans() -> None:
    Plan.objects.bulk_create(PLANS, ignore_conflicts=True)


def seed_prices(by_model: Mapping[str, ListPrice]) -> None:
    """A first version for models that never had one. A platform in another currency makes its own."""
    if settings.CURRENCY != LIST_CURRENCY:
        return
    priced = set(Price.objects.filter(model__in=list(by_model)).values_list("model", flat=True))
    for model, price in by_model.items():
        if model not in priced:
            prices.add(model=model, **price.rates())


def exchange_price(model: str, *, old: ListPrice, new: ListPrice) -> None:
    """Another version where the newest is the list's ``old``. An operator's own stays, and so does having none."""
    if settings.CURRENCY != LIST_CURRENCY:
        return
    newest = Price.objects.filter(model=model, currency=LIST_CURRENCY).order_by("-starts_at").first()
    rates = {name: getattr(newest, name, None) for name in prices.CLASSES}
    if newest is not None and rates == dict.fromkeys(prices.CLASSES) | old.rates():
        prices.add(model=model, **new.rates())
