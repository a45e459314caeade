"""The profile page: one page, and one address for each form on it."""

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import services, throttles
from accounts.forms import EmailChangeForm, NameForm, PasswordChangeForm
from accounts.models import User
from helixflow.lib.errors import InvalidRequest


@login_required
@never_cache
def profile(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    form = NameForm(request.POST if request.method == "POST" else None, initial={"name": user.name})
    if form.is_valid():
        services.change_name(user=user, name=form.cleaned_data["name"])
        return _done(request, "Your name is saved.")
    return _page(request, name_form=form)


@login_required
@sensitive_post_parameters("current_password")
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def change_email(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    form = EmailChangeForm(user, request.POST or None, auto_id="email_%s")
    if form.is_valid():
        try:
            services.change_email(user=user, email=form.cleaned_data["email"])
        except InvalidRequest as refused:
            form.add_problems(refused)
        else:
            return _done(request, f"Your address is now {user.email}. Open the link we sent there to confirm it.")
    return _page(request, email_form=form)


@login_required
@sensitive_post_parameters("current_password", "password")
@never_cache
@throttles.throttled(throttles.CONFIRMATION)
def change_password(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    form = PasswordChangeForm(user, request.POST or None, auto_id="password_%s")
    if form.is_valid():
        services.change_password(user=user, password=form.cleaned_data["password"])
        update_session_auth_hash(request, user)
        return _done(request, "Your password is changed, and every other session is signed out.")
    return _page(request, password_form=form)


@login_required
@throttles.throttled(throttles.VERIFICATION)
def resend_verification(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    if request.method == "POST" and not user.is_verified:
        services.send_verification(user=user)
        messages.success(request, f"We sent a new link to {user.email}.")
    return redirect("profile")


def _page(request: HttpRequest, **forms: Form) -> HttpResponse:
    """The whole page around the one form that was sent."""
    user = _user(request)
    shown = {
        "name_form": NameForm(initial={"name": user.name}),
        "email_form": EmailChangeForm(user, auto_id="email_%s"),
        "password_form": PasswordChangeForm(user, auto_id="password_%s"),
    }
    return render(request, "accounts/profile.html", {**shown, **forms})


def _done(request: HttpRequest, message: str) -> HttpResponse:
    messages.success(request, message)
    return redirect("profile")


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: login_required saw to it
    return request.user
