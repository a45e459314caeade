"""Signing up, in and out, and forgotten passwords. The second step of a login: ``accounts.two_factor_views``."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import audit, half_logins, impersonation, services, throttles, two_factor, verification
from accounts.forms import ForgottenPasswordForm, LoginForm, NewPasswordForm, SignupForm
from accounts.models import User
from helixflow.lib import ids
from helixflow.lib.errors import AuthorizationFailed, InvalidRequest


@sensitive_post_parameters("password")
@never_cache
@throttles.throttled(throttles.REGISTRATION)
def sign_up(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(next_page(request))
    # An invitation's page names the address that it is for.
    initial = {"email": request.GET.get("email", "")}
    form = SignupForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_valid():
        email = form.cleaned_data["email"]
        try:
            user = services.register(username=email, email=email, password=form.cleaned_data["password"])
        except InvalidRequest as refused:
            form.add_problems(refused)
        else:
            login(request, user, backend=half_logins.BACKEND)
            messages.success(request, f"Welcome. We sent a link to {user.email}: open it to confirm the address.")
            return redirect(next_page(request))
    return render(request, "accounts/signup.html", {"form": form, "next": request.GET.get("next", "")})


@sensitive_post_parameters("password")
@never_cache
@throttles.throttled(throttles.LOGIN)
def log_in(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(next_page(request))
    form = LoginForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        user = authenticate(request, **form.cleaned_data)
        if isinstance(user, User):
            return _go_on(request, user)
        form.add_error(None, "Wrong e-mail address, username or password.")
    return render(request, "accounts/login.html", {"form": form, "next": request.GET.get("next", "")})


def admin_log_in(request: HttpRequest) -> HttpResponse:
    """The admin site's login is this one: throttled, and with the second step where that is on."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise AuthorizationFailed("The admin site is for staff. Log out, and log in with an account of theirs.")
    return redirect_to_login(next_page(request, default="/admin/"))


def _go_on(request: HttpRequest, user: User) -> HttpResponse:
    """The password was right."""
    leads_to = next_page(request)
    if two_factor.is_on(user):
        half_logins.begin(request, user)
        return redirect_to_login(leads_to, reverse("login-code"))
    login(request, user)
    audit.record("login.succeeded", user=user, summary="logged in")
    return redirect(leads_to)


@never_cache
def log_out(request: HttpRequest) -> HttpResponse:
    """A GET asks, so that no other site's picture or link logs anybody out."""
    if request.method == "POST":
        if (viewing := impersonation.current(request)) is not None:
            impersonation.end(session=request.session, viewing=viewing)
        logout(request)
        return redirect(settings.LOGOUT_REDIRECT_URL)
    return render(request, "accounts/logout.html") if request.user.is_authenticated else redirect("login")


@never_cache
def verify_email(request: HttpRequest, token: str) -> HttpResponse:
    """A GET only asks: programs that open the links in mails must not confirm anything."""
    found = verification.read_token(token)
    if found is None or found[0].email != found[1]:
        return render(request, "accounts/verify_email_invalid.html", status=404)
    user, email = found
    if request.method == "POST" and services.verify_email(user=user, email=email):
        messages.success(request, f"{email} is confirmed.")
        return redirect(settings.LOGIN_REDIRECT_URL if request.user.is_authenticated else "login")
    return render(request, "accounts/verify_email.html", {"email": email, "is_verified": user.is_verified})


@never_cache
@throttles.throttled(throttles.PASSWORD_RESET)
def forgotten_password(request: HttpRequest) -> HttpResponse:
    """The same words and the same work whether or not the address has an account."""
    form = ForgottenPasswordForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        services.request_password_reset(email=form.cleaned_data["email"])
        return redirect("password-forgotten-sent")
    return render(request, "accounts/password_forgotten.html", {"form": form})


def forgotten_password_sent(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/password_forgotten_sent.html", {"minutes": settings.PASSWORD_RESET_TIMEOUT // 60})


@sensitive_post_parameters("password")
@never_cache
def reset_password(request: HttpRequest, user_id: str, token: str) -> HttpResponse:
    user = _user_of(user_id)
    if user is None or not default_token_generator.check_token(user, token):
        return render(request, "accounts/password_reset_invalid.html", status=404)
    form = NewPasswordForm(user, request.POST if request.method == "POST" else None)
    if form.is_valid():
        services.reset_password(user=user, password=form.cleaned_data["password"])
        messages.success(request, "Your password is set. Log in with it.")
        return redirect("login")
    return render(request, "accounts/password_reset.html", {"form": form, "user_email": user.email})


def _user_of(public_id: str) -> User | None:
    try:
        return User.objects.filter(id=ids.parse_public_id(ids.USER, public_id), is_active=True).first()
    except ValueError:
        return None


def next_page(request: HttpRequest, default: str = settings.LOGIN_REDIRECT_URL) -> str:
    """Where ``?next=`` leads, if that is a path of this site. (``redirect`` takes other text for a view's name.)"""
    target = request.POST.get("next") or request.GET.get("next", "")
    if target.startswith("/") and url_has_allowed_host_and_scheme(target, None):
        return target
    return default
