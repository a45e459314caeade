"""What can be done with an organization as a whole. Each function bumps the generation in its transaction."""

from django.db import transaction
from django.utils import timezone

from accounts import generation
from accounts.models import Organization


def disable(*, organization: Organization) -> bool:
    """Every key is refused from the next request on; whether it was enabled before."""
    return _set(organization, disabled=True)


def enable(*, organization: Organization) -> bool:
    """The opposite of ``disable``; whether it was disabled before."""
    return _set(organization, disabled=False)


def _set(organization: Organization, *, disabled: bool) -> bool:
    with transaction.atomic():
        changed = Organization.objects.filter(id=organization.id, disabled_at__isnull=disabled).update(
            disabled_at=timezone.now() if disabled else None
        )
        if changed:
            generation.bump(organization.id)
    return bool(changed)
