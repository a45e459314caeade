"""What the filters of logs have in common: a range of time, or one of a few periods. All times are in UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from django import forms
from django.utils import timezone

# Ids hold no time before 1970, and an offset must not lead out of what a datetime holds.
EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)


class MomentField(forms.DateTimeField):
    """A moment in UTC, to the second; also RFC 3339, so that links can be made by programs."""

    default_error_messages: ClassVar = {"invalid": "Enter a date and a time, such as 2026-11-23T20:00:00."}

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": 1}, format="%Y-%m-%dT%H:%M:%S")
        super().__init__(widget=widget, **kwargs)

    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        if moment is None:
            return None
        if not EARLIEST <= moment < LATEST:
            raise forms.ValidationError(f"Choose a time between {EARLIEST.year} and {LATEST.year}.")
        return moment.astimezone(UTC).replace(microsecond=0)


class RangeForm(forms.Form):
    """From ``since`` up to, and without, ``until``."""

    since = MomentField(label="From (UTC)")
    until = MomentField(label="Until (UTC)")

    def clean(self) -> dict[str, Any]:
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and since >= until:
            self.add_error("until", "This is not after “From”.")
        return self.cleaned_data


class LogFilters(RangeForm):
    """Filters, all optional, from a query string. A ``period`` is one of ``PERIODS``; exact times go before it."""

    PERIODS: ClassVar[Mapping[str, tuple[str, timedelta]]]  # name → label, length
    FILTERS: ClassVar[tuple[str, ...]]  # the fields that ``query`` goes on with, beside the period
    MENUS: ClassVar[tuple[str, ...]]  # fields that send the form when they change

    period = forms.ChoiceField(
        required=False,
        widget=forms.HiddenInput,
        error_messages={"invalid_choice": "There is no such period: choose one of those above, or exact times."},
    )

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.choices("period", [("", "All time"), *((name, label) for name, (label, _) in self.PERIODS.items())])
        for name in ("since", "until"):
            self.fields[name].required = False
        for name in self.MENUS:
            self.fields[name].widget.attrs["data-autosubmit"] = ""

    def choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # for the type checker
        field.choices = choices

    @property
    def is_exact(self) -> bool:
        return bool(self.cleaned_data.get("since") or self.cleaned_data.get("until"))

    @property
    def period_in_force(self) -> str:
        """Empty where exact times were given."""
        return "" if self.is_exact else str(self.cleaned_data.get("period", ""))

    @property
    def since_in_force(self) -> datetime | None:
        period = self.period_in_force
        return timezone.now() - self.PERIODS[period][1] if period else self.cleaned_data["since"]

    @property
    def periods(self) -> list[dict[str, Any]]:
        """Links that change the period and nothing else; exact times give way to it."""
        names = {"": "All time"} | {name: label for name, (label, _) in self.PERIODS.items()}
        return [
            {
                "label": label,
                "query": self.query(period=name, since="", until="") or "period=",
                "current": not self.is_exact and self.period_in_force == name,
            }
            for name, label in names.items()
        ]

    def query(self, **changed: str) -> str:
        """The filters as a query string, to go on from here with some of them ``changed``."""
        chosen = {name: str(self.data.get(name, "")) for name in self.FILTERS} | {"period": self.period_in_force}
        return urlencode({name: value for name, value in (chosen | changed).items() if value})
