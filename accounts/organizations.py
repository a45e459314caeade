"""What can be done with an organization as a whole. Each function bumps the generation in its transaction."""

import logging
from typing import Final, TypedDict, Unpack

from django.db import transaction
from django.utils import timezone

from accounts import generation
from accounts.models import MAX_CACHE_TTL_S, Organization, User
from helixflow.lib import errors

logger = logging.getLogger(__name__)

MAX_NAME: Final = 100


class Settings(TypedDict, total=False):
    """``cache_ttl_s``: for how many seconds answers are cached; None: not at all."""

    name: str
    cache_ttl_s: int | None


@transaction.atomic
def update(*, organization: Organization, user: User, **settings: Unpack[Settings]) -> Organization:
    """Changes what is given; it counts from the next request on. Raises InvalidRequest."""
    current = Organization.objects.select_for_update(no_key=True).get(id=organization.id)
    before = (current.name, current.cache_ttl_s)
    if "name" in settings:
        current.name = _clean_name(settings["name"])
    if "cache_ttl_s" in settings:
        current.cache_ttl_s = _clean_cache_ttl(settings["cache_ttl_s"])
    if (current.name, current.cache_ttl_s) != before:
        current.save(update_fields=["name", "cache_ttl_s"])
        generation.bump(current.id)
        logger.info("organization %s changed by %s", current.public_id, user.public_id)
    return current


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


def _clean_name(value: str) -> str:
    name = value.strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise errors.InvalidRequest(f"The name has 1 to {MAX_NAME} characters.", param="name")
    if not name.isprintable():
        raise errors.InvalidRequest("The name can't hold control characters or line breaks.", param="name")
    return name


def _clean_cache_ttl(value: int | None) -> int | None:
    if value is not None and not 1 <= value <= MAX_CACHE_TTL_S:
        message = f"Answers are cached for 1 to {MAX_CACHE_TTL_S} seconds, or not at all."
        raise errors.InvalidRequest(message, param="cache_ttl_s")
    return value
