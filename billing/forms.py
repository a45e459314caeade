"""The forms of plan, caps, alerts and a key's limits. They turn text into values; the rules are the services'."""

import uuid
from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import F

from accounts.forms import ServiceForm
from accounts.models import Membership
from billing.models import Plan, Subscription
from billing.plan_models import MAX_MESSAGE, AlertSettings
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


class UpgradeForm(ServiceForm):
    plan = forms.ModelChoiceField(queryset=Plan.objects.none(), label="Plan", empty_label=None)
    requests_per_minute = _count("Requests per minute", "If the plan's number is not enough.", at_least=1)
    requests_per_month = _count("Requests per month", "If the plan's number is not enough.", at_least=1)
    message = forms.CharField(
        label="What it is for",
        required=False,
        max_length=MAX_MESSAGE,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="When you need it, and how much you expect to use: it helps us answer at once.",
    )

    def __init__(self, subscription: Subscription, data: Any = None) -> None:
        ordered = list(Plan.objects.order_by(F("requests_per_month").asc(nulls_last=True)))
        bigger = [plan.pk for plan in ordered[ordered.index(subscription.plan) + 1 :]]
        super().__init__(data, initial={"plan": bigger[0] if bigger else subscription.plan_id})
        plans: Any = self.fields["plan"]
        plans.queryset = Plan.objects.order_by(F("requests_per_month").asc(nulls_last=True))
        plans.label_from_instance = lambda plan: _label(plan) + (" (yours)" if plan == subscription.plan else "")


class PercentsField(forms.CharField):
    """``50, 80, 100%`` as a list of whole numbers."""

    def __init__(self, label: str, hint: str) -> None:
        super().__init__(label=label, help_text=hint, required=False, max_length=100, widget=_input("text"))

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        words = super().clean(value).replace("%", " ").replace(",", " ").split()
        if not all(word.isascii() and word.isdigit() and len(word) <= 3 for word in words):
            raise forms.ValidationError("Enter percentages such as 50, 80, 100.")
        return sorted({int(word) for word in words})


class AlertsForm(ServiceForm):
    quota_percents = PercentsField("Of the month's requests", "In percent; none if empty.")
    budget_percents = PercentsField("Of the monthly budget", "In percent; none if empty.")
    recipients = forms.MultipleChoiceField(
        label="Who gets them", required=False, widget=forms.CheckboxSelectMultiple(attrs={"class": "checks"})
    )

    def __init__(self, settings: AlertSettings, managers: list[Membership], data: Any = None) -> None:
        self.everybody = {str(member.user_id) for member in managers}
        chosen = settings.recipient_ids
        mine = [str(member.user_id) for member in managers if chosen is None or member.user_id in chosen]
        initial = {
            "quota_percents": list(settings.quota_percents),
            "budget_percents": list(settings.budget_percents),
            "recipients": mine,
        }
        super().__init__(data, initial=initial)
        field: Any = self.fields["recipients"]
        field.choices = [(str(member.user_id), member.user.email) for member in managers]

    def chosen(self) -> dict[str, Any]:
        """What ``alerts.change`` takes. All of today's are whoever manages the organization, later ones too."""
        users = set(self.cleaned_data["recipients"])
        return self.cleaned_data | {
            "recipients": None if users == self.everybody else [uuid.UUID(user) for user in users]
        }


def _label(plan: Plan) -> str:
    if plan.requests_per_minute is None or plan.requests_per_month is None:
        return f"{plan.name}: limits as agreed"
    return f"{plan.name}: {plan.requests_per_minute:,} requests a minute, {plan.requests_per_month:,} a month"
