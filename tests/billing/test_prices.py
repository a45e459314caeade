"""What requests cost: the version in force, exact sums, a book that is read whole."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from billing import prices
from billing.events import Tokens
from billing.models import Price, UsageRecord
from helixflow.lib import errors

T0 = datetime(2026, 11, 1, tzinfo=UTC)
MODEL = "gpt-4o"
RATES: dict[str, Any] = {"input": Decimal(2), "output": Decimal(10)}


def version(starts_at=T0, **rates) -> Price:
    """Made directly, so that tests can choose the time."""
    return Price(model=MODEL, starts_at=starts_at, **RATES | rates)


def cost(book, at=T0, model=MODEL, **tokens):
    return book.cost(model=model, tokens=Tokens(**tokens), at=at)


@pytest.fixture
def book() -> prices.PriceBook:
    return prices.PriceBook()


rates = st.decimals(min_value=0, max_value=Decimal("999999.999999"), places=6)
counts = st.integers(min_value=0, max_value=10**9)


@given(
    own=st.fixed_dictionaries(
        {name: rates if name in {"input", "output"} else st.none() | rates for name in prices.CLASSES}
    ),
    tokens=st.builds(Tokens, **dict.fromkeys(prices.CLASSES, counts)),
)
def test_the_classes_sum_to_the_cost_exactly(own, tokens):
    price = version(**own)
    amount = prices._version(price).cost(tokens).amount
    assert sum(prices.by_class(price, tokens).values()) == amount
    bases = {name: "input" if name in prices.PROMPT_CLASSES else "output" for name in prices.CLASSES}
    assert amount * 10**6 == sum(
        getattr(tokens, name) * (own[bases[name]] if own[name] is None else own[name]) for name in prices.CLASSES
    )


@given(tokens=st.builds(Tokens, **dict.fromkeys(prices.CLASSES, counts)))
def test_the_classes_are_disjoint_and_sum_to_the_total(tokens):
    record = UsageRecord(**{f"{name}_tokens": getattr(tokens, name) for name in prices.CLASSES})
    assert record.prompt_tokens + record.completion_tokens == sum(msgspec.structs.astuple(tokens))
    assert record.prompt_tokens == sum(getattr(tokens, name) for name in prices.PROMPT_CLASSES)


def test_the_classes_are_those_of_the_gateway_s_events_in_their_order():
    assert Tokens.__struct_fields__ == prices.CLASSES


@pytest.mark.django_db
class TestBook:
    def test_a_class_without_a_price_costs_what_its_base_does(self, book):
        version(input=Decimal(3), output=Decimal(7), cached_input=Decimal(0)).save()
        million = partial(cost, book)
        assert million(cached_input=10**6).amount == 0
        assert {million(**{name: 10**6}).amount for name in ("input", "cache_write", "input_audio")} == {Decimal(3)}
        assert {million(**{name: 10**6}).amount for name in prices.COMPLETION_CLASSES} == {Decimal(7)}

    def test_one_token_at_the_lowest_price_is_not_lost(self, book):
        version(input=Decimal("0.000001")).save()
        assert cost(book, input=1).amount == Decimal("0.000000000001")

    def test_the_version_in_force_is_the_latest_that_has_started(self, book):
        first, second = version(T0), version(T0 + timedelta(days=1), input=Decimal(4))
        second.save()
        first.save()
        at = {
            T0 - timedelta(microseconds=1): prices.UNPRICED,
            T0: (first.id, "USD", Decimal("0.000002")),
            T0 + timedelta(days=1, microseconds=-1): (first.id, "USD", Decimal("0.000002")),
            T0 + timedelta(days=1): (second.id, "USD", Decimal("0.000004")),
            T0 + timedelta(days=400): (second.id, "USD", Decimal("0.000004")),
        }
        assert {moment: cost(book, moment, input=1) for moment in at} == at

    def test_a_model_without_a_price_costs_nothing_and_says_so(self, book):
        version().save()
        assert cost(book, model="llama", input=5) == prices.Cost(None, "", Decimal(0))

    def test_a_price_in_another_currency_than_the_platform_s_is_not_used(self, book):
        version(currency="EUR").save()
        assert cost(book, input=5) == prices.UNPRICED

    def test_the_book_is_read_once_for_a_batch_and_again_after_a_while(
        self, book, monkeypatch, django_assert_num_queries
    ):
        with django_assert_num_queries(1):
            assert {cost(book, input=1) for _ in range(1000)} == {prices.UNPRICED}
        made = version()
        made.save()
        assert cost(book, input=1).price_id is None
        monkeypatch.setattr(prices, "REFRESH_AFTER_S", -1.0)
        assert cost(book, input=1).price_id == made.id

    def test_a_reading_that_fails_is_tried_again_and_never_half_a_book(self, book, monkeypatch):
        version().save()
        before = cost(book, input=1)
        rows = [version(T0 + timedelta(days=1), input=Decimal(9))]
        monkeypatch.setattr(prices, "REFRESH_AFTER_S", -1.0)
        with monkeypatch.context() as broken:
            broken.setattr(prices, "_all", partial(_breaks_after, rows))
            with pytest.raises(OperationalError):
                cost(book, T0 + timedelta(days=2), input=1)
        monkeypatch.setattr(prices, "REFRESH_AFTER_S", 60.0)
        assert cost(book, T0 + timedelta(days=2), input=1) == before


def _breaks_after(rows):
    yield from rows
    raise OperationalError("the connection was closed")


@pytest.mark.django_db
class TestVersions:
    def test_a_version_starts_as_soon_as_every_meter_can_know_it(self):
        with time_machine.travel(T0, tick=False):
            made = prices.add(model=MODEL, input=Decimal("2.5"), output=Decimal(10))
        assert made.starts_at == T0 + prices.NOTICE
        assert prices.NOTICE.total_seconds() > 2 * prices.REFRESH_AFTER_S
        assert Price.objects.get() == made

    def test_it_may_start_later_but_never_in_the_past_or_unannounced(self):
        with time_machine.travel(T0, tick=False):
            later = prices.add(model=MODEL, starts_at=T0 + timedelta(days=30), **RATES)
            for starts_at in (T0 - timedelta(days=1), T0, T0 + prices.NOTICE - timedelta(microseconds=1)):
                with pytest.raises(errors.InvalidRequest) as refused:
                    prices.add(model=MODEL, starts_at=starts_at, **RATES)
                assert refused.value.param == "starts_at"
        assert Price.objects.get() == later

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"currency": "EUR"}, "currency"),
            ({"model": ""}, "model"),
            ({"model": "two words"}, "model"),
            ({"input": Decimal(-1)}, "input"),
            ({"input": None}, "input"),
            ({"output": Decimal("NaN")}, "output"),
            ({"cached_input": Decimal("0.0000001")}, "cached_input"),
            ({"reasoning": Decimal(1_000_000)}, "reasoning"),
        ],
    )
    def test_a_bad_field_is_refused_by_name(self, fields, param):
        with pytest.raises(errors.InvalidRequest) as refused:
            prices.add(**{"model": MODEL, **RATES, **fields})
        assert refused.value.param == param
        assert param in refused.value.details
        assert not Price.objects.exists()

    def test_two_versions_cannot_start_at_once(self):
        starts_at = timezone.now() + timedelta(days=1)
        prices.add(model=MODEL, starts_at=starts_at, **RATES)
        prices.add(model="another", starts_at=starts_at, **RATES)
        with pytest.raises(errors.InvalidRequest):
            prices.add(model=MODEL, starts_at=starts_at, **RATES)

    def test_one_that_has_not_started_can_be_changed_and_withdrawn(self):
        tomorrow = timezone.now() + timedelta(days=1)
        made = prices.add(model=MODEL, starts_at=tomorrow, **RATES)
        changed = prices.change(price=made, starts_at=tomorrow + timedelta(days=1), input=Decimal(7))
        assert (changed.id, changed.input, changed.output) == (made.id, Decimal(7), Decimal(10))
        prices.withdraw(price=made)
        assert not Price.objects.exists()

    def test_one_that_has_started_cannot(self):
        version(timezone.now() + prices.NOTICE / 2).save()
        made = Price.objects.get()
        assert prices.has_started(made)
        with pytest.raises(errors.InvalidRequest):
            prices.change(price=made, starts_at=timezone.now() + timedelta(days=1), input=Decimal(7))
        with pytest.raises(errors.InvalidRequest):
            prices.withdraw(price=made)
        assert Price.objects.get().input == 2

    def test_one_cannot_be_moved_into_the_past(self):
        made = prices.add(model=MODEL, starts_at=timezone.now() + timedelta(days=1), **RATES)
        with pytest.raises(errors.InvalidRequest):
            prices.change(price=made, starts_at=timezone.now() - timedelta(days=1))
