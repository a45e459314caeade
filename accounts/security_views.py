"""The security page: the second factor, open sessions, and what happened to the account lately."""

from typing import Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import audit_log, open_sessions, throttles, two_factor, web_sessions
from accounts.access import page_user
from accounts.two_factor_forms import RecentForm
from helixflow.lib import errors

ACTIVITY: Final = 20  # events shown
FEW_CODES: Final = 3  # left, or fewer: time for new ones

form_view = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_safe
@never_cache
def security(request: HttpRequest) -> HttpResponse:
    return _page(request)


@login_required
@sensitive_post_parameters("current_password")
@form_view
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def end_others(request: HttpRequest) -> HttpResponse:
    user = page_user(request)
    is_recent = web_sessions.is_recent(request.session)
    form = RecentForm(user, request.POST if request.method == "POST" else None, is_recent=is_recent)
    if form.is_valid():
        ended = open_sessions.end_others(user=user, current_key=request.session.session_key)
        sessions = "1 session is" if ended == 1 else f"{ended} sessions are"
        messages.success(request, f"{sessions} ended." if ended else "There was no other session.")
        return redirect("security")
    return _page(request, form)


@login_required
@form_view
@never_cache
def end_session(request: HttpRequest, handle: str) -> HttpResponse:
    """By POST. Who comes back here from the login page sees the list."""
    if request.method == "POST":
        try:
            ended = open_sessions.end(user=page_user(request), handle=handle)
        except errors.NotFound as gone:
            messages.info(request, gone.message)
        else:
            messages.success(request, f"{ended.device} is signed out.")
    return redirect("security")


def _page(request: HttpRequest, form: RecentForm | None = None) -> HttpResponse:
    user = page_user(request)
    shown = open_sessions.listed(user, request.session.session_key)
    row = two_factor.of(user)
    is_on = row is not None and row.confirmed_at is not None
    left = two_factor.codes_left(user) if is_on else 0
    context = {
        "two_factor": row if is_on else None,
        "codes_left": left,
        "few_codes": left <= FEW_CODES,
        "sessions": shown,
        "hidden_sessions": open_sessions.count(user) - len(shown),
        "end_others_form": form or RecentForm(user, is_recent=web_sessions.is_recent(request.session)),
        "activity": audit_log.of_account(user)[:ACTIVITY],
    }
    return render(request, "accounts/security/page.html", context)


urlpatterns = [
    path("dashboard/security", security, name="security"),
    path("dashboard/security/sessions/end-others", end_others, name="sessions-end-others"),
    path("dashboard/security/sessions/<str:handle>/end", end_session, name="session-end"),
]
