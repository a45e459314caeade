"""The organization that the dashboard shows: which of a user's several, and its settings."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, organizations
from accounts.models import Membership
from accounts.organization_forms import OrganizationForm
from helixflow.lib import errors

PAGES = {"api-keys", "organization", "plan", "webhooks"}  # that offer the choice


@login_required
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    access.choose_organization(access.page_user(request), request.session, request.POST.get("organization", ""))
    page = request.POST.get("page")
    return redirect(page if page in PAGES else "api-keys")


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    if request.method != "POST":
        return _settings_page(request, membership, OrganizationForm(membership.organization))
    access.require_manager(membership, of="its settings")
    form = OrganizationForm(membership.organization, request.POST)
    if form.is_valid():
        try:
            organizations.update(organization=membership.organization, user=membership.user, **form.cleaned_data)
        except errors.InvalidRequest as refused:
            form.add_problems(refused)
        else:
            messages.success(request, "Saved. It counts from the next request on.")
            return redirect("organization")
    return _settings_page(request, membership, form)


def _settings_page(request: HttpRequest, membership: Membership, form: OrganizationForm) -> HttpResponse:
    context = {
        "membership": membership,
        "memberships": access.memberships(membership.user),
        "form": form,
        "read_only": _why_read_only(membership),
    }
    return render(request, "accounts/organization.html", context)


def _why_read_only(membership: Membership) -> str:
    try:
        access.require_manager(membership, of="its settings")
    except errors.AuthorizationFailed as refused:
        return refused.message
    return ""


urlpatterns = [
    path("dashboard/organization", choose, name="choose-organization"),
    path("dashboard/settings", settings, name="organization"),
]
