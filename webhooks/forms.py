"""The forms of the webhook endpoints' pages. They turn text into values; the rules are ``webhooks.endpoints``'s."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.db.models import Q
from django.forms.boundfield import BoundWidget

from accounts.forms import ServiceForm
from accounts.models import ApiKey, Organization
from helixflow.lib import ids
from webhooks.models import Endpoint, EventType

EXPLAINED: Final = {
    EventType.COMPLETION_CREATED: "A chat or text completion ended well: who asked, which model, tokens, duration.",
    EventType.COMPLETION_FAILED: "A completion ended with an error after it was let in.",
    EventType.RATE_LIMIT_EXCEEDED: "A key met the limit per minute. At most one event for each key and minute.",
    EventType.QUOTA_LOW: "80% and 95% of the month's requests are used. Once each.",
    EventType.BATCH_COMPLETED: "A batch has ended, well or not: how, what it cost, where its results are.",
}
CHANGED_SINCE: Final = (
    "These settings were changed meanwhile, in another window or over the API. Nothing was saved: open this page anew "
    "to see them, or save once more to replace them by what is below."
)
FIELDS: Final = ("url", "description", "events", "api_keys", "models")


class EndpointForm(ServiceForm):
    url = forms.CharField(
        label="URL",
        max_length=2000,
        help_text="Where events are sent to, as POST requests.",
        error_messages={"required": "Enter the address of your receiver."},
        widget=forms.URLInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "placeholder": "https://example.com/webhooks"}
        ),
    )
    description = forms.CharField(
        required=False,
        max_length=200,
        help_text="What it is for, such as “Usage into the data warehouse”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    events = forms.MultipleChoiceField(
        choices=[(event.value, event.value) for event in EventType],
        error_messages={"required": "Choose at least one event."},
        widget=forms.CheckboxSelectMultiple,
    )
    api_keys = forms.MultipleChoiceField(
        label="Only of these API keys",
        required=False,
        help_text="None chosen: of all keys. Events that name no key, such as quota.low, come anyway.",
        error_messages={"invalid_choice": "One of these keys is not there any more. Choose again."},
        widget=forms.CheckboxSelectMultiple,
    )
    models = forms.CharField(
        label="Only of these models",
        required=False,
        max_length=30_000,
        help_text="Names as under Models, separated by commas or line breaks. Empty: of all models.",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
    )

    # What a page was shown with, as ``version`` has it: one that is out of date must not undo what was changed since.
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, organization: Organization, data: Any = None, *, endpoint: Endpoint | None = None) -> None:
        super().__init__(data, initial=initial_of(endpoint) if endpoint else None)
        self.version = _digest(self.initial)
        chosen = (endpoint.api_key_ids if endpoint else None) or []
        keys = self.fields["api_keys"]
        assert isinstance(keys, forms.MultipleChoiceField)  # noqa: S101  # for the type checker
        keys.choices = _keys(organization, chosen)

    @property
    def event_choices(self) -> list[tuple[BoundWidget, str]]:
        """Each checkbox of an event, and what the event tells."""
        return [(box, EXPLAINED[EventType(box.data["value"])]) for box in self["events"]]

    @property
    def has_filters(self) -> bool:
        return any(self[field].value() or self[field].errors for field in ("api_keys", "models"))

    def clean_shown(self) -> None:
        if self.cleaned_data["shown"] not in {"", self.version}:
            self.add_error(None, CHANGED_SINCE)

    def clean_models(self) -> list[str] | None:
        return [name for name in re.split(r"[\s,]+", self.cleaned_data["models"]) if name] or None

    def clean_api_keys(self) -> list[str] | None:
        return self.cleaned_data["api_keys"] or None

    def values(self) -> dict[str, Any]:
        """As the services take them."""
        return {field: self.cleaned_data[field] for field in FIELDS}

    def changes(self) -> dict[str, Any]:
        """Those that differ from the endpoint's: an address that stays is not looked up again."""
        return {field: value for field, value in self.values().items() if field in self.changed_data}


class NewEndpointForm(EndpointForm):
    # Sending the same page again (a reload of the page that showed the secret) must not make a second endpoint.
    once = forms.CharField(widget=forms.HiddenInput, max_length=64)


class SendTestForm(ServiceForm):
    event = forms.ChoiceField(label="Event", choices=[(event.value, event.value) for event in EventType])


def initial_of(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
        "api_keys": [ids.public_id(ids.API_KEY, key_id) for key_id in endpoint.api_key_ids or []],
        "models": ", ".join(endpoint.model_names or []),
    }


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()


def _keys(organization: Organization, chosen: list[Any]) -> list[tuple[str, str]]:
    """Keys that can still be used, newest first, and those that were chosen, whatever became of them."""
    keys = ApiKey.objects.of(organization)
    usable = keys.usable().values("id")
    shown = keys.filter(Q(id__in=usable) | Q(id__in=chosen)).order_by("-id")
    return [(key.public_id, f"{key.name} ({key.hint})") for key in shown]
