"""The mail that says that an endpoint was disabled by the platform: to owners and admins, at least once.

The sweeper finds whom nobody was told of and queues a mail for each endpoint; only the mail that was taken by the mail
server sets ``owner_told_at``. Until then another is queued whenever the one before must have given up.
"""

import logging
import uuid
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from celery import signature
from django.conf import settings
from django.core.cache import cache
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import Membership, Role
from helixflow.lib import mail, redis, tasks
from webhooks import delivery_words
from webhooks.models import Attempt, Delivery, DeliveryState, DisabledReason, Endpoint

logger = logging.getLogger(__name__)

TELL: Final = signature("webhooks.tasks.tell_owners")  # by name, since that task stands on this module
UNDER_WAY_S: Final = 20 * 60  # longer than all tries of one task
GIVE_UP: Final = timedelta(days=3)  # with a mail server that takes none of the addresses; the dashboard tells too
MOST: Final = 100  # at once


def tell_owners() -> int:
    """Queue the mails that are due; how many. Never raises and hardly waits, with Redis or the broker away too.

    That one is under way is remembered in the cache: a cache that forgets makes a second mail of it, at worst.
    """
    queued = 0
    for endpoint in _untold().filter(disabled_at__gt=timezone.now() - GIVE_UP).order_by("disabled_at")[:MOST]:
        key = f"webhook-mail:{endpoint.id.hex}:{endpoint.disabled_at:%Y%m%d%H%M%S.%f}"
        try:
            if not cache.add(key, value=True, timeout=UNDER_WAY_S):
                continue
            if not tasks.send(TELL, str(endpoint.id)):
                cache.delete(key)
                break
        except redis.RedisError as error:
            logger.warning("mails about disabled webhook endpoints wait: %s", error)
            break
        queued += 1
    return queued


def send_disabled(endpoint_id: uuid.UUID) -> bool:
    """Tell them, unless that was done, or it is enabled or deleted by now. Whether a mail was sent.

    One mail to all: either the mail server has it for everybody, or it is tried again. Raises OSError, SMTPException.
    """
    endpoint = _untold().filter(id=endpoint_id).select_related("organization").first()
    if endpoint is None:
        return False
    to = _managers(endpoint)
    if to:
        mail.send(to, "A webhook endpoint was disabled", "webhooks/email/endpoint_disabled", _context(endpoint))
    # Disabled anew meanwhile: that is another mail.
    _untold().filter(id=endpoint.id, disabled_at=endpoint.disabled_at).update(owner_told_at=timezone.now())
    return bool(to)


def _untold() -> QuerySet[Endpoint]:
    return Endpoint.objects.disabled_by_platform().filter(owner_told_at=None, deleted_at=None)


def _managers(endpoint: Endpoint) -> list[str]:
    memberships = Membership.objects.filter(
        organization=endpoint.organization_id, role__in=(Role.OWNER, Role.ADMIN), user__is_active=True
    )
    return list(memberships.order_by("created_at", "id").values_list("user__email", flat=True))


def _context(endpoint: Endpoint) -> dict[str, Any]:
    failures = Attempt.objects.filter(endpoint=endpoint, succeeded=False, delivery__test=False)
    last = failures.order_by("-id").first()
    since = endpoint.failing_since or endpoint.disabled_at
    return {
        "organization": endpoint.organization,
        "endpoint": endpoint,
        "url": without_query(endpoint.url),
        "gone": endpoint.disabled_reason == DisabledReason.GONE,
        "since": delivery_words.utc(since) if since else "",
        "disabled": delivery_words.utc(endpoint.disabled_at) if endpoint.disabled_at else "",
        "last_error": (last.error or delivery_words.result(last)) if last else "",
        "waiting": Delivery.objects.filter(endpoint=endpoint, state=DeliveryState.PENDING).count(),
        "days": settings.WEBHOOK_RETENTION_DAYS,
        "link": mail.link("webhook", endpoint.public_id),
    }


def without_query(url: str) -> str:
    """Receivers are told apart, and often trusted, by what is in the query: a mail is read by many eyes."""
    return urlsplit(url)._replace(query="", fragment="").geturl()
