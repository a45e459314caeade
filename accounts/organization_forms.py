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

    def __init__(self, organization: Organization, data: Any = None) -> None:
        super().__init__(data, initial={name: getattr(organization, name) for name in self.base_fields})
