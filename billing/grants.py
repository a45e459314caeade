"""Requests that operators give an organization beyond its limit of one month, and take back.

Like a change of plan: under the organization's lock, and with the generation bumped, so that the next request is held
to the new limit in every process.
"""

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit, generation
from accounts.models import Organization, User
from billing import months, tasks, validation
from billing.plan_models import QuotaGrant
from helixflow.lib import clock, errors


def of(organization: Organization, month: int | None = None) -> QuerySet[QuotaGrant]:
    """Those in force in ``month``, else in this one; newest first."""
    day = months.first_day(month or this_month())
    return QuotaGrant.objects.filter(organization=organization, month=day, revoked_at=None)


@transaction.atomic
def grant(*, organization: Organization, user: User, units: int, reason: str, month: int | None = None) -> QuotaGrant:
    """``units`` more requests in ``month``, else in this one. Raises InvalidRequest, also for a month that is over."""
    month = month or this_month()
    if month < this_month():
        raise errors.InvalidRequest("That month is over.", param="month")
    _lock(organization)
    wanted = QuotaGrant(
        organization=organization, month=months.first_day(month), units=units, reason=reason.strip(), granted_by=user
    )
    validation.check(wanted, leave_out=["organization", "granted_by"])
    wanted.save()
    generation.bump(organization.id)
    audit.record(
        "quota.granted",
        organization=organization,
        user=user,
        target=organization.public_id,
        summary=f"granted {units:,} more requests in {wanted.month:%B %Y}: {wanted.reason}",
        changes={"granted": (0, units)},
    )
    transaction.on_commit(lambda: tasks.enqueue(tasks.tell_owners_of_grant, str(wanted.id)))
    return wanted


@transaction.atomic
def revoke(*, grant: QuotaGrant, user: User) -> bool:
    """From the next request on; whether it was in force. What was used of it stays used."""
    _lock(grant.organization)
    revoked = QuotaGrant.objects.filter(id=grant.id, revoked_at=None).update(revoked_at=timezone.now(), revoked_by=user)
    if revoked:
        generation.bump(grant.organization.id)
        audit.record(
            "quota.revoked",
            organization=grant.organization,
            user=user,
            target=grant.organization.public_id,
            summary=f"took back {grant.units:,} requests granted in {grant.month:%B %Y}",
            changes={"granted": (grant.units, 0)},
        )
    return bool(revoked)


def this_month() -> int:
    return months.of(clock.now().timestamp())


def _lock(organization: Organization) -> None:
    Organization.objects.select_for_update(no_key=True).get(id=organization.id)
