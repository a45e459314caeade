"""What an organization may use: plans and subscriptions."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import ids

STARTER = "starter"
STARTER_PER_MINUTE = 100
STARTER_PER_MONTH = 10_000


class Plan(models.Model):
    slug = models.SlugField(primary_key=True, max_length=30)
    name = models.CharField(max_length=50)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: set per organization.")
    requests_per_month = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: set per organization.")

    def __str__(self) -> str:
        return self.name


class Subscription(models.Model):
    """An organization without one is on Starter. Its own numbers, where given, win over the plan's."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.OneToOneField(Organization, models.CASCADE, related_name="subscription")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    requests_per_month = models.PositiveIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.organization} on {self.plan}"
