"""The forms of the delivery log's pages: filters, and the range of a resend. All times are in UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from django import forms
from django.utils import timezone
from django.utils.text import Truncator

from accounts.models import Organization
from helixflow.lib import ids
from webhooks.delivery_words import visible
from webhooks.models import DeliveryState, Endpoint, EventType

PERIODS: Final = {
    "hour": ("1 hour", timedelta(hours=1)),
    "day": ("24 hours", timedelta(days=1)),
    "week": ("7 days", timedelta(days=7)),
}
STATES: Final = [
    (DeliveryState.PENDING, "Pending"),
    (DeliveryState.SUCCEEDED, "Delivered"),
    (DeliveryState.FAILED, "Failed"),
    (DeliveryState.CANCELLED, "Cancelled"),
]
# Ids hold no time before 1970, and an offset must not lead out of what a datetime holds.
EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
LABEL_LENGTH: Final = 60


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


def last_day() -> dict[str, datetime]:
    """The range that a resend begins with. It ends with the second that has begun."""
    until = timezone.now().replace(microsecond=0) + timedelta(seconds=1)
    return {"since": until - timedelta(days=1), "until": until}


class LogForm(RangeForm):
    """Filters, all optional. A ``period`` is one of ``PERIODS``; exact times go before it."""

    endpoint = forms.ChoiceField(
        required=False, error_messages={"invalid_choice": "There is no endpoint with this id in your organization."}
    )
    event = forms.ChoiceField(
        required=False,
        choices=[("", "All events"), *EventType.choices],
        error_messages={"invalid_choice": "There is no such event type."},
    )
    state = forms.ChoiceField(
        required=False,
        choices=[("", "All states"), *STATES],
        error_messages={"invalid_choice": "There is no such state."},
    )
    period = forms.ChoiceField(
        required=False,
        choices=[("", "All time"), *((name, label) for name, (label, _) in PERIODS.items())],
        widget=forms.HiddenInput,
        error_messages={"invalid_choice": "There is no such period: choose one of those above, or exact times."},
    )

    field_order = ("endpoint", "event", "state", "since", "until", "period")

    def __init__(self, organization: Organization, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.endpoints = _endpoints(organization, str(data.get("endpoint", "")))
        choices = [(public_id, _label(endpoint)) for public_id, endpoint in self.endpoints.items()]
        self.choices("endpoint", [("", "All endpoints"), *choices])
        for name in ("since", "until"):
            self.fields[name].required = False
        for name in ("endpoint", "event", "state"):
            self.fields[name].widget.attrs["data-autosubmit"] = ""

    def choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # for the type checker
        field.choices = choices

    @property
    def chosen_endpoint(self) -> Endpoint | None:
        return self.endpoints.get(self.cleaned_data.get("endpoint", ""))

    @property
    def period_in_force(self) -> str:
        """Empty where exact times were given."""
        return "" if self.is_exact else str(self.cleaned_data.get("period", ""))

    @property
    def is_exact(self) -> bool:
        return bool(self.cleaned_data.get("since") or self.cleaned_data.get("until"))

    def values(self) -> dict[str, Any]:
        """As ``webhooks.deliveries.log`` takes them."""
        chosen = self.cleaned_data
        since = timezone.now() - PERIODS[self.period_in_force][1] if self.period_in_force else chosen["since"]
        return {
            "endpoint": self.chosen_endpoint,
            "event_type": chosen["event"] or None,
            "state": chosen["state"] or None,
            "since": since,
            "until": chosen["until"],
        }

    def query(self, **changed: str) -> str:
        """The filters as a query string, to go on from here with some of them ``changed``."""
        names = ("endpoint", "event", "state", "since", "until")
        chosen = {name: str(self.data.get(name, "")) for name in names} | {"period": self.period_in_force} | changed
        return urlencode({name: value for name, value in chosen.items() if value})


def _endpoints(organization: Organization, chosen: str) -> dict[str, Endpoint]:
    """Those one can choose, by public id. A deleted one, of which there may be many, only if it is chosen."""
    found = {endpoint.public_id: endpoint for endpoint in Endpoint.objects.of(organization).order_by("-id")}
    if chosen and chosen not in found:
        try:
            chosen_id = ids.parse_public_id(ids.WEBHOOK, chosen)
        except ValueError:
            return found
        deleted = Endpoint.objects.filter(organization=organization, id=chosen_id).first()
        if deleted:
            found[chosen] = deleted
    return found


def _label(endpoint: Endpoint) -> str:
    name = Truncator(visible(endpoint.description or endpoint.url)).chars(LABEL_LENGTH)
    return f"{name} (deleted)" if endpoint.deleted_at else name
