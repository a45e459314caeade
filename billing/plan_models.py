"""Part of billing.models: quota granted for a month, upgrades asked for, and alerts."""

from typing import ClassVar, Final

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import ids

MAX_GRANT: Final = 1_000_000_000
MAX_REASON: Final = 300
MAX_MESSAGE: Final = 2_000
MAX_PERCENTS: Final = 10  # of one kind of alert
PERCENTS: Final = (80, 100)  # where nobody has chosen any

_by_user = {
    "to": settings.AUTH_USER_MODEL,
    "on_delete": models.SET_NULL,
    "null": True,
    "blank": True,
    "related_name": "+",
}


def default_percents() -> list[int]:
    return list(PERCENTS)


class QuotaGrant(models.Model):
    """Requests beyond the limit of one calendar month, given by an operator. Written by ``billing.grants``."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="quota_grants")
    month = models.DateField()  # its first day
    units = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_GRANT)])
    reason = models.CharField(max_length=MAX_REASON)
    granted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["organization", "month"], name="quotagrant_of_month")]

    def __str__(self) -> str:
        return f"{self.units:,} requests in {self.month:%Y-%m} for {self.organization}"


class UpgradeRequest(models.Model):
    """What an organization's owners and admins asked operators for. Written by ``billing.upgrades``."""

    class State(models.TextChoices):
        OPEN = "open"
        GRANTED = "granted"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="upgrade_requests")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    plan = models.ForeignKey("billing.Plan", models.PROTECT, related_name="+")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    requests_per_month = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    message = models.TextField(max_length=MAX_MESSAGE, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    note = models.TextField(max_length=MAX_MESSAGE, blank=True)  # of who decided, as the mail to the owners has it

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(state="open"), name="upgrade_request_open_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization} asks for {self.plan}"


class AlertSettings(models.Model):
    """When to write to whom about a month's quota and budget. An organization without a row has the defaults."""

    organization = models.OneToOneField(Organization, models.CASCADE, primary_key=True, related_name="alert_settings")
    quota_percents = ArrayField(models.PositiveSmallIntegerField(), default=default_percents, blank=True)
    budget_percents = ArrayField(models.PositiveSmallIntegerField(), default=default_percents, blank=True)
    # Users; None: all owners and admins. Who is neither any more gets none.
    recipient_ids = ArrayField(models.UUIDField(), null=True, blank=True)

    class Meta:
        verbose_name_plural = "alert settings"

    def __str__(self) -> str:
        return f"alerts of {self.organization}"


class Alert(models.Model):
    """A threshold that was reached in a month: told once. ``billing.alerts`` finds them and sends the mails."""

    class Kind(models.TextChoices):
        QUOTA = "quota"
        BUDGET = "budget"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="alerts")
    month = models.DateField()
    kind = models.CharField(max_length=10, choices=Kind)
    percent = models.PositiveSmallIntegerField()
    limit = models.DecimalField(max_digits=24, decimal_places=12)  # in force then: requests, or money
    used = models.DecimalField(max_digits=24, decimal_places=12)
    created_at = models.DateTimeField(default=timezone.now)
    queued_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)  # also of one that a higher threshold, reached with it, speaks for

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "month", "kind", "percent"], name="alert_once_a_month"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at"], condition=models.Q(sent_at=None), name="alert_unsent"),
        ]

    def __str__(self) -> str:
        return f"{self.percent}% of the {self.kind} of {self.organization} in {self.month:%Y-%m}"
