"""Batches: the files they come from and end in, their requests, and who works on an organization's at the moment.

What people sent and were answered is encrypted, under a key of each file and batch, and is gone after a month.
"""

from decimal import Decimal
from typing import ClassVar, Final

from django.db import models
from django.utils import timezone

from accounts.models import ApiKey, Organization
from helixflow.lib import ids


class Purpose(models.TextChoices):
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"


class StoredFile(models.Model):
    """One file of ``/v1/files``: its contents are in the default storage, encrypted (``inference.batch.files``)."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="+")
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="+")  # that sent or caused it
    purpose = models.CharField(max_length=20, choices=Purpose)
    filename = models.CharField(max_length=255)
    size_bytes = models.BigIntegerField()  # in clear
    lines = models.PositiveIntegerField()
    name = models.CharField(max_length=200, unique=True, editable=False)  # in the storage
    sealed_key = models.TextField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            # An organization's, newest first, paged by id; and what is due.
            models.Index(fields=["organization", "-id"], name="file_organization_newest"),
            models.Index(fields=["expires_at"], name="file_due"),
        ]

    def __str__(self) -> str:
        return self.public_id  # not the name that its owner gave it: this goes into logs

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.FILE, self.id)


class Operation(models.TextChoices):
    """``endpoint`` in OpenAI's words: the path that each request of a batch goes to."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


class BatchStatus(models.TextChoices):
    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"  # its file was not valid: nothing was asked
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


OPEN: Final = (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS, BatchStatus.FINALIZING, BatchStatus.CANCELLING)
ENDED: Final = tuple(status for status in BatchStatus if status not in OPEN)


class WaitsFor(models.TextChoices):
    """Why a batch stands still for a while."""

    RATE_LIMIT = "rate_limit", "the next minute"  # batches leave half of it to others
    UPSTREAM = "upstream", "the model's upstreams"  # that fail
    SERVICE = "service", "the platform"  # a part of which is away
    ORGANIZATION = "organization", "the organization"  # which is disabled, or about to be deleted


class Batch(models.Model):
    """Requests handed over at once. Whoever has its organization's lane works on it (``inference.batch.lanes``)."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="+")
    api_key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="+")  # in whose name it asks
    operation = models.CharField(max_length=30, choices=Operation)
    status = models.CharField(max_length=12, choices=BatchStatus, default=BatchStatus.VALIDATING)
    completion_window = models.CharField(max_length=10, default="24h")
    metadata = models.JSONField(null=True)  # texts by name, the caller's own
    # Files by id and without a foreign key: they may be deleted, and the batch goes on naming them.
    input_file_id = models.UUIDField()
    output_file_id = models.UUIDField(null=True)
    error_file_id = models.UUIDField(null=True)
    errors = models.JSONField(default=list)  # of its file: {"code", "message", "param", "line"}
    retry_of = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    sealed_key = models.TextField(editable=False)  # of its items' contents
    held_bytes = models.BigIntegerField(default=0, db_default=0, editable=False)  # of its file, in its items again

    total = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)  # among those of the prompts
    completion_tokens = models.PositiveBigIntegerField(default=0)
    reasoning_tokens = models.PositiveBigIntegerField(default=0)  # among those of the completions
    cost = models.DecimalField(max_digits=24, decimal_places=12, default=Decimal(0))
    # Why it stands still (WaitsFor), and until when.
    waits_for = models.CharField(max_length=40, blank=True)
    waits_until = models.DateTimeField(null=True)
    turned_at = models.DateTimeField(default=timezone.now)  # the organization's batches take turns

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True)
    cancelling_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "batches"
        indexes: ClassVar = [
            # An organization's, newest first, paged by id; and those that somebody has to work on.
            models.Index(fields=["organization", "-id"], name="batch_organization_newest"),
            models.Index(fields=["organization", "turned_at"], name="batch_open", condition=models.Q(status__in=OPEN)),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return ids.public_id(ids.BATCH, self.id)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def settled(self) -> int:
        """Requests that have ended, well or not."""
        return self.completed + self.failed


class ItemState(models.TextChoices):
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"


class BatchItem(models.Model):
    """One request of a batch. It waits until what came of it is written down: who works on it holds nothing."""

    batch = models.ForeignKey(Batch, models.CASCADE, db_index=False, related_name="items")
    position = models.PositiveIntegerField()  # from 0, the order of the requests
    custom_id = models.CharField(max_length=512)
    model = models.CharField(max_length=200)
    state = models.CharField(max_length=9, choices=ItemState, default=ItemState.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)  # that failed in a way that may pass
    due_at = models.DateTimeField(null=True)  # not before
    request = models.BinaryField(editable=False)  # the body, encrypted under the batch's key
    answer = models.BinaryField(null=True, editable=False)  # the body of the answer, errors too, encrypted likewise
    status_code = models.PositiveSmallIntegerField(null=True)  # None: it was never answered
    request_id = models.CharField(max_length=40, blank=True)  # req_…
    error_code = models.CharField(max_length=40, blank=True)
    prompt_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    cost = models.DecimalField(max_digits=24, decimal_places=12, default=Decimal(0))
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["batch", "position"], name="batchitem_position")]
        indexes: ClassVar = [
            # What is next, and what failed.
            models.Index(fields=["batch", "position"], name="batchitem_waiting", condition=models.Q(state="waiting")),
            models.Index(fields=["batch", "position"], name="batchitem_failed", condition=models.Q(state="failed")),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return f"{ids.public_id(ids.BATCH_ITEM, self.batch_id)}_{self.position}"


class BatchLane(models.Model):
    """An organization's turn at the workers: one at a time works on its batches, under a lease that it renews."""

    organization = models.OneToOneField(Organization, models.CASCADE, primary_key=True, related_name="+")
    due_at = models.DateTimeField(null=True)  # when there is something to do; None: nothing
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            # What is due, and whose worker may be gone: of many organizations few at a time.
            models.Index(fields=["due_at"], name="batchlane_due"),
            models.Index(fields=["leased_until"], name="batchlane_leased", condition=models.Q(lease__isnull=False)),
        ]

    def __str__(self) -> str:
        return str(self.organization_id)
