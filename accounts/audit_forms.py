"""The filters of the audit log, all optional, from a query string."""

from datetime import date
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from django import forms

from accounts.audit_log import GROUPS

EARLIEST: Final = date(2020, 1, 1)  # ids hold no time before 1970
LATEST: Final = date(2099, 12, 31)


class DayField(forms.DateField):
    default_error_messages: ClassVar = {"invalid": "Enter a day, such as 2026-11-23."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"), **kwargs)

    def clean(self, value: Any) -> date | None:
        day: date | None = super().clean(value)
        if day is not None and not EARLIEST <= day <= LATEST:
            raise forms.ValidationError(f"Choose a day between {EARLIEST.year} and {LATEST.year}.")
        return day


class AuditFilter(forms.Form):
    actor = forms.CharField(
        label="Who",
        required=False,
        max_length=254,
        widget=forms.TextInput(attrs={"placeholder": "E-mail address", "autocomplete": "off", "list": "people"}),
    )
    group = forms.ChoiceField(
        label="What",
        required=False,
        choices=[("", "Everything"), *((name, label) for name, (label, _) in GROUPS.items())],
        widget=forms.Select(attrs={"data-autosubmit": ""}),
        error_messages={"invalid_choice": f"There is no such group. There are {', '.join(GROUPS)}."},
    )
    since = DayField(label="From (UTC)")
    until = DayField(label="Until (UTC)")

    def clean(self) -> dict[str, Any]:
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and since > until:
            self.add_error("until", "This is before “From”.")
        return self.cleaned_data

    def query(self, **more: str) -> str:
        """The filters as a query string, to go on with."""
        chosen = {name: str(self.data.get(name, "")) for name in self.fields} | more
        return urlencode({name: value for name, value in chosen.items() if value})
