"""The organization that the dashboard shows: which of a user's several, and its settings."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access, organizations, roles
from accounts.models import Membership
from accounts.organization_forms import OrganizationForm
from accounts.team_forms import NewOrganizationForm
from helixflow.lib import errors

# What of /dashboard is about an organization; after a switch the same page shows the other one.
SECTIONS = frozenset(
    {"api-keys", "audit", "models", "plan", "playground", "requests", "settings", "team", "usage", "webhooks"}
)


@login_required
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    access.choose_organization(access.page_user(request), request.session, request.POST.get("organization", ""))
    page = request.POST.get("page")
    return redirect(f"/dashboard/{page}" if page in SECTIONS else "/dashboard")


@login_required
@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """Also for those who are in none."""
    return render(request, "accounts/organizations.html", {"memberships": access.page_memberships(request)})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = access.page_user(request)
    form = NewOrganizationForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            made = organizations.create(user=user, name=form.cleaned_data["name"])
        except (errors.InvalidRequest, errors.AuthorizationFailed) as refused:
            form.add_problems(refused)
        else:
            access.choose_organization(user, request.session, made.organization.public_id)
            messages.success(request, f"{made.organization.name} is there. Create a key, or invite somebody.")
            return redirect("/dashboard")
    return render(request, "accounts/organization_new.html", {"form": form})


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
        "form": form,
        "read_only": access.why_not_manager(membership, of="its settings"),
        "exports": access.may(membership, roles.EXPORT),
        "deletes": access.may(membership, roles.DELETE),
    }
    return render(request, "accounts/organization.html", context)


urlpatterns = [
    path("dashboard/organization", choose, name="choose-organization"),
    path("dashboard/organizations", mine, name="organizations"),
    path("dashboard/organizations/new", new, name="organization-new"),
    path("dashboard/settings", settings, name="organization"),
]
