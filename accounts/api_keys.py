"""What can be done to API keys: create, rotate, revoke, update; and noting when they were last used.

Every change locks the organization's row first, so that changes of one organization queue up instead of crossing,
and bumps its generation in the same transaction, so that the next request sees it in every process.
"""

import logging
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from accounts import audit, auth, generation, keys
from accounts.models import ApiKey, Environment, Organization, User
from helixflow.lib import errors

logger = logging.getLogger(__name__)

# Called with a key and its successor. Filled by the apps above this one, when they start.
on_rotation: list[Callable[[ApiKey, ApiKey], None]] = []

MAX_ACTIVE: Final = 1_000  # usable keys an organization
MAX_MODELS: Final = 100
MAX_NAME: Final = 100
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")  # as the catalogue's names
MAX_GRACE: Final = timedelta(days=7)
EDITABLE: Final = frozenset({"name", "environment", "models", "expires_at"})


@transaction.atomic
def create(
    *,
    organization: Organization,
    user: User,
    name: str,
    environment: str = Environment.DEVELOPMENT,
    expires_at: datetime | None = None,
    models: Sequence[str] | None = None,
) -> tuple[ApiKey, str]:
    """The key and its secret, which nobody can ever see again. ``models``: the only ones it may call; None: all.

    Raises InvalidRequest.
    """
    _lock(organization.id)
    _require_room(organization)
    fields = clean(name=name, environment=environment, models=models, expires_at=expires_at)
    key, secret = _insert(organization=organization, user=user, **fields)
    generation.bump(organization.id)
    _record("created", key, user, f"created the API key “{key.name}”", audit.differences({}, fields))
    logger.info("API key %s created by %s", key.public_id, user.public_id)
    return key, secret


@transaction.atomic
def rotate(*, key: ApiKey, user: User, grace: timedelta) -> tuple[ApiKey, str]:
    """A successor with the same name, environment, models and expiry, and its secret.

    ``key`` itself stays valid for ``grace`` (0 to 7 days), but never longer than it was. Of two people who rotate
    a key at once one gets the successor, the other InvalidRequest. What others keep of a key they take over in
    ``on_rotation``, in the same transaction.
    """
    if not timedelta(0) <= grace <= MAX_GRACE:
        raise errors.InvalidRequest("The grace is from 0 to 7 days.", param="grace_days")
    current = _lock_key(key)
    if current.rotated_to_id is not None:
        raise errors.InvalidRequest("This key has been rotated already; its successor is in the list of keys.")
    if current.status != "active":
        raise errors.InvalidRequest(f"This key is {current.status} and cannot be rotated. Create a new one.")
    if grace:  # without grace the old key's place is free
        _require_room(current.organization)
    successor, secret = _insert(
        organization=current.organization,
        user=user,
        name=current.name,
        environment=current.environment,
        allowed_models=current.allowed_models,
        expires_at=current.expires_at,
    )
    end = timezone.now() + grace
    expired_at = current.expires_at
    current.expires_at = end if current.expires_at is None else min(current.expires_at, end)
    current.rotated_to = successor
    current.save(update_fields=["expires_at", "rotated_to"])
    for take_over in on_rotation:
        take_over(current, successor)
    generation.bump(current.organization_id)
    changes = {"key": (current.hint, successor.hint), "expires_at": (expired_at, current.expires_at)}
    _record("rotated", current, user, f"rotated the API key “{current.name}”", changes)
    logger.info("API key %s rotated to %s by %s", current.public_id, successor.public_id, user.public_id)
    return successor, secret


@transaction.atomic
def revoke(*, key: ApiKey, user: User) -> ApiKey:
    """For good, from the next request on. Revoking twice changes nothing."""
    current = _lock_key(key)
    if current.revoked_at is None:
        current.revoked_at = timezone.now()
        current.save(update_fields=["revoked_at"])
        generation.bump(current.organization_id)
        _record("revoked", current, user, f"revoked the API key “{current.name}”")
        logger.info("API key %s revoked by %s", current.public_id, user.public_id)
    return current


@transaction.atomic
def update(*, key: ApiKey, user: User | None = None, **changes: Any) -> ApiKey:
    """Changes any of name, environment, models and expires_at, as ``create`` takes them. Raises InvalidRequest.

    ``user`` None: the platform itself did it.
    """
    unknown = set(changes) - EDITABLE
    if unknown:
        raise TypeError(f"not a field of an API key that can be changed: {', '.join(sorted(unknown))}")
    current = _lock_key(key)
    if current.revoked_at is not None:
        raise errors.InvalidRequest("This key is revoked and cannot be changed.")
    if "expires_at" in changes and changes["expires_at"] == current.expires_at:
        del changes["expires_at"]  # a form sends it back as it was, also when it has passed meanwhile
    if "expires_at" in changes and current.rotated_to_id is not None:
        raise errors.InvalidRequest("This key has been rotated: it ends with its grace.", param="expires_at")
    fields = clean(**changes)
    if fields:
        changed = audit.differences({field: getattr(current, field) for field in fields}, fields)
        name = current.name
        for field, value in fields.items():
            setattr(current, field, value)
        current.save(update_fields=list(fields))
        generation.bump(current.organization_id)
        if changed:
            _record("updated", current, user, f"changed the API key “{name}”", changed)
    return current


def record_use(uses: Mapping[uuid.UUID, datetime]) -> None:
    """Moves ``last_used_at`` forward, never back. Rows are locked in order of id: several processes record at once."""
    with transaction.atomic():
        rows = ApiKey.objects.select_for_update(no_key=True).filter(id__in=list(uses)).order_by("id")
        behind = [key for key in rows if key.last_used_at is None or key.last_used_at < uses[key.id]]
        for key in behind:
            key.last_used_at = uses[key.id]
        ApiKey.objects.bulk_update(behind, ["last_used_at"], batch_size=500)


def clean(**fields: Any) -> dict[str, Any]:
    """The given fields as the row holds them. Raises InvalidRequest with every bad field in ``details``."""
    cleaned: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field, value in fields.items():
        column, cleaner = _CLEANERS[field]
        try:
            cleaned[column] = cleaner(value)
        except ValueError as error:
            problems[field] = str(error)
    if problems:
        param, message = next(iter(problems.items()))
        raise errors.InvalidRequest(message, param=param, details=problems)
    return cleaned


def _name(value: str) -> str:
    name = value.strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"The name has 1 to {MAX_NAME} characters.")
    if not name.isprintable():
        raise ValueError("The name can't hold control characters or line breaks.")
    return name


def _environment(value: str) -> str:
    if value not in Environment.values:
        raise ValueError(f"The environment is one of {', '.join(Environment.values)}.")
    return str(value)


def _models(value: Sequence[str] | None) -> list[str] | None:
    """Names need not exist: a key may be made before its model."""
    if value is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in value))
    if not names:
        raise ValueError("Name at least one model, or send null for all models.")
    if len(names) > MAX_MODELS:
        raise ValueError(f"A key can name at most {MAX_MODELS} models.")
    for name in names:
        if not MODEL_NAME.fullmatch(name):
            raise ValueError(f"{name[:50]!r} can't be a model: names hold letters, digits and . _ : / @ + - only.")
    return names


def _expires_at(value: datetime | None) -> datetime | None:
    if value is not None and value <= timezone.now():
        raise ValueError("The expiry must be in the future.")
    return value


_CLEANERS: Final[dict[str, tuple[str, Any]]] = {
    "name": ("name", _name),
    "environment": ("environment", _environment),
    "models": ("allowed_models", _models),
    "expires_at": ("expires_at", _expires_at),
}


def _record(
    verb: str, key: ApiKey, user: User | None, summary: str, changes: Mapping[str, tuple[Any, Any]] | None = None
) -> None:
    audit.record(
        f"api_key.{verb}",
        organization=key.organization,
        user=user,
        target=key.public_id,
        summary=summary,
        changes=changes,
    )


def _insert(*, organization: Organization, user: User, **fields: Any) -> tuple[ApiKey, str]:
    secret = keys.generate()
    key = ApiKey.objects.create(
        organization=organization,
        created_by=user,
        digest=auth.digests(secret)[0],
        hint=keys.hint(secret),
        **fields,
    )
    return key, secret


def _lock(organization_id: uuid.UUID) -> None:
    # no_key: rows that point to the organization can still be inserted meanwhile
    Organization.objects.select_for_update(no_key=True).get(id=organization_id)


def _lock_key(key: ApiKey) -> ApiKey:
    """The key as it is now, once nobody else is changing it."""
    _lock(key.organization_id)
    return ApiKey.objects.select_related("organization", "created_by").get(id=key.id)


def _require_room(organization: Organization) -> None:
    if ApiKey.objects.of(organization).usable().count() >= MAX_ACTIVE:
        raise errors.InvalidRequest(
            f"An organization can have {MAX_ACTIVE:,} active keys. Revoke some that are no longer used."
        )
