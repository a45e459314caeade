"""Asking for the deletion of an organization or an account, with seven days to think again; ``erasure`` then does it.

In these days an organization is refused like a disabled one, and nothing of it is changed, so that keeping it restores
everything. An account works as before, says that it is to be deleted, and takes with it the organizations that nobody
else is in.
"""

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from celery import signature
from django.db import transaction
from django.utils import timezone

from accounts import access, audit, erasure, generation, members, roles, sessions, web_sessions
from accounts.models import Membership, Organization, Role, User
from helixflow.lib import errors, tasks

logger = logging.getLogger(__name__)
register = erasure.register

GRACE: Final = timedelta(days=7)
TOO_LATE: Final = "It is too late: the deletion has begun."
NOBODY_STAYS: Final = (
    "Your account is about to be deleted, and nobody else owns this organization. Keep your account first."
)
STAFF: Final = "Staff accounts can't be deleted here. Ask another administrator to take the staff status away first."
# By name, since tasks stand on what this module stands on.
TELL_ORGANIZATION: Final = signature("accounts.tasks.send_organization_deletion_mail")
TELL_ACCOUNT: Final = signature("accounts.tasks.send_account_deletion_mail")


@transaction.atomic
def delete_organization(*, by: Membership) -> Organization:
    """Its calls are refused from the next request on; all owners get a mail. Twice changes nothing.

    Raises AuthorizationFailed.
    """
    actor = members.locked(by)
    access.require(actor, roles.DELETE)
    organization = actor.organization
    if organization.deletion_due_at is None:
        _schedule(organization, actor.user, timezone.now() + GRACE)
        _tell_owners(organization)
    return organization


@transaction.atomic
def keep_organization(*, by: Membership) -> Organization:
    """As it was before. Raises AuthorizationFailed, InvalidRequest (the time is over; no owner would stay)."""
    actor = members.locked(by)
    access.require(actor, roles.DELETE)
    organization = actor.organization
    if organization.deletion_due_at is not None:
        if organization.deletion_due_at <= timezone.now():
            raise errors.InvalidRequest(TOO_LATE)
        if not members.owners(organization).exists():
            raise errors.InvalidRequest(NOBODY_STAYS)
        _keep(organization, actor.user)
        _tell_owners(organization)
    return organization


def blocking(user: User) -> list[Organization]:
    """Organizations with other members whose last owner is ``user``: they must be transferred or deleted first."""
    return [organization for organization in _last_owned(user) if _has_others(organization, user)]


def going_along(user: User) -> list[Organization]:
    """Those that nobody else is in."""
    return [organization for organization in _last_owned(user) if not _has_others(organization, user)]


@transaction.atomic
def delete_account(*, user: User) -> datetime:
    """When it is due. Ends every session. Raises AuthorizationFailed (staff), InvalidRequest (``blocking``)."""
    _lock_organizations(user)
    current = User.objects.select_for_update(no_key=True).get(id=user.id)
    if current.is_staff:
        raise errors.AuthorizationFailed(STAFF)
    if current.deletion_due_at is not None:
        return current.deletion_due_at
    if blocked := blocking(current):
        names = ", ".join(f"“{organization.name}”" for organization in blocked)
        raise errors.InvalidRequest(f"You are the last owner of {names}. Transfer or delete what others are in first.")
    due = timezone.now() + GRACE
    for organization in going_along(current):
        if organization.deletion_due_at is None:
            _schedule(organization, current, due)
    User.objects.filter(id=current.id).update(deletion_due_at=due)
    audit.record(
        "account.deletion_requested",
        user=current,
        target=current.public_id,
        summary="asked for the deletion of the account",
        changes={"deletion_due_at": (None, due)},
    )
    sessions.end_all(user=current)
    web_sessions.end_all(user=current)
    transaction.on_commit(partial(tasks.send, TELL_ACCOUNT, str(current.id)))
    logger.info("account %s is to be deleted", current.public_id)
    return due


@transaction.atomic
def keep_account(*, user: User) -> None:
    """With the organizations that would have gone with it. Raises InvalidRequest (the time is over)."""
    _lock_organizations(user)
    current = User.objects.select_for_update(no_key=True).get(id=user.id)
    due = current.deletion_due_at
    if due is None:
        return
    if due <= timezone.now():
        raise errors.InvalidRequest(TOO_LATE)
    User.objects.filter(id=current.id).update(deletion_due_at=None)
    for organization in Organization.objects.of(current).filter(deletion_due_at=due):
        _keep(organization, current)
    audit.record(
        "account.kept",
        user=current,
        target=current.public_id,
        summary="kept the account",
        changes={"deletion_due_at": (due, None)},
    )
    transaction.on_commit(partial(tasks.send, TELL_ACCOUNT, str(current.id)))
    logger.info("account %s is kept", current.public_id)


def _lock_organizations(user: User) -> None:
    """In order of id, before the user's row: who joins or becomes an owner locks them too."""
    list(Organization.objects.of(user).select_for_update(no_key=True, of=("self",)).order_by("id"))


def _last_owned(user: User) -> list[Organization]:
    owned = Membership.objects.filter(user=user, role=Role.OWNER).select_related("organization").order_by("id")
    return [
        membership.organization
        for membership in owned
        if not members.owners(membership.organization).exclude(user_id=user.id).exists()
    ]


def _has_others(organization: Organization, user: User) -> bool:
    return organization.memberships.exclude(user=user).exists()


def _schedule(organization: Organization, user: User, due: datetime) -> None:
    organization.deletion_due_at = due
    organization.save(update_fields=["deletion_due_at"])
    generation.bump(organization.id)
    _record("organization.deletion_requested", organization, user, "asked for its deletion", (None, due))


def _keep(organization: Organization, user: User) -> None:
    before, organization.deletion_due_at = organization.deletion_due_at, None
    organization.save(update_fields=["deletion_due_at"])
    generation.bump(organization.id)
    _record("organization.kept", organization, user, "kept the organization", (before, None))


def _tell_owners(organization: Organization) -> None:
    transaction.on_commit(partial(tasks.send, TELL_ORGANIZATION, str(organization.id)))


def _record(
    action: str,
    organization: Organization,
    user: User,
    summary: str,
    due: tuple[datetime | None, datetime | None],
) -> None:
    audit.record(
        action,
        user=user,
        organization=organization,
        target=organization.public_id,
        summary=summary,
        changes={"deletion_due_at": due},
    )
    logger.info("%s: %s by %s", action, organization.public_id, user.public_id)
