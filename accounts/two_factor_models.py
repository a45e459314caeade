"""Part of accounts.models: the second factor of a login. What may be done with it: ``accounts.two_factor``."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from django_otp.models import ThrottlingMixin

from helixflow.lib import ids


class TwoFactor(ThrottlingMixin, models.Model):  # type: ignore[misc]  # django-otp has no types
    """An authenticator app. It counts once a code of it has confirmed it; of wrong codes each doubles the wait."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="two_factor")
    sealed_secret = models.CharField(max_length=300, editable=False)  # of base32, as apps take it
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    confirmed_at = models.DateTimeField(null=True, editable=False)
    # The time step of the last code that was accepted: none at or before it is ever accepted again.
    last_step = models.BigIntegerField(default=-1, editable=False)

    class Meta:
        verbose_name = "two-factor authentication"
        verbose_name_plural = "two-factor authentication"

    def __str__(self) -> str:
        return f"authenticator app of {self.user}"

    def get_throttle_factor(self) -> int:
        """Seconds to wait after the first wrong code."""
        return 1


class RecoveryCode(models.Model):
    """Good for one login, in place of a code of the app. Only its digest is kept, under a pepper."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="recovery_codes", db_index=False)
    digest = models.BinaryField(max_length=32, editable=False)
    used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "digest"], name="recovery_code_unique")]

    def __str__(self) -> str:
        return f"recovery code of {self.user}"
