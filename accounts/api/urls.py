"""Every address of accounts under ``/v1``."""

from accounts.api import api_keys, auth, invitations, members, organization

urlpatterns = [
    *auth.urlpatterns,
    *api_keys.urlpatterns,
    *invitations.urlpatterns,
    *members.urlpatterns,
    *organization.urlpatterns,
]
