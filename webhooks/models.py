"""What an organization is told about (events), where (endpoints), and how that went (deliveries, attempts)."""

from typing import ClassVar, Final, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property

from accounts.models import Organization, User
from helixflow.lib import crypto, ids


class EventType(models.TextChoices):
    COMPLETION_CREATED = "completion.created", "completion.created"
    COMPLETION_FAILED = "completion.failed", "completion.failed"
    RATE_LIMIT_EXCEEDED = "rate_limit.exceeded", "rate_limit.exceeded"
    QUOTA_LOW = "quota.low", "quota.low"
    BATCH_COMPLETED = "batch.completed", "batch.completed"


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


class DisabledReason(models.TextChoices):
    MANUAL = "manual", "disabled by hand"
    GONE = "gone", "the receiver answered 410 Gone"
    FAILING = "failing", "every attempt failed for days"


BY_PLATFORM: Final = frozenset({DisabledReason.GONE, DisabledReason.FAILING})


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def of(self, organization: Organization) -> Self:
        """Those that are not deleted."""
        return self.filter(organization=organization, deleted_at=None)

    def disabled_by_platform(self) -> Self:
        return self.filter(disabled_reason__in=BY_PLATFORM)


class Endpoint(models.Model):
    """A URL that events are sent to. Deleted ones stay until their deliveries are gone, for the log's sake."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="webhook_endpoints")
    url = models.CharField("URL", max_length=2000)
    description = models.CharField(max_length=200, blank=True)
    events = ArrayField(models.CharField(max_length=30, choices=EventType), help_text="The types it is told of.")
    # Filters. An event that names no key or no model passes.
    api_key_ids = ArrayField(models.UUIDField(), null=True, blank=True, help_text="Only of these keys; empty: all.")
    model_names = ArrayField(
        models.CharField(max_length=200), null=True, blank=True, help_text="Only of these models; empty: all."
    )
    sealed_secret = models.TextField(editable=False)
    # Until a rotation is finished: what X-HelixFlow-Signature is still under.
    sealed_previous_secret = models.TextField(blank=True, editable=False)
    rotation_ends_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(max_length=10, choices=DisabledReason, blank=True, editable=False)
    owner_told_at = models.DateTimeField(null=True, blank=True, editable=False)  # that it was disabled, by mail
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)  # no attempt has succeeded since
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook endpoint"
        indexes: ClassVar = [
            models.Index(fields=["organization", "-id"], name="endpoint_organization_newest"),
        ]

    def __str__(self) -> str:
        return self.public_id  # not the URL, which can hold a token: this goes into logs

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.WEBHOOK, self.id)

    @property
    def is_enabled(self) -> bool:
        return self.disabled_at is None

    @property
    def is_disabled_by_platform(self) -> bool:
        """And by nobody's hand: somebody should look."""
        return self.disabled_reason in BY_PLATFORM

    @cached_property  # a lane signs many times
    def secret(self) -> str:
        """As of when it is first asked for. Raises crypto.Undecryptable."""
        return crypto.decrypt(self.sealed_secret)

    @property
    def previous_secret(self) -> str | None:
        """The one before, while a rotation is under way. Raises crypto.Undecryptable."""
        return crypto.decrypt(self.sealed_previous_secret) if self.is_rotating else None

    @property
    def is_rotating(self) -> bool:
        return self.rotation_ends_at is not None and timezone.now() < self.rotation_ends_at


class DeliveryState(models.TextChoices):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # every attempt of the schedule
    CANCELLED = "cancelled"  # its endpoint was deleted


class Delivery(models.Model):
    """One event for one endpoint. ``webhooks.queue`` hands it out and writes down what came of it."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="webhook_deliveries")
    event = models.ForeignKey(Event, models.CASCADE, db_index=False, related_name="deliveries")
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, db_index=False, related_name="deliveries")
    test = models.BooleanField(default=False)  # sent at will: one attempt, also to a disabled endpoint
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    step = models.PositiveSmallIntegerField(default=0)  # attempts in this run of the schedule; a resend begins anew
    attempt_count = models.PositiveIntegerField(default=0)  # ever
    next_attempt_at = models.DateTimeField(null=True, default=timezone.now)  # None once there is nothing to wait for
    # Who is sending it, until when nobody else may.
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    last_status = models.PositiveSmallIntegerField(null=True)
    last_error = models.CharField(max_length=40, blank=True)  # of ``webhooks.models.Attempt.error_code``
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="delivery_unique"),
        ]
        indexes: ClassVar = [
            # What is due at an endpoint, and who is at it.
            models.Index(
                fields=["endpoint", "next_attempt_at"], condition=models.Q(state="pending"), name="delivery_due"
            ),
            models.Index(fields=["endpoint"], condition=models.Q(lease__isnull=False), name="delivery_leased"),
            # Tests that wait, however many others do.
            models.Index(fields=["endpoint"], condition=models.Q(state="pending", test=True), name="delivery_tests"),
            # The log, newest first, paged by id: an organization's, an endpoint's, what failed.
            models.Index(fields=["organization", "-id"], name="delivery_organization_newest"),
            models.Index(fields=["endpoint", "-id"], name="delivery_endpoint_newest"),
            models.Index(fields=["organization", "-id"], condition=models.Q(state="failed"), name="delivery_failed"),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.DELIVERY, self.id)


class Attempt(models.Model):
    """One call of an endpoint: what was sent, what came back or why nothing did. Never changed."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="attempts")
    # The delivery's. Not constrained: lanes that write at once would queue up for the locks of the endpoint's row.
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, db_constraint=False, db_index=False, related_name="attempts")
    started_at = models.DateTimeField()
    duration_ms = models.FloatField()
    url = models.TextField()
    address = models.GenericIPAddressField(null=True)  # that was dialled
    request_headers = models.JSONField(default=dict)
    succeeded = models.BooleanField()
    status = models.PositiveSmallIntegerField(null=True)  # None: no answer
    response_headers = models.JSONField(default=dict)
    response_body = models.TextField(blank=True)  # the first 20 kB
    response_truncated = models.BooleanField(default=False)
    error_code = models.CharField(max_length=40, blank=True)  # webhooks.sending and helixflow.lib.http name them
    error = models.TextField(blank=True)  # in words
    next_attempt_at = models.DateTimeField(null=True)  # as planned then

    class Meta:
        indexes: ClassVar = [
            # How an endpoint did lately.
            models.Index(
                fields=["endpoint", "-id"], include=["succeeded", "duration_ms"], name="attempt_endpoint_newest"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M:%S} UTC"
