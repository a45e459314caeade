"""Deleting for good what is due: an organization with all that is kept of it, and accounts. In bounded batches.

What is kept in the apps above registers how it is deleted, since much of it has no foreign key and the rest would make
one long transaction. All of it may stop at any point and go on later.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.files.storage import default_storage
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit, generation, playground
from accounts.models import Export, Membership, Organization, Role, User
from helixflow.lib import ids, redis

logger = logging.getLogger(__name__)

BATCH: Final = 1_000  # rows in a transaction
MOST: Final = 50  # organizations, and accounts, looked at in a round
FOR_S: Final = 40.0  # a round of a worker, which then goes on with the next
FORGET_S: Final = 3600  # gateways may hold a snapshot for 30 s

# Deletes at most so many rows of the organization with this id; how many it found.
Eraser = Callable[[uuid.UUID, int], int]
_erasers: list[Eraser] = []


def register(eraser: Eraser) -> None:
    """Called in ``AppConfig.ready``, in the order in which rows can be deleted."""
    if eraser not in _erasers:
        _erasers.append(eraser)


def delete_some(rows: QuerySet[Any], limit: int) -> int:
    """At most ``limit`` of ``rows``; those that another worker is deleting are left to it."""
    with transaction.atomic():
        found = list(rows.order_by().select_for_update(skip_locked=True).values_list("pk", flat=True)[:limit])
        rows.model._default_manager.filter(pk__in=found).delete()  # noqa: SLF001  # Django's documented way to a manager
    return len(found)


def erase_due(*, for_s: float = FOR_S) -> int:
    """What is due, until the time is over; how many organizations and accounts are gone."""
    until = time.monotonic() + for_s
    now = timezone.now()
    due = Organization.objects.filter(deletion_due_at__lte=now).order_by("deletion_due_at")
    gone = 0
    for organization_id in due.values_list("id", flat=True)[:MOST]:
        with _apart(f"organization {ids.public_id(ids.ORGANIZATION, organization_id)}"):
            gone += erase_organization(organization_id, until)
    users = User.objects.filter(deletion_due_at__lte=now).order_by("deletion_due_at")
    for user_id in users.values_list("id", flat=True)[:MOST]:
        with _apart(f"account {ids.public_id(ids.USER, user_id)}"):
            gone += _erase_user(user_id)
    return gone


@contextmanager
def _apart(what: str) -> Iterator[None]:
    """One that can't be deleted is no reason to keep those after it."""
    try:
        yield
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        logger.exception("%s was not deleted", what)


def erase_organization(organization_id: uuid.UUID, until: float) -> bool:
    """Whether it is gone; False if it isn't due, or the time (monotonic) was over: the next call goes on."""
    public_id = ids.public_id(ids.ORGANIZATION, organization_id)
    if not _is_due(organization_id):
        return False
    for eraser in _erasers:
        while True:
            if time.monotonic() >= until:
                return False
            if eraser(organization_id, BATCH) < BATCH:
                break
    with transaction.atomic():
        organization = Organization.objects.select_for_update().filter(id=organization_id).first()
        if organization is None or organization.deletion_due_at is None:
            return False
        generation.bump(organization_id)  # every gateway asks again, and finds no key
        audit.purge(organization_id)
        _erase_files(organization_id)
        organization.delete()
    _forget(organization_id)
    logger.info("organization %s deleted", public_id)
    return True


@transaction.atomic
def _is_due(organization_id: uuid.UUID) -> bool:
    """Waits for whoever is keeping it at this moment; from here on it is too late for that."""
    rows = Organization.objects.select_for_update(no_key=True).filter(id=organization_id)
    due_at = rows.values_list("deletion_due_at", flat=True).first()
    return due_at is not None and due_at <= timezone.now()


def _erase_files(organization_id: uuid.UUID) -> None:
    """A worker that is writing one can't finish it meanwhile, and afterwards finds no row and takes its file away."""
    for export in Export.objects.select_for_update().filter(organization_id=organization_id):
        if export.file:
            default_storage.delete(export.file)


@transaction.atomic
def _erase_user(user_id: uuid.UUID) -> bool:
    """Later, while an organization that goes with it is still there."""
    # Before the user's row, as everywhere.
    list(
        Organization.objects.filter(memberships__user=user_id)
        .select_for_update(no_key=True, of=("self",))
        .order_by("id")
    )
    user = User.objects.select_for_update().filter(id=user_id, deletion_due_at__lte=timezone.now()).first()
    if user is None:
        return False
    mine = list(Membership.objects.filter(user=user).select_related("organization"))
    if any(_would_be_ownerless(membership) for membership in mine):
        logger.warning("account %s waits for the organizations it is the last owner of", user.public_id)
        return False
    for membership in mine:
        playground.revoke(membership)
        generation.bump(membership.organization_id)
    user.delete()
    logger.info("account %s deleted", ids.public_id(ids.USER, user_id))
    return True


def _would_be_ownerless(membership: Membership) -> bool:
    others = membership.organization.memberships.filter(role=Role.OWNER).exclude(user_id=membership.user_id)
    return membership.role == Role.OWNER and not others.exists()


def _forget(organization_id: uuid.UUID) -> None:
    try:
        redis.sync_client().expire(generation.redis_key(organization_id), FORGET_S)
    except redis.RedisError:
        logger.warning("the generation of a deleted organization stays in Redis")
