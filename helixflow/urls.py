"""Every address of the control plane. The data plane's are in helixflow/asgi.py."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from accounts import views as account_views
from helixflow import views
from helixflow.site import overview, pages

urlpatterns = [
    path("", pages.landing),
    path("", include("helixflow.site.doc_pages")),
    path("", include("helixflow.status.pages")),
    path("support", pages.support),
    path("dashboard", overview.overview, name="overview"),
    path("manifest.webmanifest", pages.manifest),
    path("favicon.ico", pages.favicon),
    path("robots.txt", pages.robots),
    path(".well-known/security.txt", pages.security),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/login/", account_views.admin_log_in),
    # The admin's own page is not throttled and would leave API sessions alive.
    path("admin/password_change/", RedirectView.as_view(url="/dashboard/profile")),
    path("admin/", admin.site.urls),
    path("", include("accounts.urls")),
    path("", include("accounts.two_factor_views")),
    path("", include("accounts.security_views")),
    path("", include("accounts.audit_views")),
    path("", include("accounts.api_key_views")),
    path("", include("accounts.organization_views")),
    path("", include("accounts.impersonation_views")),
    path("", include("accounts.team_views")),
    path("", include("accounts.invitation_views")),
    path("", include("accounts.export_views")),
    path("", include("accounts.deletion_views")),
    path("", include("billing.usage_views")),
    path("", include("billing.views")),
    path("", include("inference.model_views")),
    path("", include("inference.playground_views")),
    path("", include("billing.request_views")),
    path("", include("inference.content_views")),
    path("", include("inference.batch_views")),
    path("", include("webhooks.delivery_views")),  # before /dashboard/webhooks/<id>
    path("", include("webhooks.endpoint_views")),
    path("v1/", include("accounts.api.urls")),
    path("v1/", include("webhooks.api.urls")),
    path("v1/", include("billing.api.urls")),
    path("v1/", include("inference.batch_api")),
    path("v1/", include("inference.file_api")),
    path("v1/", include("inference.api")),
    re_path(r"^v1(?:/|$)", views.unknown_endpoint),
    re_path(r".+/$", views.without_slash),
]

handler400 = views.bad_request
handler403 = views.permission_denied
handler404 = views.not_found
handler500 = views.server_error
