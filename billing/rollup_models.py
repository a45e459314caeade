"""What usage comes to: per hour as the meter adds it up, and the larger sums that PostgreSQL keeps of those."""

from decimal import Decimal
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import ApiKey, Organization


class UsageSums(models.Model):
    """What the sums have in common. ``hour`` is when the time that is summed up begins, in UTC."""

    organization = models.ForeignKey(Organization, models.DO_NOTHING, db_constraint=False, db_index=False)
    hour = models.DateTimeField()
    model = models.TextField(blank=True)
    deployment = models.TextField(blank=True)
    requests = models.BigIntegerField(default=0)
    units = models.BigIntegerField(default=0)
    failures = models.JSONField(default=dict)  # error code → requests
    prompt_tokens = models.BigIntegerField(default=0)  # cached ones included
    cached_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    cost = models.DecimalField(max_digits=24, decimal_places=12, default=Decimal(0))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.organization_id} {self.hour:%Y-%m-%d %H}h {self.model}"


def _digits_of(histogram: str) -> "models.GeneratedField":
    """The histogram as one number, so that ``sum()`` adds histograms, at a tenth of the cost of adding arrays.

    Ten decimal digits a bucket, the first bucket lowest; ``billing.reports.timeseries`` reads it.
    """
    return models.GeneratedField(
        expression=models.Func(models.F(histogram), function="billing_histogram_digits"),
        output_field=models.DecimalField(max_digits=1000, decimal_places=0),
        db_persist=True,
        editable=False,
    )


class UsageHour(UsageSums):
    """The records of one hour and key, added up (``billing.metering.rollups``).

    Histograms have the bounds of ``billing.metering.histograms``.
    """

    api_key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    duration_histogram = ArrayField(models.BigIntegerField(), default=list)
    first_token_histogram = ArrayField(models.BigIntegerField(), default=list)
    duration_digits = _digits_of("duration_histogram")
    first_token_digits = _digits_of("first_token_histogram")

    class Meta:
        constraints: ClassVar = [
            # In this order it also serves the dashboard: an organization's hours, of all keys or one.
            models.UniqueConstraint(
                fields=["organization", "hour", "api_key", "model", "deployment"], name="usage_hour_unique"
            ),
        ]


class LargerSums(UsageSums):
    """Hours added up, so that a page that looks at months reads hundreds of rows and not a hundred thousand.

    PostgreSQL keeps them: triggers on the table of hours add what changed there, whoever changed it, in the same
    transaction (billing/migrations/0006). They have the columns that hours have, so that what reads those can read
    these; the digits are those of the histograms, and add up too.
    """

    duration_digits = models.DecimalField(max_digits=1000, decimal_places=0, default=Decimal(0))
    first_token_digits = models.DecimalField(max_digits=1000, decimal_places=0, default=Decimal(0))

    class Meta:
        abstract = True


class UsageDay(LargerSums):
    """The hours of one key on one day in UTC."""

    api_key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "hour", "api_key", "model", "deployment"], name="usage_day_unique"
            ),
        ]


class UsageDayOfAllKeys(LargerSums):
    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "hour", "model", "deployment"], name="usage_day_of_all_keys_unique"
            ),
        ]


class UsageHourOfAllKeys(LargerSums):
    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "hour", "model", "deployment"], name="usage_hour_of_all_keys_unique"
            ),
        ]
