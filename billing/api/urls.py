"""Every address of billing under ``/v1``."""

from billing.api import key_limits, plan

urlpatterns = [*plan.urlpatterns, *key_limits.urlpatterns]
