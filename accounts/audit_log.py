"""Reading the audit log: an organization's, filtered, newest first; and what concerns one account."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.db.models import Q, QuerySet

from accounts.models import AuditEvent, Organization, User
from helixflow.lib import clock, ids

# What people filter by, and the nouns that the actions of each begin with. A new noun belongs into one of them.
GROUPS: Final = {
    "keys": ("API keys", ("api_key",)),
    "plan": ("Plan, limits and billing", ("plan", "quota")),
    "team": ("Team", ("member", "invitation")),
    "webhooks": ("Webhooks", ("webhook",)),
    "organization": ("Organization and data", ("organization", "export", "contents")),
    "support": ("Support", ("support",)),
}
CSV_COLUMNS: Final = ("time", "who", "as support", "action", "what", "target", "changes", "address", "user agent", "id")


def of_organization(
    organization: Organization,
    *,
    actor: str = "",
    group: str = "",
    since: date | None = None,
    until: date | None = None,
) -> QuerySet[AuditEvent]:
    """``actor`` is an e-mail address as it was then, ``group`` one of ``GROUPS``; days are UTC, ``until`` included.

    ``support``: also everything that operators did.
    """
    events = AuditEvent.objects.filter(organization_id=organization.id)
    if actor:
        events = events.filter(actor__iexact=actor)
    if group:
        wanted = Q(is_staff=True) if group == "support" else Q()
        for noun in GROUPS[group][1]:
            wanted |= Q(action__startswith=f"{noun}.")
        events = events.filter(wanted)
    # Ids are ordered by time, and the index by id.
    if since:
        events = events.filter(id__gte=ids.first_at(_midnight(since)))
    if until:
        events = events.filter(id__lt=ids.first_at(_midnight(until + timedelta(days=1))))
    return events


def of_account(user: User) -> QuerySet[AuditEvent]:
    """Logins, passwords, second factor: what its owner did, and others to it. Newest first."""
    about = Q(user_id=user.id) | Q(target=user.public_id)
    return AuditEvent.objects.filter(about, organization_id=None).order_by("-id")


def csv_rows(events: QuerySet[AuditEvent]) -> Iterator[tuple[Any, ...]]:
    """In ``CSV_COLUMNS``, newest first, read bit by bit."""
    for event in events.order_by("-id").iterator(chunk_size=500):
        changes = "; ".join(
            f"{name}: {told(before)} → {told(after)}" for name, (before, after) in event.changes.items()
        )
        yield (
            clock.rfc3339(event.created_at),
            event.actor,
            "yes" if event.is_staff else "",
            event.action,
            event.summary,
            event.target,
            changes,
            event.address or "",
            event.user_agent,
            event.public_id,
        )


def told(value: Any) -> str:
    """A value of ``changes`` in words."""
    if value is None or value in ("", []):
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(told(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
