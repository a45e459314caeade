from decimal import Decimal

import pytest

from billing import money


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0", "0.00"),
        ("0E-12", "0.00"),
        ("1E+3", "1000.00"),
        ("12.5", "12.50"),
        ("12.345", "12.345"),
        ("0.000125000000", "0.000125"),
        ("0.000000000001", "0.000000000001"),
        ("999999999999.999999999999", "999999999999.999999999999"),
        ("-1.5", "-1.50"),
    ],
)
def test_amounts_are_exact_text_with_cents_at_least(amount, expected):
    assert money.text(Decimal(amount)) == expected


def test_no_amount_is_no_text():
    assert money.text_or_none(None) is None
