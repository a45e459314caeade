"""Every address of accounts under ``/v1``."""

from accounts.api import api_keys, auth, organization

urlpatterns = [*auth.urlpatterns, *api_keys.urlpatterns, *organization.urlpatterns]
