"""Every address of accounts under ``/v1``."""

from accounts.api import api_keys, audit, auth, invitations, members, organization

urlpatterns = [
    *auth.urlpatterns,
    *api_keys.urlpatterns,
    *audit.urlpatterns,
    *invitations.urlpatterns,
    *members.urlpatterns,
    *organization.urlpatterns,
]
