"""What one API key may use of its organization's limits."""

import logging
from decimal import Decimal
from typing import Final

from django.db import transaction

from accounts import audit, generation
from accounts.models import ApiKey, Organization, User
from billing import validation
from billing.models import KeyLimits
from helixflow.lib import errors

logger = logging.getLogger(__name__)

LIMITS: Final = ("requests_per_minute", "requests_per_month", "monthly_budget")


@transaction.atomic
def set_limits(
    *,
    key: ApiKey,
    user: User,
    requests_per_minute: int | None,
    requests_per_month: int | None,
    monthly_budget: Decimal | None,
) -> KeyLimits:
    """From the next request on, in every process. None: no limit of the key's own. Raises InvalidRequest."""
    # The organization's row first, as with every change to its keys and its plan: they queue up instead of crossing.
    Organization.objects.select_for_update(no_key=True).get(id=key.organization_id)
    current = ApiKey.objects.select_related("organization").get(id=key.id)
    if current.revoked_at is not None:
        raise errors.InvalidRequest("This key is revoked and cannot be changed.")
    wanted = KeyLimits(
        api_key=current,
        requests_per_minute=requests_per_minute,
        requests_per_month=requests_per_month,
        monthly_budget=monthly_budget,
    )
    validation.check(wanted, leave_out=["api_key"])
    before = of(current)
    if _numbers(wanted) != _numbers(before):
        changes = audit.differences(_named(before), _named(wanted))
        _store(wanted)
        generation.bump(current.organization_id)
        audit.record(
            "api_key.limits_changed",
            organization=current.organization,
            user=user,
            target=current.public_id,
            summary=f"changed the limits of the API key “{current.name}”",
            changes=changes,
        )
        logger.info("limits of API key %s set by %s: %s", current.public_id, user.public_id, _numbers(wanted))
    return wanted


def of(key: ApiKey) -> KeyLimits:
    """The key's, or a row without limits that is not saved."""
    return KeyLimits.objects.filter(api_key=key).first() or KeyLimits(api_key=key)


def hand_over(key: ApiKey, successor: ApiKey) -> None:
    """A key that is rotated keeps its limits. Within the rotation's transaction."""
    limits = KeyLimits.objects.filter(api_key=key).first()
    if limits is not None:
        limits.api_key = successor
        limits.save(force_insert=True)


def _store(limits: KeyLimits) -> None:
    """A key without limits has no row."""
    if any(number is not None for number in _numbers(limits)):
        limits.save()
    else:
        KeyLimits.objects.filter(api_key=limits.api_key).delete()


def _named(limits: KeyLimits) -> dict[str, int | Decimal | None]:
    return dict(zip(LIMITS, _numbers(limits), strict=True))


def _numbers(limits: KeyLimits) -> tuple[int | Decimal | None, ...]:
    return limits.requests_per_minute, limits.requests_per_month, limits.monthly_budget
