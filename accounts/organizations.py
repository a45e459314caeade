"""What can be done with an organization as a whole. Each function bumps the generation in its transaction."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypedDict, Unpack

from celery import signature
from django.db import transaction
from django.utils import timezone

from accounts import audit, generation
from accounts.models import MAX_CACHE_TTL_S, MAX_CONTENTS_DAYS, Membership, Organization, Role, User
from helixflow.lib import errors, tasks

logger = logging.getLogger(__name__)

MAX_NAME: Final = 100
MAX_OWNED: Final = 10  # organizations of one person
SETTINGS: Final = ("name", "cache_ttl_s", "contents_days")
DROP_CONTENTS: Final = signature("inference.tasks.drop_contents")  # by name: inference stands on this app


class Settings(TypedDict, total=False):
    """None: not at all. ``cache_ttl_s``: for how many seconds answers are cached; ``contents_days``: for how many days
    prompts and answers are stored."""

    name: str
    cache_ttl_s: int | None
    contents_days: int | None


@transaction.atomic
def create(*, user: User, name: str) -> Membership:
    """A new organization, and its owner. On Starter, because it has no subscription row.

    Raises AuthorizationFailed (an address that isn't confirmed), InvalidRequest.
    """
    owner = User.objects.select_for_update(no_key=True).get(id=user.id)  # two forms sent at once count one by one
    if not owner.is_verified:
        raise errors.AuthorizationFailed("Confirm your e-mail address first. Your profile sends the link again.")
    if owner.deletion_due_at is not None:
        raise errors.AuthorizationFailed("Your account is about to be deleted. Keep it first.")
    if Membership.objects.filter(user=owner, role=Role.OWNER).count() >= MAX_OWNED:
        raise errors.InvalidRequest(f"You own {MAX_OWNED} organizations, which is the most one can own.")
    made = Organization.objects.create(name=_clean_name(name))
    membership = Membership.objects.create(organization=made, user=owner, role=Role.OWNER)
    _record("created", made, owner, f"created the organization “{made.name}”", {})
    logger.info("organization %s created by %s", made.public_id, owner.public_id)
    return membership


@transaction.atomic
def update(*, organization: Organization, user: User, **settings: Unpack[Settings]) -> Organization:
    """Changes what is given; it counts from the next request on. Raises InvalidRequest.

    Turning stored contents off forgets at once all that is stored: nobody sees it again, and a worker deletes it.
    """
    current = Organization.objects.select_for_update(no_key=True).get(id=organization.id)
    before = {name: getattr(current, name) for name in SETTINGS}
    if "name" in settings:
        current.name = _clean_name(settings["name"])
    if "cache_ttl_s" in settings:
        current.cache_ttl_s = _clean_cache_ttl(settings["cache_ttl_s"])
    if "contents_days" in settings:
        _set_contents_days(current, settings["contents_days"])
    changes = audit.differences(before, {name: getattr(current, name) for name in SETTINGS})
    if changes:
        current.save(update_fields=[*SETTINGS, "contents_since"])
        generation.bump(current.id)
        _record("changed", current, user, _summary(changes), changes)
        logger.info("organization %s changed by %s", current.public_id, user.public_id)
    return current


def _set_contents_days(current: Organization, days: int | None) -> None:
    if days is not None and not 1 <= days <= MAX_CONTENTS_DAYS:
        message = f"Prompts and answers are stored for 1 to {MAX_CONTENTS_DAYS} days, or not at all."
        raise errors.InvalidRequest(message, param="contents_days")
    if days is None:
        if current.contents_days is not None:
            transaction.on_commit(partial(tasks.nudge, DROP_CONTENTS))
        current.contents_since = None
    elif current.contents_days is None:
        current.contents_since = timezone.now()
    current.contents_days = days


def _summary(changes: Mapping[str, tuple[Any, Any]]) -> str:
    if "contents_days" in changes and len(changes) == 1:
        days = changes["contents_days"][1]
        if days is None:
            return "stopped storing prompts and answers, and deleted those that were stored"
        return f"has prompts and answers stored for {days} {'day' if days == 1 else 'days'}"
    return "changed the organization's settings"


def disable(*, organization: Organization, user: User | None = None, reason: str = "") -> bool:
    """Every key is refused from the next request on; whether it was enabled before. ``user`` None: the platform."""
    return _set(organization, user, reason, disabled=True)


def enable(*, organization: Organization, user: User | None = None, reason: str = "") -> bool:
    """The opposite of ``disable``; whether it was disabled before."""
    return _set(organization, user, reason, disabled=False)


def _set(organization: Organization, user: User | None, reason: str, *, disabled: bool) -> bool:
    with transaction.atomic():
        changed = Organization.objects.filter(id=organization.id, disabled_at__isnull=disabled).update(
            disabled_at=timezone.now() if disabled else None
        )
        if changed:
            generation.bump(organization.id)
            verb = "disabled" if disabled else "enabled"
            summary = f"{verb} the organization: {reason}" if reason else f"{verb} the organization"
            _record(verb, organization, user, summary, {"enabled": (disabled, not disabled)})
    return bool(changed)


def _record(
    verb: str, organization: Organization, user: User | None, summary: str, changes: Mapping[str, tuple[Any, Any]]
) -> None:
    audit.record(
        f"organization.{verb}",
        organization=organization,
        user=user,
        target=organization.public_id,
        summary=summary,
        changes=changes,
    )


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
