"""Amounts as the API writes and reads them: decimal text, since a JSON number loses digits on its way."""

import re
from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers

_CENTS: Final = Decimal("0.01")
_AMOUNT: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2})?", re.ASCII)


def text(amount: Decimal) -> str:
    """Exact, with cents at least: ``12.50``, ``0.000125``."""
    trimmed = amount.normalize()
    return f"{trimmed.quantize(_CENTS) if trimmed == trimmed.quantize(_CENTS) else trimmed:f}"


def text_or_none(amount: Decimal | None) -> str | None:
    return None if amount is None else text(amount)


class AmountField(serializers.Field[Decimal, str, str, Any]):
    """An amount of money in, such as a budget: a text with at most two decimals."""

    default_error_messages = {  # noqa: RUF012  # DRF declares it so
        "invalid": 'An amount is text with at most ten digits and two decimals, such as "25.00".',
    }

    def to_internal_value(self, data: Any) -> Decimal:
        if not isinstance(data, str) or not _AMOUNT.fullmatch(data):
            self.fail("invalid")
        return Decimal(data)
