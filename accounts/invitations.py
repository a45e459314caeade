"""Invitations to an organization: sent by mail, for seven days, for one use by the owner of the address.

The rows of an organization's invitations change under the lock of its own row, as memberships do.
"""

import logging
from datetime import timedelta
from functools import partial
from typing import Final

from celery import signature
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import access, addresses, audit, generation, invitation_links, members, roles
from accounts.models import Invitation, Membership, Organization, Role, User
from helixflow.lib import errors, tasks

logger = logging.getLogger(__name__)

LIFETIME: Final = timedelta(days=7)
MAX_OPEN: Final = 50  # an organization's
MAX_ORGANIZATIONS: Final = 100  # that one person is in
SEND: Final = signature("accounts.tasks.send_invitation_mail")  # by name, since tasks stand on this module
WRONG_ADDRESS: Final = "This invitation is for another e-mail address than that of your account."


class Unusable(errors.InvalidRequest):
    """An invitation that is used, withdrawn or expired, or whose organization takes nobody in."""


def open_ones(organization: Organization) -> QuerySet[Invitation]:
    """Neither used nor withdrawn, newest first; those that expired are among them, since they can be sent again."""
    rows = Invitation.objects.filter(organization=organization, accepted_at=None, withdrawn_at=None)
    return rows.select_related("invited_by").order_by("-id")


def status(invitation: Invitation) -> str:
    """``accepted``, ``withdrawn``, ``expired`` or ``open``."""
    if invitation.accepted_at is not None:
        return "accepted"
    if invitation.withdrawn_at is not None:
        return "withdrawn"
    return "expired" if invitation.expires_at <= timezone.now() else "open"


@transaction.atomic
def invite(*, by: Membership, email: str, role: str = Role.MEMBER) -> Invitation:
    """A mail with the link leaves after commit. Raises AuthorizationFailed, InvalidRequest."""
    actor = members.locked(by)
    _require_inviter(actor)
    email = _clean_email(email)
    _require_grant(actor, role)
    _require_new(actor.organization, email)
    _require_room(actor.organization)
    invitation = Invitation(organization=actor.organization, email=email, role=role, invited_by=actor.user)
    _arm(invitation)
    invitation.save(force_insert=True)
    _send(invitation)
    _record("invitation.sent", actor, invitation, f"invited {email} as {role}")
    return invitation


@transaction.atomic
def resend(*, by: Membership, invitation: Invitation) -> Invitation:
    """With a new link and seven days more, by whoever asks for it; the link sent before is dead.

    Raises AuthorizationFailed, InvalidRequest.
    """
    actor = members.locked(by)
    _require_inviter(actor)
    current = _changeable(actor, invitation)
    current.invited_by = actor.user
    _arm(current)
    current.save(update_fields=["digest", "expires_at", "invited_by"])
    _send(current)
    _record("invitation.resent", actor, current, f"sent the invitation to {current.email} again")
    return current


@transaction.atomic
def withdraw(*, by: Membership, invitation: Invitation) -> Invitation:
    """Its link is dead at once. Twice changes nothing. Raises AuthorizationFailed, InvalidRequest (used)."""
    actor = members.locked(by)
    access.require(actor, roles.MANAGE_MEMBERS)
    if invitation.withdrawn_at is not None:
        return invitation
    current = _changeable(actor, invitation)
    current.withdrawn_at = timezone.now()
    current.save(update_fields=["withdrawn_at"])
    _record("invitation.withdrawn", actor, current, f"withdrew the invitation to {current.email}")
    return current


@transaction.atomic
def accept(*, invitation: Invitation, user: User) -> Membership:
    """The membership. ``user`` came with the link of the mail, which proves the address, so it counts as verified.

    Sent twice, by one person, it is accepted once. Who is in the organization already keeps their role.
    Raises Unusable, AuthorizationFailed (another address).
    """
    organization = Organization.objects.select_for_update(no_key=True).get(id=invitation.organization_id)
    current = Invitation.objects.get(id=invitation.id)
    mine = Membership.objects.filter(organization=organization, user=user).first()
    if current.accepted_at is not None and current.accepted_by_id == user.id and mine is not None:
        return mine
    _require_usable(current, organization)
    if not same_address(current.email, user.email):
        raise errors.AuthorizationFailed(WRONG_ADDRESS)
    _require_free(user)
    now = timezone.now()
    User.objects.filter(id=user.id, email_verified_at=None).update(email_verified_at=now)
    current.accepted_at, current.accepted_by = now, user
    current.save(update_fields=["accepted_at", "accepted_by"])
    if mine is None:
        _require_seat(organization)
        mine = Membership.objects.create(organization=organization, user=user, role=current.role)
        generation.bump(organization.id)
    audit.record(
        "member.joined",
        user=user,
        organization=organization,
        target=user.public_id,
        summary=f"joined as {mine.role}",
        changes={"role": (None, mine.role)},
    )
    logger.info("%s joined %s", user.public_id, organization.public_id)
    return mine


def why_unusable(invitation: Invitation) -> str:
    """In words; empty for one that can be accepted."""
    try:
        _require_usable(invitation, invitation.organization)
    except Unusable as refused:
        return refused.message
    return ""


def same_address(one: str, other: str) -> bool:
    """Whatever the case of ASCII letters; others must match, since look-alikes of some alphabets become equal."""
    if one.isascii() and other.isascii():
        return one.lower() == other.lower()
    return one == other


def _require_usable(invitation: Invitation, organization: Organization) -> None:
    match status(invitation):
        case "accepted":
            raise Unusable("This invitation has been used.")
        case "withdrawn":
            raise Unusable("This invitation was withdrawn. Ask whoever invited you for a new one.")
        case "expired":
            raise Unusable("This invitation has expired. Ask whoever invited you to send it again.")
    if organization.disabled_at is not None or organization.deletion_due_at is not None:
        raise Unusable("This organization takes nobody in at the moment.")


def _require_inviter(actor: Membership) -> None:
    access.require(actor, roles.MANAGE_MEMBERS)
    if not actor.user.is_verified:
        raise errors.AuthorizationFailed(
            "Confirm your own e-mail address before you invite others. Your profile sends the link again."
        )


def _require_grant(actor: Membership, role: str) -> None:
    if role not in Role.values:
        raise errors.InvalidRequest(f"The role is one of {', '.join(Role.values)}.", param="role")
    if role != Role.MEMBER:
        access.require(actor, roles.MANAGE_MANAGERS)


def _require_new(organization: Organization, email: str) -> None:
    if members.of(organization).filter(user__email__iexact=email).exists():
        raise errors.InvalidRequest("Somebody with this address is in the organization already.", param="email")
    same = open_ones(organization).filter(email__iexact=email).first()
    if same is None:
        return
    if same.expires_at > timezone.now():
        message = "This address has an open invitation. Send that one again, or withdraw it first."
        raise errors.InvalidRequest(message, param="email")
    same.withdrawn_at = timezone.now()  # makes room for its successor
    same.save(update_fields=["withdrawn_at"])


def _require_room(organization: Organization) -> None:
    if open_ones(organization).count() >= MAX_OPEN:
        raise errors.InvalidRequest(f"An organization can have {MAX_OPEN} open invitations. Withdraw some first.")
    _require_seat(organization)


def _require_seat(organization: Organization) -> None:
    if members.of(organization).count() >= members.MAX_MEMBERS:
        raise Unusable(f"The organization has {members.MAX_MEMBERS:,} members, which is the most there can be.")


def _require_free(user: User) -> None:
    if user.deletion_due_at is not None:
        raise Unusable("Your account is about to be deleted. Keep it first, then accept.")
    if Membership.objects.filter(user=user).count() >= MAX_ORGANIZATIONS:
        raise Unusable(f"You are in {MAX_ORGANIZATIONS} organizations, which is the most one can be in.")


def _changeable(actor: Membership, invitation: Invitation) -> Invitation:
    current = Invitation.objects.select_related("invited_by").get(id=invitation.id)
    if current.accepted_at is not None or current.withdrawn_at is not None:
        raise errors.InvalidRequest(f"This invitation is {status(current)} and can't be changed.")
    _require_grant(actor, current.role)
    return current


def _arm(invitation: Invitation) -> None:
    invitation.expires_at = timezone.now() + LIFETIME
    invitation.digest = invitation_links.digest_of(invitation_links.token_of(invitation))


def _send(invitation: Invitation) -> None:
    """With the broker away the invitation stands, and can be sent again."""
    transaction.on_commit(partial(tasks.send, SEND, str(invitation.id)))


def _clean_email(value: str) -> str:
    email = User.objects.normalize_email(value.strip())
    try:
        addresses.check(email)
    except ValidationError:
        raise errors.InvalidRequest("Enter a valid e-mail address.", param="email") from None
    if len(email) > 254:
        raise errors.InvalidRequest("An e-mail address can have at most 254 characters.", param="email")
    return email


def _record(action: str, actor: Membership, invitation: Invitation, summary: str) -> None:
    audit.record(
        action,
        user=actor.user,
        organization=actor.organization,
        target=invitation.public_id,
        summary=summary,
        changes={"role": (None, invitation.role)} if action == "invitation.sent" else None,
    )
    logger.info("%s: %s by %s", action, invitation.public_id, actor.user.public_id)
