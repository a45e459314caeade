"""What requests cost: versions of prices per model and class of tokens, all in the platform's one currency.

A request costs what the version in force when it began says, whenever it is metered. For that to hold, a version never
changes once it has started, and every meter must know it before: versions are made ``NOTICE`` before they start, which
is longer than a meter keeps its book.
"""

import time
import uuid
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter, mul
from typing import Final, NamedTuple, TypedDict, Unpack

import msgspec
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.api_keys import MODEL_NAME
from billing import validation
from billing.events import Tokens
from billing.models import Price
from helixflow.lib import errors

PROMPT_CLASSES: Final = ("input", "cached_input", "cache_write", "input_audio")
COMPLETION_CLASSES: Final = ("output", "reasoning", "output_audio")
CLASSES: Final = PROMPT_CLASSES + COMPLETION_CLASSES  # as Tokens has them
NOTICE: Final = timedelta(seconds=10)
REFRESH_AFTER_S: Final = 3.0
_PLACES: Final = 12  # six of a price, and six as it is for a million
_starts_at = attrgetter("starts_at")


class Rates(TypedDict, total=False):
    """Per million tokens."""

    input: Decimal
    cached_input: Decimal | None
    cache_write: Decimal | None
    input_audio: Decimal | None
    output: Decimal
    reasoning: Decimal | None
    output_audio: Decimal | None


class Cost(NamedTuple):
    """``price_id`` None: nobody has set a price for the model."""

    price_id: uuid.UUID | None
    currency: str
    amount: Decimal


UNPRICED: Final = Cost(None, "", Decimal(0))


class Version(NamedTuple):
    """A price as integers, for exact and quick sums: 10⁻¹² of the currency per token, in the order of ``CLASSES``."""

    id: uuid.UUID
    currency: str
    starts_at: datetime
    rates: tuple[int, ...]

    def cost(self, tokens: Tokens) -> Cost:
        total = sum(map(mul, msgspec.structs.astuple(tokens), self.rates))
        return Cost(self.id, self.currency, Decimal(total).scaleb(-_PLACES))


class PriceBook:
    """All versions, kept in process and read again every few seconds. One statement reads them, one assignment
    replaces them, so nobody sees half a book."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._book: dict[str, list[Version]] = {}

    def cost(self, *, model: str, tokens: Tokens, at: datetime) -> Cost:
        """Exact, to the twelfth place. Raises django.db.Error when it is time to read and PostgreSQL can't."""
        if time.monotonic() - self._read_at > REFRESH_AFTER_S:
            self._read()
        versions = self._book.get(model, [])
        position = bisect_right(versions, at, key=_starts_at)
        return versions[position - 1].cost(tokens) if position else UNPRICED

    def _read(self) -> None:
        began = time.monotonic()
        book: dict[str, list[Version]] = {}
        for price in _all():
            book.setdefault(price.model, []).append(_version(price))
        self._book, self._read_at = book, began


def rate(price: Price, token_class: str) -> Decimal:
    """Per million tokens of a class: its own price, else that of its base."""
    own, base = getattr(price, token_class), "input" if token_class in PROMPT_CLASSES else "output"
    found: Decimal = getattr(price, base) if own is None else own
    return found


def in_force(*names: str) -> dict[str, Price]:
    """By model, of all or of these: the versions that count now."""
    started = Price.objects.filter(starts_at__lte=timezone.now())
    rows = started.filter(model__in=names) if names else started
    return {price.model: price for price in rows.order_by("model", "-starts_at").distinct("model")}


def by_class(price: Price, tokens: Tokens) -> dict[str, Decimal]:
    """What each class costs, of those that occur. They sum to the whole cost exactly."""
    counts = zip(CLASSES, msgspec.structs.astuple(tokens), strict=True)
    return {name: count * rate(price, name).scaleb(-6) for name, count in counts if count}


def add(*, model: str, starts_at: datetime | None = None, currency: str | None = None, **rates: Unpack[Rates]) -> Price:
    """A new version. ``starts_at`` None: as soon as every meter can know of it. Raises InvalidRequest."""
    price = Price(model=model, currency=currency or settings.CURRENCY, **rates)
    price.starts_at = timezone.now() + NOTICE if starts_at is None else starts_at
    if starts_at is not None:
        require_notice(starts_at)
    return _save(price)


@transaction.atomic
def change(*, price: Price, starts_at: datetime, **rates: Unpack[Rates]) -> Price:
    """A version that has not started; one that has is history. Rates that aren't given stay. Raises InvalidRequest."""
    current = Price.objects.select_for_update().get(id=price.id)
    require_notice(current.starts_at)
    require_notice(starts_at)
    for name, value in {"starts_at": starts_at, **rates}.items():
        setattr(current, name, value)
    return _save(current)


@transaction.atomic
def withdraw(*, price: Price) -> None:
    """As ``change``."""
    current = Price.objects.select_for_update().get(id=price.id)
    require_notice(current.starts_at)
    current.delete()


def has_started(price: Price) -> bool:
    """Or is about to, so that it is too late to tell the meters."""
    return price.starts_at < timezone.now() + NOTICE


def require_notice(starts_at: datetime) -> None:
    """Raises InvalidRequest."""
    if starts_at < timezone.now() + NOTICE:
        raise errors.InvalidRequest(
            f"A version of a price starts {NOTICE.seconds} seconds from now at the earliest and stays as it is from "
            "then on: what has been metered was charged by it. Add a version that starts later.",
            param="starts_at",
        )


def _save(price: Price) -> Price:
    if not MODEL_NAME.fullmatch(price.model):
        raise errors.InvalidRequest("Name the model as callers do.", param="model")
    if price.currency != settings.CURRENCY:
        raise errors.InvalidRequest(
            f"All prices are in {settings.CURRENCY}, the platform's currency.", param="currency"
        )
    validation.check(price)
    price.save()
    return price


def _all() -> Iterable[Price]:
    return Price.objects.filter(currency=settings.CURRENCY).order_by("model", "starts_at")


def _version(price: Price) -> Version:
    rates = tuple(int(rate(price, name).scaleb(6)) for name in CLASSES)
    return Version(price.id, price.currency, price.starts_at, rates)
