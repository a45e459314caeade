"""When a delivery is tried again: contract §7's delays, jitter, and what the receiver asks for."""

from datetime import UTC, datetime

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from webhooks import schedule

CONTRACT_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def test_the_contract_s_delays_are_the_default_and_about_three_days() -> None:
    assert tuple(settings.WEBHOOK_DELAYS_S) == CONTRACT_S
    assert 3 < sum(settings.WEBHOOK_DELAYS_S) / 86_400 < 3.5


@pytest.mark.parametrize("attempts", range(1, 10))
@pytest.mark.parametrize(("chance", "factor"), [(0, 0.8), (0.5, 1), (1, 1.2)])
def test_each_delay_is_the_planned_one_within_a_fifth(attempts: int, chance: float, factor: float) -> None:
    delay = schedule.delay_s(attempts, delays_s=CONTRACT_S, chance=chance)
    assert delay == pytest.approx(CONTRACT_S[attempts] * factor)


@pytest.mark.parametrize("attempts", [10, 11, 1_000])
def test_the_tenth_attempt_is_the_last(attempts: int) -> None:
    assert schedule.delay_s(attempts, delays_s=CONTRACT_S, chance=0.5) is None


@pytest.mark.parametrize(
    ("asked_s", "delay_s"), [(1, 300), (-5, 300), (299, 300), (400, 400), (600, 600), (601, 600), (1e9, 600)]
)
def test_a_receiver_is_given_between_one_and_two_times_the_plan(asked_s: float, delay_s: float) -> None:
    assert schedule.delay_s(2, delays_s=CONTRACT_S, chance=0.5, retry_after_s=asked_s) == delay_s


@given(
    attempts=st.integers(1, 9),
    chance=st.floats(0, 1, exclude_max=True),
    asked_s=st.none() | st.floats(allow_nan=False, allow_infinity=True),
)
def test_no_delay_is_ever_out_of_bounds(attempts: int, chance: float, asked_s: float | None) -> None:
    planned = CONTRACT_S[attempts]
    delay = schedule.delay_s(attempts, delays_s=CONTRACT_S, chance=chance, retry_after_s=asked_s)
    assert delay is not None
    assert planned * 0.8 <= delay <= planned * 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60),
        ("Mon, 23 Nov 2026 11:59:00 GMT", -60),
        ("Mon, 23 Nov 2026 12:01:00", 60),
        ("9" * 400, 999_999_999),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Mon, 99 Nov 2026 12:01:00 GMT", None),
        ("Mon, 23 Nov 2026 12:01:00 +99999999999999999999", None),
        (f"Mon, 23 Nov {'9' * 30} 12:01:00 GMT", None),
    ],
)
def test_retry_after_comes_in_two_forms_and_in_nonsense(value: str | None, seconds: float | None) -> None:
    assert schedule.retry_after_s(value, now=NOW) == seconds
