"""The forms of the API keys' pages. They turn text into values; the rules are ``accounts.api_keys.clean``'s."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.utils import timezone

from accounts import api_keys
from accounts.forms import ServiceForm
from accounts.models import ApiKey, Environment

GRACES: Final = [(0, "At once"), (1, "In 1 day"), *((days, f"In {days} days") for days in range(2, 8))]


class ApiKeyForm(ServiceForm):
    name = forms.CharField(
        max_length=api_keys.MAX_NAME,
        help_text="Where it is used, such as “Billing service”.",
        error_messages={"required": "Give the key a name."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    environment = forms.ChoiceField(
        choices=Environment.choices, help_text="A label that keeps development and production keys apart."
    )
    expires_at = forms.DateField(
        label="Last day",
        required=False,
        help_text="It stops working at the end of this day (UTC). Empty: it works until it is revoked.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    models = forms.CharField(
        label="Only these models",
        required=False,
        max_length=30_000,
        help_text="Names as under Models, separated by commas or line breaks. Empty: all models.",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )

    def clean_expires_at(self) -> datetime | None:
        day: date | None = self.cleaned_data["expires_at"]
        if day is None:
            return None
        if day < timezone.now().astimezone(UTC).date():
            raise forms.ValidationError("This day is over.")
        try:
            return datetime.combine(day + timedelta(days=1), time(), UTC)
        except OverflowError:
            raise forms.ValidationError("This day is too far away.") from None

    def clean_models(self) -> list[str] | None:
        return [name for name in re.split(r"[\s,]+", self.cleaned_data["models"]) if name] or None

    def values(self) -> dict[str, Any]:
        """As the services take them."""
        return {field: self.cleaned_data[field] for field in ("name", "environment", "models", "expires_at")}

    def changes(self) -> dict[str, Any]:
        """Those that differ from what the form was shown with: an expiry to the second stays as it is."""
        return {field: value for field, value in self.values().items() if field in self.changed_data}


class NewApiKeyForm(ApiKeyForm):
    # Sending the same page again (a reload of the page that showed the secret) must not make a second key.
    once = forms.CharField(widget=forms.HiddenInput, max_length=64)


class RotationForm(forms.Form):
    grace_days = forms.TypedChoiceField(
        label="When does the old key stop working?",
        choices=GRACES,
        coerce=int,
        initial=1,
        help_text="Leave yourself time to put the new key in place. If the old one has leaked, choose “At once”.",
    )


def initial_of(key: ApiKey) -> dict[str, Any]:
    last_day = None if key.expires_at is None else (key.expires_at - timedelta(microseconds=1)).astimezone(UTC).date()
    return {
        "name": key.name,
        "environment": key.environment,
        "expires_at": last_day,
        "models": ", ".join(key.allowed_models or []),
    }
