"""Every address of billing under ``/v1``."""

from billing.api import key_limits, plan, requests, usage

urlpatterns = [*plan.urlpatterns, *key_limits.urlpatterns, *usage.urlpatterns, *requests.urlpatterns]
