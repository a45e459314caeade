"""Forms of the team's pages, of new organizations and of deletions. The rules are the services'."""

from typing import Any

from django import forms

from accounts import roles
from accounts.forms import ConfirmedForm, ServiceForm
from accounts.models import Membership, Role, User

ABOUT: dict[Role, str] = {
    Role.MEMBER: "Member: sees everything but the audit log, uses the playground",
    Role.ADMIN: "Admin: also manages keys, webhooks, limits, settings and members",
    Role.OWNER: "Owner: everything, also owners and admins, the audit log, export and deletion",
}


def role_field(membership: Membership, **attributes: Any) -> forms.ChoiceField:
    """The roles that ``membership`` may give."""
    choices = [(role.value, ABOUT[role]) for role in roles.grantable(membership.role)]
    return forms.ChoiceField(label="Role", choices=choices, widget=forms.RadioSelect, **attributes)


class InviteForm(ServiceForm):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "autofocus": True}),
        error_messages={"invalid": "Enter a valid e-mail address."},
    )

    def __init__(self, membership: Membership, data: Any = None) -> None:
        super().__init__(data, initial={"role": Role.MEMBER})
        self.fields["role"] = role_field(membership)


class RoleForm(ServiceForm):
    def __init__(self, membership: Membership, member: Membership, data: Any = None) -> None:
        super().__init__(data, initial={"role": member.role})
        self.fields["role"] = role_field(membership)


class RemoveForm(ServiceForm):
    revoke_keys = forms.BooleanField(label="Also revoke these keys", required=False)


class NewOrganizationForm(ServiceForm):
    name = forms.CharField(
        label="Name",
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "organization", "autofocus": True}),
    )


class TypedForm(ServiceForm):
    """Asks for a name to be typed, as a sign that it was read."""

    typed = forms.CharField(label="Name", widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}))

    def __init__(self, expected: str, label: str, data: Any = None) -> None:
        self.expected = expected
        super().__init__(data)
        self.fields["typed"].label = label

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if typed.strip() != self.expected.strip():
            raise forms.ValidationError(f"Type exactly: {self.expected}")
        return typed


class DeletionForm(ConfirmedForm, TypedForm):
    """The typed name and the password."""

    field_order = ("typed", "current_password")

    def __init__(self, user: User, expected: str, label: str, data: Any = None) -> None:
        self.user = user
        TypedForm.__init__(self, expected, label, data)
