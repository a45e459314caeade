"""Forms of the account pages. They check shape; the rules are those of ``accounts.services``."""

from typing import Any

from django import forms
from django.contrib.auth.password_validation import validate_password

from accounts.models import User
from accounts.passwords import MAXIMUM_LENGTH
from accounts.services import USERNAME_MAXIMUM
from helixflow.lib.errors import HelixError


def password_field(label: str, autocomplete: str, hint: str = "") -> forms.CharField:
    """``autocomplete`` tells password managers which password is meant: ``current-password`` or ``new-password``."""
    return forms.CharField(
        label=label,
        help_text=hint,
        strip=False,
        max_length=MAXIMUM_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": autocomplete}),
    )


def email_field(label: str = "E-mail address", **attributes: Any) -> forms.EmailField:
    # As long as a username, because on these pages the address is the username too.
    widget = forms.EmailInput(attrs={"autocomplete": "email", **attributes})
    errors = {"invalid": "Enter a valid e-mail address."}
    return forms.EmailField(label=label, max_length=USERNAME_MAXIMUM, widget=widget, error_messages=errors)


NEW_PASSWORD_HINT = "At least 8 characters."  # noqa: S105  # no password


class ServiceForm(forms.Form):
    def add_problems(self, refused: HelixError) -> None:
        """What a service refused, beside the fields it names; what names no field here, above them."""
        shown = {field: message for field, message in refused.details.items() if field in self.fields}
        for field, message in shown.items():
            self.add_error(field, message)
        if not shown:
            self.add_error(None, refused.message)


class UserForm(ServiceForm):
    """About someone who exists already."""

    def __init__(self, user: User, data: Any = None, **kwargs: Any) -> None:
        self.user = user
        super().__init__(data, **kwargs)


class SignupForm(ServiceForm):
    email = email_field(autofocus=True)
    password = password_field("Password", "new-password", NEW_PASSWORD_HINT)


class LoginForm(forms.Form):
    username = forms.CharField(
        label="E-mail address or username",
        max_length=254,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false", "autofocus": True}
        ),
    )
    password = password_field("Password", "current-password")


class ForgottenPasswordForm(forms.Form):
    email = email_field(autofocus=True)


class NewPasswordForm(UserForm):
    password = password_field("New password", "new-password", NEW_PASSWORD_HINT)

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        validate_password(password, self.user)
        return password


class NameForm(forms.Form):
    name = forms.CharField(
        label="Name", max_length=100, required=False, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )

    def clean_name(self) -> str:
        """It stands in mails to others, who must not take lines of it for ours."""
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise forms.ValidationError("The name can't hold control characters or line breaks.")
        return name


class ConfirmedForm(UserForm):
    """Asks again for the password of whoever sits at the screen."""

    current_password = password_field("Current password", "current-password")

    def clean_current_password(self) -> str:
        password: str = self.cleaned_data["current_password"]
        if not self.user.check_password(password):
            raise forms.ValidationError("This is not your current password.")
        return password


class EmailChangeForm(ConfirmedForm):
    email = email_field("New e-mail address")
    field_order = ("email", "current_password")


class PasswordChangeForm(ConfirmedForm, NewPasswordForm):
    field_order = ("current_password", "password")
