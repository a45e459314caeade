"""The mails of accounts: ``templates/accounts/email/<name>.txt`` and ``.html``."""

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator

from accounts import invitation_links, members, verification
from accounts.models import Export, Invitation, Organization, Role, User
from helixflow.lib import mail

MOST_OWNERS: Final = 100

# By name: subject, and the text, which may have a place for one detail.
SECURITY_NOTICES: Final = {
    "two_factor_on": (
        "Two-factor authentication is on",
        "Two-factor authentication was turned on for your account. A login needs a code of your app now.",
    ),
    "two_factor_off": (
        "Two-factor authentication is off",
        "Two-factor authentication was turned off for your account. A login needs your password alone now.",
    ),
    "two_factor_removed": (
        "Two-factor authentication was removed",
        "Our support removed two-factor authentication from your account. Set it up again as soon as you can.",
    ),
    "two_factor_codes": (
        "You have new recovery codes",
        "New recovery codes were made for your account. Those before are worth nothing any more.",
    ),
    "two_factor_code_used": (
        "A recovery code was used",
        "One of your recovery codes was used in place of a code of your app. You have {} left.",
    ),
    "two_factor_refused": (
        "Wrong codes were tried",
        "Wrong codes were given for your account, by somebody who has the password. Change it, if it wasn't you.",
    ),
}


def send_verification(user: User) -> None:
    link = mail.link("verify-email", verification.make_token(user))
    _send(user.email, "Confirm your e-mail address", "verify_email", {"user": user, "link": link})


def send_password_reset(user: User) -> None:
    link = mail.link("password-reset", user.public_id, default_token_generator.make_token(user))
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    _send(user.email, "Reset your password", "password_reset", {"user": user, "link": link, "minutes": minutes})


def send_email_changed(user: User, old_email: str) -> None:
    _send(old_email, "Your e-mail address was changed", "email_changed", {"user": user})


def send_security_notice(user: User, notice: str, detail: str = "") -> None:
    subject, text = SECURITY_NOTICES[notice]
    context = {"user": user, "text": text.format(detail), "link": mail.link("security")}
    _send(user.email, subject, "security_notice", context)


def send_invitation(invitation: Invitation) -> None:
    link = mail.link("invitation", invitation_links.token_of(invitation))
    by = invitation.invited_by
    context = {"invitation": invitation, "organization": invitation.organization, "by": by, "link": link}
    _send(invitation.email, f"Join {invitation.organization.name}", "invitation", context)


def send_removed(user: User, organization: str) -> None:
    _send(user.email, f"You were removed from {organization}", "removed", {"user": user, "organization": organization})


def send_transferred(user: User, organization: str) -> None:
    context = {"user": user, "organization": organization, "link": mail.link("team")}
    _send(user.email, f"You own {organization}", "transferred", context)


def send_organization_deletion(organization: Organization) -> None:
    due = organization.deletion_due_at
    subject = f"{organization.name} will be deleted" if due else f"{organization.name} is kept"
    to = list(members.owners(organization).order_by("id").values_list("user__email", flat=True)[:MOST_OWNERS])
    # Its only owner may be about to delete the account too, and is told all the same.
    to = to or list(members.of(organization).filter(role=Role.OWNER).values_list("user__email", flat=True)[:1])
    if to:
        context = {"organization": organization, "due": due, "link": mail.link("organization")}
        mail.send(to, subject, "accounts/email/organization_deletion", context | {"subject": subject})


def send_account_deletion(user: User) -> None:
    due = user.deletion_due_at
    subject = "Your account will be deleted" if due else "Your account is kept"
    _send(user.email, subject, "account_deletion", {"user": user, "due": due, "link": mail.link("profile")})


def send_export(export: Export) -> None:
    if export.requested_by is not None:
        context = {"export": export, "organization": export.organization, "link": mail.link("exports")}
        _send(export.requested_by.email, "Your export is ready", "export", context)


def _send(to: str, subject: str, template: str, context: dict[str, Any]) -> None:
    mail.send([to], subject, f"accounts/email/{template}", context)
