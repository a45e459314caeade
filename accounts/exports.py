"""Exports of an organization's data: asking for one, fetching it, and letting it expire. ``exporting`` writes them."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import IO, Any, Final

from celery import signature
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import access, audit, exporting, members, roles
from accounts.models import ApiKey, AuditEvent, Export, Invitation, Membership, Organization
from helixflow.lib import clock, errors, ids, tasks

logger = logging.getLogger(__name__)
register = exporting.register

MAKE: Final = signature("accounts.tasks.make_export")  # by name, since tasks stand on what this module stands on
MAX_KEPT: Final = 5  # an organization's
GIVE_UP: Final = timedelta(days=1)  # it kills its workers, or the storage takes nothing
UNDER_WAY: Final = (Export.State.WAITING, Export.State.RUNNING)
GONE: Final = "This export isn't there any more. Ask for a new one."


def of(organization: Organization) -> QuerySet[Export]:
    """Newest first."""
    return Export.objects.filter(organization=organization).select_related("requested_by").order_by("-id")


@transaction.atomic
def request(*, by: Membership) -> Export:
    """One at a time: what is under way already is the answer. Its owner gets a mail when it is ready.

    The oldest make room. Raises AuthorizationFailed.
    """
    actor = members.locked(by)
    access.require(actor, roles.EXPORT)
    every = of(actor.organization)
    running = every.filter(state__in=UNDER_WAY).first()
    if running is not None:
        return running
    for old in every[MAX_KEPT - 1 :]:
        _drop(old)
    export = Export.objects.create(organization=actor.organization, requested_by=actor.user)
    _record("export.requested", actor, export, "asked for an export of all data")
    transaction.on_commit(partial(tasks.send, MAKE, str(export.id)))
    return export


def open_file(*, by: Membership, export: Export) -> IO[bytes]:
    """For the download. Raises AuthorizationFailed, InvalidRequest (not ready), NotFound (expired)."""
    access.require(by, roles.EXPORT)
    if export.state != Export.State.READY:
        raise errors.InvalidRequest("This export isn't ready. Its page says how far it is.")
    if not is_ready(export):
        raise errors.NotFound(GONE)
    try:
        file: IO[bytes] = default_storage.open(export.file)
    except FileNotFoundError:
        logger.exception("the file of export %s is missing", export.public_id)
        raise errors.NotFound(GONE) from None
    with transaction.atomic():
        _record("export.downloaded", by, export, "downloaded an export of all data")
    return file


def is_ready(export: Export) -> bool:
    return export.state == Export.State.READY and export.expires_at is not None and export.expires_at > timezone.now()


def sweep() -> int:
    """Begin again what a worker left, give up what no worker gets done, and drop what is too old; how many."""
    now = timezone.now()
    Export.objects.filter(state__in=UNDER_WAY, created_at__lte=now - GIVE_UP).update(
        state=Export.State.FAILED, finished_at=now
    )
    waiting = list(exporting.claimable().values_list("id", flat=True)[:100])
    for export_id in waiting:
        tasks.nudge(MAKE, str(export_id))
    ended = now - exporting.LIFETIME
    expired = Export.objects.filter(finished_at__lte=ended)[:100]
    for export in expired:
        _drop(export)
    return len(waiting) + len(expired)


def _drop(export: Export) -> None:
    """The file after the row: a row without a file would be a broken promise, a file without a row is only litter."""
    name = export.file
    export.delete()
    if name:
        transaction.on_commit(partial(default_storage.delete, name))


def _record(action: str, actor: Membership, export: Export, summary: str) -> None:
    audit.record(action, user=actor.user, organization=actor.organization, target=export.public_id, summary=summary)
    logger.info("%s: %s by %s", action, export.public_id, actor.user.public_id)


def _organization(organization: Organization) -> Iterator[dict[str, Any]]:
    yield {
        "id": organization.public_id,
        "name": organization.name,
        "cache_ttl_s": organization.cache_ttl_s,
        "contents_days": organization.contents_days,
        "disabled_at": organization.disabled_at,
        "created_at": organization.created_at,
    }


def _members(organization: Organization) -> Iterator[dict[str, Any]]:
    for member in exporting.rows_of(Membership.objects.filter(organization=organization).select_related("user")):
        user = member.user
        person = {"user_id": user.public_id, "email": user.email, "name": user.name}
        yield person | {"role": member.role, "joined_at": member.created_at}


def _invitations(organization: Organization) -> Iterator[dict[str, Any]]:
    for invitation in exporting.rows_of(Invitation.objects.filter(organization=organization)):
        yield {
            "id": invitation.public_id,
            "email": invitation.email,
            "role": invitation.role,
            "invited_by": _user_id(invitation.invited_by_id),
            "accepted_by": _user_id(invitation.accepted_by_id),
            "created_at": invitation.created_at,
            "expires_at": invitation.expires_at,
            "accepted_at": invitation.accepted_at,
            "withdrawn_at": invitation.withdrawn_at,
        }


def _api_keys(organization: Organization) -> Iterator[dict[str, Any]]:
    for key in exporting.rows_of(ApiKey.objects.filter(organization=organization)):
        yield {
            "id": key.public_id,
            "name": key.name,
            "environment": key.environment,
            "hint": key.hint,
            "models": key.allowed_models,
            "is_playground": key.is_playground,
            "created_by": _user_id(key.created_by_id),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
            "last_used_at": key.last_used_at,
        }


def _audit_log(organization: Organization) -> Iterator[dict[str, Any]]:
    for event in exporting.rows_of(AuditEvent.objects.filter(organization_id=organization.id)):
        yield {
            "id": event.public_id,
            "actor": event.actor,
            "user_id": _user_id(event.user_id),
            "action": event.action,
            "target": event.target,
            "summary": event.summary,
            "changes": event.changes,
            "address": event.address,
            "user_agent": event.user_agent,
            "created_at": clock.rfc3339(event.created_at),
        }


def _user_id(value: Any) -> str | None:
    return None if value is None else ids.public_id(ids.USER, value)


for _name, _source in (
    ("organization", _organization),
    ("members", _members),
    ("invitations", _invitations),
    ("api_keys", _api_keys),
    ("audit_log", _audit_log),
):
    register(_name, _source)
