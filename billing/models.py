"""What an organization may use and what it used: plans, subscriptions, prices, and the ledger (docs/ledger.md)."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import ClassVar, Final

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from accounts.models import ApiKey, Organization
from billing import events
from billing.plan_models import (  # noqa: F401  # Django looks for models here
    Alert,
    AlertSettings,
    QuotaGrant,
    UpgradeRequest,
)
from billing.rollup_models import (  # noqa: F401  # Django looks for models here
    UsageDay,
    UsageDayOfAllKeys,
    UsageHour,
    UsageHourOfAllKeys,
)
from helixflow.lib import ids

STARTER = "starter"
STARTER_PER_MINUTE = 100
STARTER_PER_MONTH = 10_000

_at_least_one = MinValueValidator(1)
_not_negative = MinValueValidator(Decimal(0))


class Plan(models.Model):
    slug = models.SlugField(primary_key=True, max_length=30)
    name = models.CharField(max_length=50)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: set per organization.")
    requests_per_month = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: set per organization.")

    def __str__(self) -> str:
        return self.name


class Terms(models.Model):
    """What a subscription can say beside its plan: limits of its own, and two that no plan has."""

    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: the plan's.")
    requests_per_month = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: the plan's.")
    max_parallel = models.PositiveIntegerField(
        "parallel requests", null=True, blank=True, validators=[_at_least_one], help_text="At once; empty: no cap."
    )
    monthly_budget = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, validators=[_not_negative], help_text="Empty: none."
    )

    class Meta:
        abstract = True


class Subscription(Terms):
    """An organization without one is on Starter. Its own numbers, where given, win over the plan's."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.OneToOneField(Organization, models.CASCADE, related_name="subscription")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    started_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.organization} on {self.plan}"


class SubscriptionChange(Terms):
    """History: what a subscription was changed to, by whom. Never edited."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="subscription_changes")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="+")
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.organization} to {self.plan}"


class KeyLimits(models.Model):
    """What one API key may use of its organization's limits. Numbers above the organization's have no effect."""

    api_key = models.OneToOneField(ApiKey, models.CASCADE, primary_key=True, related_name="limits")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    requests_per_month = models.PositiveIntegerField(null=True, blank=True)
    monthly_budget = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, validators=[_not_negative]
    )

    class Meta:
        verbose_name_plural = "key limits"

    def __str__(self) -> str:
        return f"limits of {self.api_key}"


def _per_million(*, required: bool = False) -> "models.DecimalField[Decimal | None, Decimal | None]":
    return models.DecimalField(
        max_digits=12, decimal_places=6, null=not required, blank=not required, validators=[_not_negative]
    )


class Price(models.Model):
    """One version of what a model costs, per million tokens. The version in force is the latest that has started.

    A class without a price of its own costs what its base does: cached, cache-write and audio input what ``input``
    costs, reasoning and audio output what ``output`` costs.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    model = models.CharField(max_length=200, help_text="The name callers ask for.")
    currency = models.CharField(max_length=3, default="USD")
    starts_at = models.DateTimeField(default=timezone.now)
    input = _per_million(required=True)
    cached_input = _per_million()
    cache_write = _per_million()
    input_audio = _per_million()
    output = _per_million(required=True)
    reasoning = _per_million()
    output_audio = _per_million()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["model", "-starts_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "starts_at"], name="price_version_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.starts_at:%Y-%m-%d %H:%M}"


class UsageSource(models.TextChoices):
    PROVIDER = "provider"
    ESTIMATED = "estimated"
    NONE = "none"


class Settler(models.TextChoices):
    """Who said how a request ended. A reaper's record gives way to the gateway's, should that come late."""

    GATEWAY = "gateway"
    REAPER = "reaper"


FAILED: Final = ~models.Q(error_code="") | models.Q(status__gte=400)  # records of requests that did not end well


class UsageRecord(models.Model):
    """One admitted request, written by the meter.

    Range-partitioned on its time-ordered id (``billing.metering.partitions``). Organization and key are not
    constrained: a record outlives both. The seven classes of tokens are disjoint.
    """

    id = models.UUIDField(primary_key=True)  # the request's: its first 48 bits are when it began
    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="usage_records"
    )
    api_key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    user_id = models.UUIDField(null=True)  # who made the key
    month = models.DateField()  # the first day of the month whose quota it drew on, by the limiter's clock
    units = models.PositiveSmallIntegerField()  # of that quota: 1, or 0 for a request that produced nothing
    operation = models.TextField(
        default=events.CHAT, db_default=events.CHAT
    )  # chat.completions, completions, embeddings
    model = models.TextField(blank=True)  # as asked for; empty if the body was never understood
    fallback_model = models.TextField(blank=True, default="", db_default="")  # that answered in its place, and is paid
    deployment = models.TextField(blank=True)  # that answered
    attempts = models.JSONField(default=list)  # [{"deployment", "outcome", "duration_ms"}] in order
    status = models.PositiveSmallIntegerField()  # HTTP; 499 if the caller left before an answer
    error_code = models.TextField(blank=True)
    streamed = models.BooleanField()
    end_user = models.TextField(blank=True)  # the request's `user`
    usage_source = models.CharField(max_length=10, choices=UsageSource)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_input_tokens = models.PositiveBigIntegerField(default=0)
    cache_write_tokens = models.PositiveBigIntegerField(default=0)
    input_audio_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)
    output_audio_tokens = models.PositiveBigIntegerField(default=0)
    price_id = models.UUIDField(null=True)  # the version the cost was computed from
    currency = models.CharField(max_length=3, blank=True)
    cost = models.DecimalField(max_digits=24, decimal_places=12, default=Decimal(0))
    duration_ms = models.FloatField()
    first_token_ms = models.FloatField(null=True)
    settled_by = models.CharField(max_length=10, choices=Settler)
    recorded_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes: ClassVar = [
            # An organization's requests, newest first, paged by id: all, of one key, failed, of one end user. What
            # follows the id serves no order: a rare model or status is looked for within the index.
            models.Index(fields=["organization", "-id", "model"], name="usage_organization_newest"),
            models.Index(fields=["organization", "api_key", "-id"], name="usage_key_newest"),
            models.Index(
                fields=["organization", "-id", "status", "api_key", "error_code"],
                condition=FAILED,
                name="usage_failed_newest",
            ),
            models.Index(
                fields=["organization", "end_user", "-id"],
                condition=~models.Q(end_user=""),
                name="usage_end_user_newest",
            ),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.REQUEST, self.id)

    @property
    def started_at(self) -> dt.datetime:
        return ids.time_of(self.id)

    @property
    def has_failed(self) -> bool:
        """As ``FAILED`` has it."""
        return self.error_code != "" or self.status >= 400

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cached_input_tokens + self.cache_write_tokens + self.input_audio_tokens

    @property
    def completion_tokens(self) -> int:
        return self.output_tokens + self.reasoning_tokens + self.output_audio_tokens


class UsageMonth(models.Model):
    """Running totals of one key in one calendar month: what quota seeds, budgets and thresholds read."""

    organization = models.ForeignKey(Organization, models.DO_NOTHING, db_constraint=False, db_index=False)
    api_key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    month = models.DateField()
    requests = models.BigIntegerField(default=0)
    units = models.BigIntegerField(default=0)
    cost = models.DecimalField(max_digits=24, decimal_places=12, default=Decimal(0))

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "month", "api_key"], name="usage_month_unique"),
        ]
        indexes: ClassVar = [
            # Who has used anything this month: looked through once a minute for what to alert of.
            models.Index(fields=["month", "organization"], name="usage_month_of_all"),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.month:%Y-%m}"


class Refusal(models.Model):
    """Requests that admission refused: one gateway's count of one key, minute and reason."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)  # the event's
    organization = models.ForeignKey(Organization, models.DO_NOTHING, db_constraint=False, db_index=False)
    api_key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    minute = models.DateTimeField()
    reason = models.CharField(max_length=20)
    count = models.PositiveBigIntegerField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["organization", "minute"], name="refusal_organization_minute")]

    def __str__(self) -> str:
        return f"{self.count} × {self.reason}"


class UsageReject(models.Model):
    """A stream entry that cannot be metered, set aside with its reason so that the rest goes on."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    stream = models.CharField(max_length=50)
    entry_id = models.CharField(max_length=50)
    payload = models.BinaryField()
    reason = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["stream", "entry_id"], name="usage_reject_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} {self.entry_id}"
