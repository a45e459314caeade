"""What can be done to endpoints: create, update, rotate the secret, enable, disable, delete.

Each change locks the endpoint's row, so that changes cross neither each other nor what the deliverer makes of failures;
a name is looked up before any lock.
"""

import logging
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict, Unpack

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import ApiKey, Organization, User
from helixflow.lib import crypto, errors, http, ids
from webhooks import pace, queue, signing
from webhooks.mails import without_query
from webhooks.models import DisabledReason, Endpoint, EventType

logger = logging.getLogger(__name__)

MAX_DESCRIPTION: Final = 200
MAX_FILTER: Final = 100  # keys or models
MAX_MODEL_NAME: Final = 200
TURNOVER: Final = 5  # times what an organization can have may be created
TURNOVER_IN: Final = timedelta(hours=1)  # deleted ones are kept as long at least (``webhooks.retention``)
ROTATION: Final = timedelta(hours=24)  # how long the secret before goes on being used (contract §7)
_ABILITY: Final = ("disabled_at", "disabled_reason", "owner_told_at", "failing_since")


class Fields(TypedDict, total=False):
    """As people give them. ``api_keys`` are public ids; None or nothing in it: all. The same for ``models``."""

    url: str
    events: Sequence[str]
    description: str
    api_keys: Sequence[str] | None
    models: Sequence[str] | None
    enabled: bool


def create(*, organization: Organization, user: User, **fields: Unpack[Fields]) -> tuple[Endpoint, str]:
    """The endpoint and its signing secret. ``url`` and ``events`` are required.

    Raises InvalidRequest, with every bad field in ``details``; RateLimitExceeded after many within an hour.
    """
    given: Fields = {"url": "", "events": [], **fields}
    enabled = given.pop("enabled", True)
    columns = clean(organization, **given)
    secret = signing.new_secret()
    with transaction.atomic():
        _lock_organization(organization)
        _require_room(organization)
        _require_calm(organization)
        endpoint = Endpoint(organization=organization, created_by=user, sealed_secret=crypto.encrypt(secret), **columns)
        if not enabled:
            _set_disabled(endpoint)
        endpoint.save(force_insert=True)
        _record("created", endpoint, user, "created", _changes({}, columns))
    logger.info("webhook endpoint %s created by %s", endpoint.public_id, user.public_id)
    return endpoint, secret


def update(*, endpoint: Endpoint, user: User, **fields: Unpack[Fields]) -> Endpoint:
    """Changes what is given, as ``create`` takes it; the endpoint as it then is.

    Another URL has not failed yet, so ``failing_since`` is cleared. Raises InvalidRequest; NotFound if the endpoint
    was deleted meanwhile.
    """
    unknown = set(fields) - set(Fields.__annotations__)
    if unknown:
        raise TypeError(f"not a field of an endpoint that can be changed: {', '.join(sorted(unknown))}")
    given: Fields = {**fields}
    enabled = given.pop("enabled", None)
    if given.get("url") == endpoint.url:
        del given["url"]  # a form sends it back as it was: that asks no name server
    columns = clean(endpoint.organization, **given)
    with transaction.atomic():
        current = _lock(endpoint)
        before = {"enabled": current.is_enabled} | {column: getattr(current, column) for column in columns}
        for column, value in columns.items():
            setattr(current, column, value)
        if "url" in columns:
            current.failing_since = None
        if enabled is not None:
            (_set_enabled if enabled else _set_disabled)(current)
        current.save(update_fields=[*columns, *_ABILITY])
        if changes := _changes(before, columns | {"enabled": current.is_enabled}):
            _record("updated", current, user, "changed", changes)
        if enabled:
            queue.nudge(current.id)
    changed = sorted(set(fields) - {"enabled"})
    if enabled is not None:
        changed.append("enabled" if enabled else "disabled")
    logger.info("webhook endpoint %s changed by %s: %s", current.public_id, user.public_id, ", ".join(changed))
    return current


@transaction.atomic
def rotate_secret(*, endpoint: Endpoint, user: User) -> tuple[Endpoint, str]:
    """The endpoint and its new secret. For 24 h, or until ``finish_rotation``, the one before is used beside it.

    One that can't be opened any more signs nothing: then the new one is alone from the start. Raises InvalidRequest
    while another rotation is under way: a third secret would have no header.
    """
    current = _lock(endpoint)
    if current.is_rotating:
        raise errors.InvalidRequest(
            f"A rotation is under way until {current.rotation_ends_at:%Y-%m-%d %H:%M} UTC. Finish it first."
        )
    secret = signing.new_secret()
    if _can_sign(current):
        current.sealed_previous_secret = current.sealed_secret
        current.rotation_ends_at = timezone.now() + ROTATION
    current.sealed_secret = crypto.encrypt(secret)
    current.save(update_fields=["sealed_secret", "sealed_previous_secret", "rotation_ends_at"])
    _record("secret_rotated", current, user, "rotated the secret of")
    logger.info("webhook endpoint %s: secret rotated by %s", current.public_id, user.public_id)
    return current, secret


@transaction.atomic
def finish_rotation(*, endpoint: Endpoint, user: User) -> Endpoint:
    """From now on only the new secret is used. Finishing twice, or what ended by itself, changes nothing."""
    current = _lock(endpoint)
    if current.rotation_ends_at is not None:
        current.sealed_previous_secret = ""
        current.rotation_ends_at = None
        current.save(update_fields=["sealed_previous_secret", "rotation_ends_at"])
        _record("rotation_finished", current, user, "finished the rotation of the secret of")
        logger.info("webhook endpoint %s: rotation finished by %s", current.public_id, user.public_id)
    return current


@transaction.atomic
def enable(*, endpoint: Endpoint, user: User) -> Endpoint:
    """What waited meanwhile is sent, and five days of failures begin anew. Enabling twice changes nothing."""
    current = _lock(endpoint)
    if not current.is_enabled:
        _set_enabled(current)
        current.save(update_fields=_ABILITY)
        queue.nudge(current.id)
        _record("enabled", current, user, "enabled", {"enabled": (False, True)})
        logger.info("webhook endpoint %s enabled by %s", current.public_id, user.public_id)
    return current


@transaction.atomic
def disable(*, endpoint: Endpoint, user: User) -> Endpoint:
    """Pending deliveries wait, and new events pass it by. Disabling twice changes nothing, nor the first reason."""
    current = _lock(endpoint)
    if current.is_enabled:
        _set_disabled(current)
        current.save(update_fields=_ABILITY)
        _record("disabled", current, user, "disabled", {"enabled": (True, False)})
        logger.info("webhook endpoint %s disabled by %s", current.public_id, user.public_id)
    return current


def delete(*, endpoint: Endpoint, user: User) -> None:
    """For good: the secrets are erased, pending deliveries cancelled; the log stays until retention takes it.

    What is locked at this moment, or was written down by a transaction that is still open, is the sweeper's.
    """
    with transaction.atomic():
        current = _lock(endpoint)
        current.deleted_at = timezone.now()
        current.sealed_secret = current.sealed_previous_secret = ""
        current.rotation_ends_at = None
        current.save(update_fields=["deleted_at", "sealed_secret", "sealed_previous_secret", "rotation_ends_at"])
        _record("deleted", current, user, "deleted")
    # Apart and in batches: a deliverer locks its delivery, then the endpoint, and a million rows are long to write.
    cancelled = 0
    while batch := queue.cancel_strays():
        cancelled += batch
    logger.info(
        "webhook endpoint %s deleted by %s, deliveries cancelled: %d", endpoint.public_id, user.public_id, cancelled
    )


def clean(organization: Organization, **fields: Any) -> dict[str, Any]:
    """The given fields as the row holds them. Asks the name server. Raises InvalidRequest with every bad field."""
    cleaned: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field, value in fields.items():
        column, cleaner = _CLEANERS[field]
        try:
            cleaned[column] = cleaner(organization, value)
        except ValueError as error:
            problems[field] = str(error)
    if problems:
        param, message = next(iter(problems.items()))
        raise errors.InvalidRequest(message, param=param, details=problems)
    return cleaned


def _url(_: Organization, value: str) -> str:
    url = value.strip()
    if not url:
        raise ValueError("Give the address that events are to be sent to, such as https://example.com/webhooks.")
    _require_storable(url)
    try:
        http.check_url(url)
    except errors.InvalidRequest as error:
        raise ValueError(error.message) from None
    return url


def _events(_: Organization, value: Sequence[str]) -> list[str]:
    if not value:
        raise ValueError(f"Name at least one event: {', '.join(EventType.values)}.")
    unknown = [name for name in value if name not in EventType.values]
    if unknown:
        raise ValueError(f"{unknown[0][:50]!r} is no event. There are {', '.join(EventType.values)}.")
    if len(set(value)) < len(value):
        raise ValueError("Name each event once.")
    return [name for name in EventType.values if name in value]


def _description(_: Organization, value: str) -> str:
    description = value.strip()
    if len(description) > MAX_DESCRIPTION:
        raise ValueError(f"The description has at most {MAX_DESCRIPTION} characters.")
    _require_storable(description)
    return description


def _api_keys(organization: Organization, value: Sequence[str] | None) -> list[uuid.UUID] | None:
    """Keys that are revoked or expired too: what they did may still be told."""
    names = _filter(value)
    found = {key.public_id: key.id for key in ApiKey.objects.of(organization).filter(id__in=_key_ids(names))}
    for name in names:
        if name not in found:
            raise ValueError(f"{name[:50]!r} is not the id of an API key of this organization.")
    return [found[name] for name in names] or None


def _models(_: Organization, value: Sequence[str] | None) -> list[str] | None:
    """Names need not exist: an endpoint may be made before its model."""
    names = _filter(value)
    for name in names:
        if not 1 <= len(name) <= MAX_MODEL_NAME:
            raise ValueError(f"The name of a model has 1 to {MAX_MODEL_NAME} characters.")
        _require_storable(name)
    return names or None


def _filter(value: Sequence[str] | None) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in value or ()))
    if len(names) > MAX_FILTER:
        raise ValueError(f"Name at most {MAX_FILTER}, or none for all.")
    return names


def _key_ids(names: Sequence[str]) -> list[uuid.UUID]:
    """Of those that have the form of one."""
    found = []
    for name in names:
        try:
            found.append(ids.parse_public_id(ids.API_KEY, name))
        except ValueError:
            continue
    return found


def _require_storable(text: str) -> None:
    """PostgreSQL refuses NUL and lone surrogates; other control characters have no business in one line."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("This can't hold control characters or line breaks.")


_CLEANERS: Final[dict[str, tuple[str, Callable[[Organization, Any], Any]]]] = {
    "url": ("url", _url),
    "events": ("events", _events),
    "description": ("description", _description),
    "api_keys": ("api_key_ids", _api_keys),
    "models": ("model_names", _models),
}


def _record(
    verb: str, endpoint: Endpoint, user: User, did: str, changes: Mapping[str, tuple[Any, Any]] | None = None
) -> None:
    name = endpoint.description or without_query(endpoint.url)[:200]
    audit.record(
        f"webhook.{verb}",
        organization=endpoint.organization,
        user=user,
        target=endpoint.public_id,
        summary=f"{did} the webhook endpoint “{name}”",
        changes=changes,
    )


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    changed = [column for column in after if before.get(column) != after[column]]
    was, now = (_told({column: columns.get(column) for column in changed}) for columns in (before, after))
    return {name: (was[name], now[name]) for name in now}


def _told(columns: dict[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of columns: keys by their public ids, and no query, which may hold a token."""
    told = dict(columns)
    if told.get("url"):
        told["url"] = without_query(told["url"])
    if "api_key_ids" in told:
        told["api_keys"] = [ids.public_id(ids.API_KEY, key_id) for key_id in told.pop("api_key_ids") or ()] or None
    if "model_names" in told:
        told["models"] = told.pop("model_names")
    return told


def _lock_organization(organization: Organization) -> None:
    # no_key: rows that point to the organization, usage records above all, can still be inserted meanwhile
    Organization.objects.select_for_update(no_key=True).get(id=organization.id)


def _lock(endpoint: Endpoint) -> Endpoint:
    """The endpoint as it is now, once nobody else is changing it. Raises NotFound if it is deleted."""
    rows = Endpoint.objects.select_for_update(no_key=True, of=("self",)).select_related("organization", "created_by")
    current = rows.filter(id=endpoint.id, deleted_at=None).first()
    if current is None:
        raise errors.NotFound("This webhook endpoint has been deleted.")
    return current


def _can_sign(endpoint: Endpoint) -> bool:
    try:
        crypto.decrypt(endpoint.sealed_secret)
    except crypto.Undecryptable:
        return False
    return True


def _require_room(organization: Organization) -> None:
    if Endpoint.objects.of(organization).count() >= settings.WEBHOOK_MAX_ENDPOINTS:
        raise errors.InvalidRequest(
            f"An organization can have {settings.WEBHOOK_MAX_ENDPOINTS} webhook endpoints. Delete one that is not used."
        )


def _require_calm(organization: Organization) -> None:
    """Whoever deletes and creates in turn passes by each limit of one endpoint, that of its tests above all."""
    most = TURNOVER * settings.WEBHOOK_MAX_ENDPOINTS
    message = f"An organization can create at most {most} webhook endpoints an hour."
    pace.require_calm(
        Endpoint.objects.filter(organization=organization), most=most, within=TURNOVER_IN, message=message
    )


def _set_enabled(endpoint: Endpoint) -> None:
    if not endpoint.is_enabled:
        endpoint.disabled_at = endpoint.owner_told_at = endpoint.failing_since = None
        endpoint.disabled_reason = ""


def _set_disabled(endpoint: Endpoint) -> None:
    if endpoint.is_enabled:
        endpoint.disabled_at = timezone.now()
        endpoint.disabled_reason = DisabledReason.MANUAL
