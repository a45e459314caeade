"""Ending a view as support: the button of the banner."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST

from accounts import impersonation


@login_required
@require_POST
def end(request: HttpRequest) -> HttpResponse:
    viewing: impersonation.Viewing | None = getattr(request, "viewing", None)
    if viewing is None:
        return redirect("/dashboard")
    impersonation.end(session=request.session, viewing=viewing)
    messages.success(request, f"You no longer look at {viewing.organization.name}.")
    return redirect("admin:accounts_organization_change", viewing.organization.id)


urlpatterns = [path("dashboard/support-view/end", end, name="support-view-end")]
