"""The form of an organization's settings. It turns text into values; the rules are ``accounts.organizations``'s."""

from typing import Any

from django import forms

from accounts.forms import ServiceForm
from accounts.models import Organization


class OrganizationForm(ServiceForm):
    name = forms.CharField(label="Name", widget=forms.TextInput(attrs={"autocomplete": "organization"}))
    cache_ttl_s = forms.IntegerField(
        label="Response cache, seconds",
        help_text="For this time, at most 86,400 seconds (a day), answers to requests with temperature 0 or a seed, "
        "and embeddings, are stored, encrypted; the same request then gets the same answer at once, without a cost. If "
        "empty, nothing is stored.",
        required=False,
        # Not type="number": of "1,000" browsers send nothing then.
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
        error_messages={"invalid": "Enter a whole number such as 3600, digits only."},
    )

    contents_days = forms.IntegerField(
        label="Stored contents, days",
        help_text="For this long, at most 365 days, the prompt and the answer of each request are stored, encrypted, "
        "and everybody in the organization can read them on the request's page. If empty, no contents are stored.",
        required=False,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
        error_messages={"invalid": "Enter a whole number such as 30, digits only."},
    )
    forget = forms.BooleanField(
        label="Delete all stored prompts and answers now",
        help_text="Storing no contents also deletes what is stored. That can't be undone.",
        required=False,
    )

    def __init__(self, organization: Organization, data: Any = None) -> None:
        names = [name for name in self.base_fields if name != "forget"]
        super().__init__(data, initial={name: getattr(organization, name) for name in names})
        self.stores = organization.contents_days is not None

    @property
    def asks_to_forget(self) -> bool:
        """Whether the page has to ask before the form is as good as done."""
        return "forget" in self.errors

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        forget = cleaned.pop("forget", False)
        if self.stores and "contents_days" in cleaned and cleaned["contents_days"] is None and not forget:
            self.add_error("forget", "Confirm this to stop storing contents, or enter a number of days above.")
        return cleaned
