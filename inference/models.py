"""The catalogue: providers, the models callers see, and the deployments that answer for them."""

from typing import ClassVar

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from accounts.models import Organization
from helixflow.lib import crypto, ids

# A slug with dots, slashes and colons, as providers name their models: "meta-llama/Llama-3.1-8B:free".
valid_name = RegexValidator(r"\A[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z", "Letters, digits and . _ : / @ + - only.")


class ProviderKind(models.TextChoices):
    COMPATIBLE = "compatible", "OpenAI-compatible (vLLM, llama.cpp, Ollama, …)"
    OPENAI = "openai", "OpenAI"


class Provider(models.Model):
    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True, validators=[valid_name])
    kind = models.CharField(max_length=20, choices=ProviderKind, default=ProviderKind.COMPATIBLE)
    # No URLField: it refuses the single-label hosts of container networks. inference.upstream.Origin checks it.
    base_url = models.CharField("base URL", max_length=300, help_text="Up to and including /v1.")
    sealed_api_key = models.TextField(blank=True, editable=False)  # encrypted: helixflow.lib.crypto
    stream_always = models.BooleanField(
        default=False,
        help_text="Ask for a stream even when the caller does not: for servers that only then stop early.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name

    @property
    def api_key(self) -> str:
        """In clear, for calling the provider only. Raises crypto.Undecryptable."""
        return crypto.decrypt(self.sealed_api_key) if self.sealed_api_key else ""

    @api_key.setter
    def api_key(self, value: str) -> None:
        self.sealed_api_key = crypto.encrypt(value) if value else ""


class Model(models.Model):
    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=200, unique=True, validators=[valid_name], help_text="What callers ask for.")
    owned_by = models.CharField(max_length=100)
    description = models.CharField(max_length=300, blank=True)
    context_length = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens.")
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


class Deployment(models.Model):
    """One way to reach a model. Lower priority numbers are tried first; weights share the traffic within one."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    name = models.CharField(max_length=100, validators=[valid_name], help_text="Shown as X-HelixFlow-Upstream.")
    model = models.ForeignKey(Model, models.CASCADE, related_name="deployments")
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="deployments")
    upstream_model = models.CharField(max_length=200, help_text="What the provider calls the model.")
    priority = models.PositiveSmallIntegerField(default=0)
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering: ClassVar = ["model", "priority", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "name"], name="deployment_name_unique_in_model"),
        ]

    def __str__(self) -> str:
        return self.name
