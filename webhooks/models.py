"""What an organization can be told about: events. Endpoints and deliveries will hang off these rows."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import ids


class EventType(models.TextChoices):
    COMPLETION_CREATED = "completion.created", "completion.created"
    COMPLETION_FAILED = "completion.failed", "completion.failed"
    RATE_LIMIT_EXCEEDED = "rate_limit.exceeded", "rate_limit.exceeded"
    QUOTA_LOW = "quota.low", "quota.low"


class Event(models.Model):
    """Something that happened, told once: written by ``webhooks.services.publish`` and never changed."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="events")
    type = models.CharField(max_length=30, choices=EventType)
    data = models.JSONField()
    # Names what happened, where it could be noticed twice.
    dedupe_key = models.CharField(max_length=200, null=True, unique=True)  # noqa: DJ001  # NULLs are not equal, "" is
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes: ClassVar = [
            # An organization's events, newest first, paged by id.
            models.Index(fields=["organization", "-id"], name="event_organization_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.public_id}"

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.EVENT, self.id)
