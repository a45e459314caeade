"""The catalogue: providers, the models callers see, the deployments that answer for them. Stored contents. Batches."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import crypto, ids
from inference.batch_models import (  # noqa: F401  # Django looks for models here
    Batch,
    BatchItem,
    BatchLane,
    StoredFile,
)

# A slug with dots, slashes and colons, as providers name their models: "meta-llama/Llama-3.1-8B:free".
valid_name = RegexValidator(r"\A[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z", "Letters, digits and . _ : / @ + - only.")


class ProviderKind(models.TextChoices):
    """Each has an adapter in ``inference.providers``."""

    COMPATIBLE = "compatible", "OpenAI-compatible (vLLM, llama.cpp, Ollama, …)"
    OPENAI = "openai", "OpenAI"
    AZURE = "azure", "Azure OpenAI"
    ANTHROPIC = "anthropic", "Anthropic"
    BEDROCK = "bedrock", "AWS Bedrock"
    GEMINI = "gemini", "Google Gemini"
    VERTEX = "vertex", "Google Vertex AI"


class Provider(models.Model):
    """An account with a provider. What its kind leaves out stays empty."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True, validators=[valid_name])
    kind = models.CharField(max_length=20, choices=ProviderKind, default=ProviderKind.COMPATIBLE)
    # No URLField: it refuses the single-label hosts of container networks. inference.upstream.Origin checks it.
    base_url = models.CharField(
        "base URL",
        max_length=300,
        blank=True,
        help_text="Up to and including /v1. Empty: the provider's own address, where its kind has one.",
    )
    preset = models.CharField(max_length=30, blank=True, help_text="Which OpenAI-compatible server this is.")
    region = models.CharField(max_length=50, blank=True, help_text="Of AWS Bedrock and Vertex AI, such as us-east-1.")
    project = models.CharField(max_length=100, blank=True, help_text="The Google Cloud project of Vertex AI.")
    api_version = models.CharField(max_length=50, blank=True, help_text="Empty: the one HelixFlow was tested with.")
    sealed_credential = models.TextField(blank=True, editable=False)  # encrypted: helixflow.lib.crypto
    stream_always = models.BooleanField(
        default=False,
        help_text="Ask for a stream even when the caller does not: for servers that only then stop early.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name

    @property
    def credential(self) -> str:
        """In clear, for calling the provider only. Raises crypto.Undecryptable."""
        return crypto.decrypt(self.sealed_credential) if self.sealed_credential else ""

    @credential.setter
    def credential(self, value: str) -> None:
        self.sealed_credential = crypto.encrypt(value) if value else ""


class Routing(models.TextChoices):
    """How one of several healthy deployments of the same priority is chosen."""

    WEIGHTED = "weighted", "by weight"
    LATENCY = "latency", "least latency"


class Capability(models.TextChoices):
    CHAT = "chat", "Chat"
    STREAMING = "streaming", "Streaming"
    TOOLS = "tools", "Tools"
    VISION = "vision", "Vision"
    JSON = "json", "JSON"
    COMPLETIONS = "completions", "Text completions"
    EMBEDDINGS = "embeddings", "Embeddings"


class Model(models.Model):
    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=200, unique=True, validators=[valid_name], help_text="What callers ask for.")
    owned_by = models.CharField(max_length=100)
    description = models.CharField(max_length=300, blank=True)
    context_length = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens.")
    # For people to choose by: the gateway looks at what adapters can do.
    capabilities = ArrayField(
        models.CharField(max_length=20, choices=Capability),
        default=list,
        blank=True,
        help_text="What people are told that it can do; none: whatever the kinds of its providers do.",
    )
    routing = models.CharField(max_length=10, choices=Routing, default=Routing.WEIGHTED)
    enabled = models.BooleanField(default=True)
    # Empty: offered to everyone.
    only_for = models.ManyToManyField(
        Organization, blank=True, related_name="exclusive_models", help_text="Limit to these; empty: everyone."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Fallback(models.Model):
    """A model that answers when none of the model's own deployments does, unless the caller refuses that."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    model = models.ForeignKey(Model, models.CASCADE, related_name="fallbacks")
    to = models.ForeignKey(Model, models.CASCADE, related_name="stands_in_for", verbose_name="fallback")
    position = models.PositiveSmallIntegerField(default=0, help_text="Lower is tried first.")

    class Meta:
        ordering: ClassVar = ["position", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "to"], name="fallback_unique"),
            models.CheckConstraint(condition=~models.Q(model=models.F("to")), name="fallback_is_another_model"),
        ]

    def __str__(self) -> str:
        return f"{self.model} falls back to {self.to}"


def _seconds(name: str, most: float, help_text: str) -> "models.FloatField[float | None, float | None]":
    limits = [MinValueValidator(0.05), MaxValueValidator(most)]
    return models.FloatField(name, null=True, blank=True, validators=limits, help_text=help_text)


class Deployment(models.Model):
    """One way to reach a model. Lower priority numbers are tried first; weights share the traffic within one.

    Deadlines in seconds; those that are empty are the platform's (``inference.upstream.Deadlines``).
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100, validators=[valid_name], help_text="Shown as X-HelixFlow-Upstream.")
    model = models.ForeignKey(Model, models.CASCADE, related_name="deployments")
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="deployments")
    upstream_model = models.CharField(max_length=200, help_text="What the provider calls the model.")
    priority = models.PositiveSmallIntegerField(default=0)
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    connect_s = _seconds("connect within", 60, "Seconds; empty: 5.")
    first_token_s = _seconds("first token within", 600, "Seconds; empty: 60.")
    gap_s = _seconds("gap of at most", 600, "Seconds between two tokens; empty: 60.")
    total_s = _seconds("all within", 600, "Seconds; empty: 600.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar = ["model", "priority", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "name"], name="deployment_name_unique_in_model"),
        ]

    def __str__(self) -> str:
        return self.name


class StoredContents(models.Model):
    """What one request asked and was answered, where its organization has that stored (docs/stored-contents.md)."""

    id = models.UUIDField(primary_key=True, editable=False)  # the request's
    organization = models.ForeignKey(Organization, models.CASCADE, db_index=False, related_name="+")
    sealed_contents = models.TextField(editable=False)  # encrypted: inference.keeping.contents packs it
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "stored contents"
        indexes: ClassVar = [
            # What an organization has, oldest first, for forgetting; and what is due in all.
            models.Index(fields=["organization", "id"], name="contents_organization"),
            models.Index(fields=["expires_at"], name="contents_due"),
        ]

    def __str__(self) -> str:
        return ids.public_id(ids.REQUEST, self.id)
