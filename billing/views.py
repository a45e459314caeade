"""The dashboard's card of an API key's limits. The plan and its months have modules of their own."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import include, path
from django.views.decorators.http import require_http_methods

from accounts import access
from billing import key_limits
from billing.forms import KeyLimitsForm
from billing.reports import standing
from helixflow.lib import errors


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def limits_of_key(request: HttpRequest, key_id: str) -> HttpResponse:
    """The card of the key's page alone: where its form is sent, and comes back to with errors."""
    membership = access.page_membership(request)
    key = access.get_api_key(membership, key_id)
    form = None
    if request.method == "POST":
        access.require_key_manager(membership)
        form = KeyLimitsForm(standing.of(key), request.POST)
        if form.is_valid():
            try:
                key_limits.set_limits(key=key, user=membership.user, **form.cleaned_data)
            except errors.InvalidRequest as refused:
                form.add_problems(refused)
            else:
                messages.success(request, f"The limits of “{key.name}” are saved.")
                return redirect("api-key", key_id)
    return render(request, "billing/key_limits.html", {"membership": membership, "key": key, "form": form})


urlpatterns = [
    path("", include("billing.plan_views")),
    path("", include("billing.invoice_views")),
    path("dashboard/api-keys/<str:key_id>/limits", limits_of_key, name="api-key-limits"),
]
