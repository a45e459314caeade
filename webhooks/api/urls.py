"""Every address of webhooks under ``/v1``."""

from webhooks.api import deliveries, endpoints

urlpatterns = [*endpoints.urlpatterns, *deliveries.urlpatterns]
