"""The page behind an invitation's link. A GET only shows, so that programs that open the links in mails join nobody."""

from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import access, invitation_links, invitations, roles
from accounts.models import Invitation, Membership, User
from helixflow.lib import errors

REPLACED = (
    "There is no invitation behind this link. It may have been sent again since: only the newest mail's link works."
)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    found = invitation_links.find(token)
    if found is None:
        return _unusable(request, REPLACED)
    user = request.user if isinstance(request.user, User) else None
    if user is not None and _is_in(user, found):
        return _already(request, found, user)
    refusal = invitations.why_unusable(found)
    if refusal:
        return _unusable(request, refusal)
    if request.method == "POST":
        return _answer(request, found, user)
    return _show(request, found, user)


def _answer(request: HttpRequest, found: Invitation, user: User | None) -> HttpResponse:
    here = urlencode({"next": request.path})
    if request.POST.get("action") == "switch":
        logout(request)
        return redirect(f"{reverse('login')}?{here}")
    if user is None:
        return redirect(f"{reverse('login')}?{here}")
    if not invitations.same_address(found.email, user.email):
        return _show(request, found, user)
    try:
        membership = invitations.accept(invitation=found, user=user)
    except errors.InvalidRequest as refused:
        return _unusable(request, refused.message)
    role = roles.with_article(membership.role)
    messages.success(request, f"Welcome to {membership.organization.name}. You are {role} here.")
    return _enter(request, membership)


def _already(request: HttpRequest, found: Invitation, user: User) -> HttpResponse:
    """Uses the invitation up if it is theirs, and leads to the organization."""
    usable = not invitations.why_unusable(found) and invitations.same_address(found.email, user.email)
    if request.method != "POST":
        return render(request, "accounts/invitation_already.html", {"invitation": found})
    if usable:
        invitations.accept(invitation=found, user=user)
    return _enter(request, Membership.objects.get(organization=found.organization, user=user))


def _enter(request: HttpRequest, membership: Membership) -> HttpResponse:
    access.choose_organization(membership.user, request.session, membership.organization.public_id)
    return redirect("team")


def _show(request: HttpRequest, found: Invitation, user: User | None) -> HttpResponse:
    context = {
        "invitation": found,
        "someone_else": user is not None and not invitations.same_address(found.email, user.email),
        "next": urlencode({"next": request.path, "email": found.email}),
    }
    return render(request, "accounts/invitation.html", context)


def _unusable(request: HttpRequest, why: str) -> HttpResponse:
    return render(request, "accounts/invitation_unusable.html", {"why": why}, status=404)


def _is_in(user: User, found: Invitation) -> bool:
    return Membership.objects.filter(organization=found.organization, user=user).exists()


urlpatterns = [path("invitations/<str:token>", invitation, name="invitation")]
