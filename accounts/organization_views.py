"""Which of a user's several organizations the dashboard shows."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST

from accounts import access

PAGES = {"api-keys", "plan"}  # that offer the choice


@login_required
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    access.choose_organization(access.page_user(request), request.session, request.POST.get("organization", ""))
    page = request.POST.get("page")
    return redirect(page if page in PAGES else "api-keys")


urlpatterns = [
    path("dashboard/organization", choose, name="choose-organization"),
]
