"""Who is in an organization: change roles, remove, leave, hand over.

Each change locks the organization's row first and reads again who asks, so that of two owners who demote each other at
once one remains. It bumps the generation, and counts from the next request on.
"""

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from celery import Signature, signature
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import access, api_keys, audit, generation, playground, roles
from accounts.models import ApiKey, Invitation, Membership, Organization, Role, User
from helixflow.lib import errors, ids, tasks

logger = logging.getLogger(__name__)

MAX_MEMBERS: Final = 1_000  # an organization's
LAST_OWNER: Final = (
    "An organization always has an owner. Make somebody else one first, transfer it, or delete the organization."
)
# By name, since tasks stand on this module.
TELL_REMOVED: Final = signature("accounts.tasks.send_removed_mail")
TELL_TRANSFERRED: Final = signature("accounts.tasks.send_transferred_mail")


@dataclass(frozen=True)
class Page:
    members: list[Membership]
    following: str | None  # the cursor of the next page


def of(organization: Organization) -> QuerySet[Membership]:
    return Membership.objects.filter(organization=organization).select_related("user")


def page(organization: Organization, *, cursor: str | None, limit: int) -> Page:
    """Oldest accounts first; the cursor is the user id of the last one shown. Raises InvalidRequest."""
    rows = of(organization).order_by("user_id")
    if cursor:
        try:
            rows = rows.filter(user_id__gt=ids.parse_public_id(ids.USER, cursor))
        except ValueError:
            raise errors.InvalidRequest("The cursor is not one of ours: take it from meta.next_cursor.") from None
    found = list(rows[: limit + 1])
    shown = found[:limit]
    return Page(shown, shown[-1].user.public_id if len(found) > limit else None)


def keys_made_by(member: Membership) -> QuerySet[ApiKey]:
    """The usable ones. They are the organization's, and stay when their maker goes."""
    keys = ApiKey.objects.of(member.organization).usable()
    return keys.filter(created_by=member.user_id, is_playground=False).order_by("-id")


@transaction.atomic
def change_role(*, by: Membership, member: Membership, role: str) -> Membership:
    """Raises AuthorizationFailed, InvalidRequest (the last owner; no such role)."""
    actor = locked(by)
    current = _current(member)
    if role not in Role.values:
        raise errors.InvalidRequest(f"The role is one of {', '.join(Role.values)}.", param="role")
    _require_power_over(actor, current.role, role)
    if current.role == role:
        return current
    if current.role == Role.OWNER:
        _require_other_owner(current)
    if role == Role.OWNER:
        _require_staying(current.user)
    before, current.role = current.role, role
    current.save(update_fields=["role"])
    withdraw_invitations(sent_by=current, role=role, user=actor.user)
    generation.bump(current.organization_id)
    _record(
        "member.role_changed",
        actor,
        current.user,
        summary=f"made {current.user.email} {roles.with_article(role)}",
        changes={"role": (before, role)},
    )
    return current


@transaction.atomic
def remove(*, by: Membership, member: Membership, revoke_keys: bool = False) -> int:
    """From the next request on. How many of the API keys they made were revoked with it.

    Raises AuthorizationFailed, InvalidRequest (the last owner; oneself, who leaves instead).
    """
    actor = locked(by)
    if actor.user_id == member.user_id:
        raise errors.InvalidRequest("You can't remove yourself; leave the organization instead.")
    current = _current(member)
    _require_power_over(actor, current.role)
    if current.role == Role.OWNER:
        _require_other_owner(current)
    keys = list(keys_made_by(current)) if revoke_keys else []
    for key in keys:
        api_keys.revoke(key=key, user=actor.user)
    _end(current, actor.user)
    _record(
        "member.removed",
        actor,
        current.user,
        summary=f"removed {current.user.email}",
        changes={"role": (current.role, None)},
    )
    _tell(TELL_REMOVED, current)
    return len(keys)


def may_leave(member: Membership) -> bool:
    """Whether somebody would be left who owns the organization; ``leave`` looks again, under a lock."""
    return member.role != Role.OWNER or owners(member.organization).exclude(user_id=member.user_id).exists()


@transaction.atomic
def leave(*, member: Membership) -> None:
    """Raises InvalidRequest for the last owner."""
    current = locked(member)
    if current.role == Role.OWNER:
        _require_other_owner(current)
    _end(current, current.user)
    _record("member.left", current, current.user, summary="left", changes={"role": (current.role, None)})


@transaction.atomic
def transfer(*, by: Membership, member: Membership) -> Membership:
    """``member`` becomes an owner, and whoever transfers an admin. Raises AuthorizationFailed, InvalidRequest."""
    actor = locked(by)
    access.require(actor, roles.TRANSFER)
    if actor.user_id == member.user_id:
        raise errors.InvalidRequest("Choose somebody else: you are an owner already.", param="user_id")
    current = _current(member)
    _require_staying(current.user)
    before, current.role, actor.role = current.role, Role.OWNER, Role.ADMIN
    current.save(update_fields=["role"])
    actor.save(update_fields=["role"])
    withdraw_invitations(sent_by=actor, role=Role.ADMIN, user=actor.user)
    generation.bump(actor.organization_id)
    _record(
        "organization.transferred",
        actor,
        current.user,
        summary=f"transferred the ownership to {current.user.email}",
        changes={"role": (before, Role.OWNER), "your_role": (Role.OWNER, Role.ADMIN)},
    )
    _tell(TELL_TRANSFERRED, current)
    return current


def withdraw_invitations(*, sent_by: Membership, role: str | None, user: User) -> None:
    """Those that ``sent_by`` could not send with ``role``, as whoever goes or is demoted could come back by them.

    ``role`` None: they go. In the transaction of the change.
    """
    open_ones = Invitation.objects.filter(
        organization=sent_by.organization_id, invited_by=sent_by.user_id, accepted_at=None, withdrawn_at=None
    )
    for invitation in open_ones.exclude(role__in=roles.grantable(role) if role else []).order_by("id"):
        invitation.withdrawn_at = timezone.now()
        invitation.save(update_fields=["withdrawn_at"])
        audit.record(
            "invitation.withdrawn",
            user=user,
            organization=sent_by.organization,
            target=invitation.public_id,
            summary=f"withdrew the invitation to {invitation.email}, which {sent_by.user.email} had sent",
        )


def locked(membership: Membership) -> Membership:
    """As it is now, while nobody else changes anything of its organization. Inside a transaction.

    Raises AuthorizationFailed for somebody who was removed meanwhile.
    """
    # no_key: rows that point to the organization can still be inserted meanwhile
    organization = Organization.objects.select_for_update(no_key=True).filter(id=membership.organization_id).first()
    current = Membership.objects.select_related("user").filter(id=membership.id).first()
    if organization is None or current is None:
        raise errors.AuthorizationFailed("You are not in this organization any more.")
    current.organization = organization
    return current


def owners(organization: Organization) -> QuerySet[Membership]:
    """Those who can act and mean to stay."""
    return of(organization).filter(role=Role.OWNER, user__is_active=True, user__deletion_due_at=None)


def _current(member: Membership) -> Membership:
    found = Membership.objects.select_related("user", "organization").filter(id=member.id).first()
    if found is None:
        raise errors.NotFound("Nobody with this id is in the organization.")
    return found


def _require_power_over(actor: Membership, *concerned: str) -> None:
    """Managers over members, owners over everybody."""
    access.require(actor, roles.MANAGE_MEMBERS)
    if any(role != Role.MEMBER for role in concerned):
        access.require(actor, roles.MANAGE_MANAGERS)


def _require_other_owner(member: Membership) -> None:
    if not owners(member.organization).exclude(user_id=member.user_id).exists():
        raise errors.InvalidRequest(LAST_OWNER)


def _require_staying(user: User) -> None:
    if user.deletion_due_at is not None or not user.is_active:
        raise errors.InvalidRequest("This account is disabled or about to be deleted, and can't become an owner.")


def _end(member: Membership, by: User) -> None:
    """With the key that the playground made for them, and the invitations that they sent."""
    playground.revoke(member)
    withdraw_invitations(sent_by=member, role=None, user=by)
    Membership.objects.filter(id=member.id).delete()
    generation.bump(member.organization_id)


def _record(
    action: str,
    actor: Membership,
    target: User,
    *,
    summary: str,
    changes: dict[str, tuple[str | None, str | None]],
) -> None:
    audit.record(
        action,
        user=actor.user,
        organization=actor.organization,
        target=target.public_id,
        summary=summary,
        changes=changes,
    )
    logger.info("%s: %s of %s by %s", action, target.public_id, actor.organization.public_id, actor.user.public_id)


def _tell(mail: "Signature[Any]", member: Membership) -> None:
    transaction.on_commit(partial(tasks.send, mail, str(member.user_id), member.organization.name))
