"""What the platform says of itself: how its components did day by day, and what went wrong (helixflow/status)."""

import datetime as dt
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from helixflow.lib import ids


class State(models.TextChoices):
    """Of a component, from good to bad."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    DOWN = "down"


class StatusDay(models.Model):
    """The probes of one component on one day in UTC, added up, and what the last of them found."""

    component = models.CharField(max_length=220)  # a key of helixflow.status.components, or model:<name>
    day = models.DateField()
    checks = models.PositiveIntegerField(default=0)
    degraded = models.PositiveIntegerField(default=0)
    down = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=12, choices=State)
    note = models.CharField(max_length=200, blank=True)  # for operators: why
    checked_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["day", "component"], name="status_day_unique")]

    def __str__(self) -> str:
        return f"{self.component} on {self.day}"


class Impact(models.TextChoices):
    MAINTENANCE = "maintenance", "Maintenance"
    MINOR = "minor", "Minor: something is slower or fails at times"
    MAJOR = "major", "Major: something doesn't work"


class IncidentQuerySet(models.QuerySet["Incident"]):
    def latest_first(self) -> "IncidentQuerySet":
        return self.prefetch_related("updates").order_by("-starts_at", "-id")

    def open(self) -> "IncidentQuerySet":
        """Under way: announced maintenance that has not begun is not."""
        return self.filter(starts_at__lte=Now(), ends_at=None)


class Incident(models.Model):
    """What the status page tells of: trouble, or maintenance that is announced. Written by operators in the admin."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    title = models.CharField(max_length=120, help_text="What users notice: “Slow answers from gpt-4”.")
    impact = models.CharField(max_length=12, choices=Impact, default=Impact.MINOR)
    components = ArrayField(models.CharField(max_length=220), default=list, blank=True)
    starts_at = models.DateTimeField("began, or begins", default=timezone.now, help_text="UTC")
    ends_at = models.DateTimeField("ended", null=True, blank=True, help_text="UTC. Empty: it goes on.")

    objects = IncidentQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["-starts_at"], name="incident_newest")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(ends_at=None) | models.Q(ends_at__gte=models.F("starts_at")),
                name="incident_ends_after_it_began",
                violation_error_message="It can't end before it begins.",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.INCIDENT, self.id)

    @property
    def is_open(self) -> bool:
        return self.ends_at is None and self.starts_at <= timezone.now()

    @property
    def is_announced(self) -> bool:
        return self.starts_at > timezone.now()

    @property
    def changed_at(self) -> dt.datetime:
        """The latest word on it. Reads ``updates``, which ``latest_first`` has fetched."""
        told = [update.told_at for update in self.updates.all()]
        return max([self.starts_at if not self.is_announced else self.first_told_at, *told])

    @property
    def first_told_at(self) -> dt.datetime:
        return ids.time_of(self.id)


class IncidentUpdate(models.Model):
    """One word on an incident, newest last."""

    class Phase(models.TextChoices):
        SCHEDULED = "scheduled", "Scheduled"
        INVESTIGATING = "investigating", "Investigating"
        IDENTIFIED = "identified", "Identified"
        MONITORING = "monitoring", "Monitoring"
        RESOLVED = "resolved", "Resolved"

    incident = models.ForeignKey(Incident, models.CASCADE, related_name="updates")
    phase = models.CharField(max_length=14, choices=Phase, default=Phase.INVESTIGATING)
    text = models.TextField(max_length=2000)
    told_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-told_at", "-id"]

    def __str__(self) -> str:
        return f"{self.phase}: {self.text[:50]}"
