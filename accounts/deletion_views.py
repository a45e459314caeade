"""Deleting an organization or one's account, and keeping it after all."""

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, deletions, members, roles, throttles
from accounts.models import ApiKey
from accounts.team_forms import DeletionForm
from helixflow.lib import errors

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@form_view
@sensitive_post_parameters("current_password")
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def delete_organization(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    access.require(membership, roles.DELETE)
    organization = membership.organization
    form = DeletionForm(membership.user, organization.name, "The organization's name", request.POST or None)
    if form.is_valid():
        deletions.delete_organization(by=membership)
        messages.success(request, f"{organization.name} will be deleted in seven days. Until then you can keep it.")
        return redirect("organization")
    context = {
        "membership": membership,
        "form": form,
        "members": members.of(organization).count(),
        "keys": ApiKey.objects.of(organization).usable().count(),
        "days": deletions.GRACE.days,
    }
    return render(request, "accounts/organization_delete.html", context)


@login_required
@require_POST
def keep_organization(request: HttpRequest) -> HttpResponse:
    membership = access.page_membership(request)
    try:
        deletions.keep_organization(by=membership)
    except errors.InvalidRequest as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, f"{membership.organization.name} is kept, and its API keys work again.")
    return redirect("organization")


@login_required
@form_view
@sensitive_post_parameters("current_password")
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def delete_account(request: HttpRequest) -> HttpResponse:
    user = access.page_user(request)
    form = DeletionForm(user, user.email, "Your e-mail address", request.POST or None)
    if form.is_valid():
        try:
            deletions.delete_account(user=user)
        except (errors.InvalidRequest, errors.AuthorizationFailed) as refused:
            form.add_problems(refused)
        else:
            logout(request)
            return render(request, "accounts/account_deleted.html", {"days": deletions.GRACE.days})
    context = {
        "form": form,
        "refusal": deletions.STAFF if user.is_staff else "",
        "blocking": deletions.blocking(user),
        "going_along": deletions.going_along(user),
        "days": deletions.GRACE.days,
    }
    return render(request, "accounts/account_delete.html", context)


@login_required
@require_POST
def keep_account(request: HttpRequest) -> HttpResponse:
    try:
        deletions.keep_account(user=access.page_user(request))
    except errors.InvalidRequest as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, "Your account is kept, with its organizations.")
    return redirect("profile")


urlpatterns = [
    path("dashboard/settings/delete", delete_organization, name="organization-delete"),
    path("dashboard/settings/keep", keep_organization, name="organization-keep"),
    path("dashboard/profile/delete", delete_account, name="account-delete"),
    path("dashboard/profile/keep", keep_account, name="account-keep"),
]
