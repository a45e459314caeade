"""The second step of a login, and the pages that turn it on and off. Recovery codes are rendered once."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts import audit, half_logins, throttles, two_factor, web_sessions
from accounts.access import page_user
from accounts.models import User
from accounts.two_factor_forms import LoginCodeForm, ProveForm, RecentForm, SetUpForm
from accounts.views import next_page
from helixflow.lib.errors import AuthenticationFailed, InvalidRequest, RateLimitExceeded

FEW: int = 3  # recovery codes left, or fewer: time for new ones

form_view = require_http_methods(["GET", "HEAD", "POST"])


@sensitive_post_parameters("code")
@form_view
@never_cache
@throttles.throttled(throttles.SECOND_STEP)
def log_in_code(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(next_page(request))
    user = half_logins.user_of(request.session)
    if user is None:
        if half_logins.KEY in request.session:
            half_logins.forget(request.session)
            messages.info(request, "That took too long. Log in again.")
        return redirect_to_login(next_page(request))
    form = LoginCodeForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            proof = two_factor.prove(user=user, code=form.cleaned_data["code"])
        except (AuthenticationFailed, RateLimitExceeded) as problem:
            form.refuse(problem)
        else:
            half_logins.finish(request, user)
            audit.record("login.succeeded", user=user, summary=f"logged in with {proof}")
            if proof == two_factor.Proof.RECOVERY_CODE:
                _say_how_many_are_left(request, user)
            return redirect(next_page(request))
    return render(request, "accounts/login_code.html", {"form": form, "next": request.GET.get("next", "")})


@login_required
@sensitive_post_parameters("current_password")
@form_view
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def begin(request: HttpRequest) -> HttpResponse:
    """A POST makes a new secret each time: one that somebody saw before confirms nothing."""
    user = page_user(request)
    is_recent = web_sessions.is_recent(request.session)
    form = RecentForm(user, request.POST if request.method == "POST" else None, is_recent=is_recent)
    if form.is_valid():
        try:
            two_factor.begin(user=user)
        except InvalidRequest as refused:
            messages.info(request, refused.message)
            return redirect("security")
        return redirect("two-factor-confirm")
    return render(request, "accounts/security/begin.html", {"form": form, "is_on": two_factor.is_on(user)})


@login_required
@sensitive_post_parameters("code")
@sensitive_variables("codes", "secret")
@form_view
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def confirm(request: HttpRequest) -> HttpResponse:
    user = page_user(request)
    row = two_factor.of(user)
    if row is None or row.confirmed_at is not None or timezone.now() - row.created_at > two_factor.SET_UP_WITHIN:
        return redirect("security")
    form = SetUpForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            codes = two_factor.turn_on(user=user, code=form.cleaned_data["code"])
        except InvalidRequest as refused:
            form.refuse(refused)
        else:
            return _codes_page(request, codes, is_new=True)
    secret = two_factor.secret_of(row)
    context = {
        "form": form,
        "secret": secret,
        "spaced_secret": " ".join(secret[start : start + 4] for start in range(0, len(secret), 4)),
        "qr_code": SafeString(two_factor.qr_code(row)),  # segno's: numbers and letters of its own making
    }
    return render(request, "accounts/security/confirm.html", context)


@login_required
@sensitive_post_parameters("current_password", "code")
@form_view
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def new_codes(request: HttpRequest) -> HttpResponse:
    user = page_user(request)
    if not two_factor.is_on(user):
        return redirect("security")
    form = ProveForm(user, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            codes = two_factor.new_codes(user=user, code=form.cleaned_data["code"])
        except (AuthenticationFailed, InvalidRequest, RateLimitExceeded) as refused:
            form.refuse(refused)
        else:
            return _codes_page(request, codes, is_new=False)
    return render(request, "accounts/security/new_codes.html", {"form": form})


@login_required
@sensitive_post_parameters("current_password", "code")
@form_view
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def turn_off(request: HttpRequest) -> HttpResponse:
    user = page_user(request)
    if not two_factor.is_on(user):
        return redirect("security")
    form = ProveForm(user, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            two_factor.turn_off(user=user, code=form.cleaned_data["code"])
        except (AuthenticationFailed, RateLimitExceeded) as refused:
            form.refuse(refused)
        else:
            messages.success(request, "Two-factor authentication is off.")
            return redirect("security")
    return render(request, "accounts/security/turn_off.html", {"form": form})


def _codes_page(request: HttpRequest, codes: list[str], *, is_new: bool) -> HttpResponse:
    text = "\n".join(["Recovery codes of HelixFlow", page_user(request).email, "Each works once.", "", *codes, ""])
    return render(request, "accounts/security/codes.html", {"codes": codes, "text": text, "is_new": is_new})


def _say_how_many_are_left(request: HttpRequest, user: User) -> None:
    left = two_factor.codes_left(user)
    text = f"You used a recovery code, and have {left} left."
    if left <= FEW:
        messages.warning(request, f"{text} Make new ones on the security page.")
    else:
        messages.info(request, text)


urlpatterns = [
    path("login/code", log_in_code, name="login-code"),
    path("dashboard/security/two-factor", begin, name="two-factor"),
    path("dashboard/security/two-factor/confirm", confirm, name="two-factor-confirm"),
    path("dashboard/security/two-factor/codes", new_codes, name="two-factor-codes"),
    path("dashboard/security/two-factor/off", turn_off, name="two-factor-off"),
]
