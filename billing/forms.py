"""The forms of caps and of a key's limits. They turn text into values; the rules are the rows' (``billing.models``)."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings

from accounts.forms import ServiceForm
from billing.models import Subscription
from billing.reports.standing import KeyLimit


def _input(keyboard: str) -> forms.TextInput:
    # Not type="number": of "1,000" browsers send nothing then, and nothing lifts the limit.
    return forms.TextInput(attrs={"inputmode": keyboard, "autocomplete": "off"})


def _count(label: str, hint: str = "", *, at_least: int = 0) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        help_text=hint,
        required=False,
        min_value=at_least,
        widget=_input("numeric"),
        error_messages={"invalid": "Enter a whole number such as 500, digits only."},
    )


def _budget(hint: str = "") -> forms.DecimalField:
    return forms.DecimalField(
        label=f"Monthly budget, {settings.CURRENCY}",
        help_text=hint,
        required=False,
        min_value=0,
        max_digits=12,
        decimal_places=2,
        widget=_input("decimal"),
        error_messages={"invalid": "Enter an amount such as 25 or 1250.50, without separators."},
    )


class CapsForm(ServiceForm):
    monthly_budget = _budget(
        "Once the month has cost this much, requests are refused until the next month or a higher budget; 0 refuses "
        "every request. If empty, there is none."
    )
    max_parallel = _count(
        "Parallel requests",
        "How many of your requests may be under way at once; more are refused with a 429. If empty, there is no cap.",
        at_least=1,
    )

    def __init__(self, subscription: Subscription, data: Any = None) -> None:
        caps = {name: getattr(subscription, name) for name in self.base_fields}
        super().__init__(data, initial=caps)


class KeyLimitsForm(ServiceForm):
    """``limits`` are what the fields show at first, and what stands beside them."""

    requests_per_minute = _count("Requests per minute")
    requests_per_month = _count("Requests per month")
    monthly_budget = _budget()

    def __init__(self, limits: Sequence[KeyLimit], data: Any = None) -> None:
        super().__init__(data, initial={limit.name: limit.own for limit in limits})
        for limit in limits:
            self.fields[limit.name].help_text = limit.when_empty
        self.limits = [(limit, self[limit.name]) for limit in limits]
