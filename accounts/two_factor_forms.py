"""Forms about the second factor, and about what ends sessions. The codes themselves are ``accounts.two_factor``'s."""

from typing import Any

from django import forms

from accounts.forms import ConfirmedForm
from accounts.models import User
from helixflow.lib.errors import AuthenticationFailed, InvalidRequest, RateLimitExceeded

MOST: int = 40  # characters of a code, with the gaps people leave


def code_field(label: str, hint: str = "", *, app_only: bool = False) -> forms.CharField:
    attributes: dict[str, Any] = {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
    if app_only:
        attributes["inputmode"] = "numeric"
    return forms.CharField(label=label, help_text=hint, max_length=MOST, widget=forms.TextInput(attrs=attributes))


class AddsProblems(forms.Form):
    def refuse(self, problem: InvalidRequest | AuthenticationFailed | RateLimitExceeded) -> None:
        """At the code, whatever it is."""
        self.add_error("code", problem.message)


class LoginCodeForm(AddsProblems):
    code = code_field("Code", "Six digits from your authenticator app, or one of your recovery codes.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs["autofocus"] = True


class SetUpForm(AddsProblems):
    code = code_field("Code from the app", "Six digits. Each lasts for half a minute.", app_only=True)


class RecentForm(ConfirmedForm):
    """Asks for the password only if the login was long ago."""

    def __init__(self, user: User, data: Any = None, *, is_recent: bool, **kwargs: Any) -> None:
        super().__init__(user, data, **kwargs)
        if is_recent:
            del self.fields["current_password"]


class ProveForm(ConfirmedForm, AddsProblems):
    """The password and a code: what turns the second factor off, or replaces what stands in for it."""

    code = code_field("Code", "From your authenticator app, or a recovery code.")
    field_order = ("current_password", "code")
