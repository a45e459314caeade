"""The forms of the delivery log's pages: filters, and the range of a resend. All times are in UTC."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django import forms
from django.utils import timezone
from django.utils.text import Truncator

from accounts.models import Organization
from helixflow.lib import ids
from helixflow.lib.log_forms import LogFilters
from webhooks.delivery_words import visible
from webhooks.models import DeliveryState, Endpoint, EventType

STATES: Final = [
    (DeliveryState.PENDING, "Pending"),
    (DeliveryState.SUCCEEDED, "Delivered"),
    (DeliveryState.FAILED, "Failed"),
    (DeliveryState.CANCELLED, "Cancelled"),
]
LABEL_LENGTH: Final = 60


def last_day() -> dict[str, datetime]:
    """The range that a resend begins with. It ends with the second that has begun."""
    until = timezone.now().replace(microsecond=0) + timedelta(seconds=1)
    return {"since": until - timedelta(days=1), "until": until}


class LogForm(LogFilters):
    PERIODS: ClassVar = {
        "hour": ("1 hour", timedelta(hours=1)),
        "day": ("24 hours", timedelta(days=1)),
        "week": ("7 days", timedelta(days=7)),
    }
    FILTERS = ("endpoint", "event", "state", "since", "until")
    MENUS = ("endpoint", "event", "state")

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
    field_order = ("endpoint", "event", "state", "since", "until", "period")

    def __init__(self, organization: Organization, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self.endpoints = _endpoints(organization, str(data.get("endpoint", "")))
        choices = [(public_id, _label(endpoint)) for public_id, endpoint in self.endpoints.items()]
        self.choices("endpoint", [("", "All endpoints"), *choices])

    @property
    def chosen_endpoint(self) -> Endpoint | None:
        return self.endpoints.get(self.cleaned_data.get("endpoint", ""))

    def values(self) -> dict[str, Any]:
        """As ``webhooks.deliveries.log`` takes them."""
        chosen = self.cleaned_data
        return {
            "endpoint": self.chosen_endpoint,
            "event_type": chosen["event"] or None,
            "state": chosen["state"] or None,
            "since": self.since_in_force,
            "until": chosen["until"],
        }


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
