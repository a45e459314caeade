"""The site's own pages: landing, support."""

from datetime import timedelta

from django.conf import settings
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from billing.models import Plan
from helixflow.lib import ids


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    return render(request, "site/landing.html", {"plans": _plans(), "example_model": settings.EXAMPLE_MODEL})


@require_safe
def support(request: HttpRequest) -> HttpResponse:
    """``?request=req_…`` is what the mail will be about. It isn't looked up: the page tells nobody whose it is."""
    about = _request_id(request.GET.get("request", ""))
    mail_to = f"mailto:{settings.SUPPORT_EMAIL}" + (f"?subject=Request%20{about}" if about else "")
    return render(request, "site/support.html", {"about": about, "mail_to": mail_to})


@require_safe
@cache_control(public=True, max_age=3600)
def manifest(request: HttpRequest) -> HttpResponse:
    icons = [
        {"src": static("img/favicon.svg"), "sizes": "any", "type": "image/svg+xml"},
        {"src": static("img/touch-icon.png"), "sizes": "180x180", "type": "image/png"},
    ]
    about = {"name": "HelixFlow", "short_name": "HelixFlow", "start_url": "/dashboard", "display": "standalone"}
    colours = {"background_color": "#12141c", "theme_color": "#12141c"}
    return JsonResponse(about | colours | {"icons": icons}, content_type="application/manifest+json")


@require_safe
@cache_control(public=True, max_age=3600)
def favicon(request: HttpRequest) -> HttpResponse:
    """For pages without a link to one: the admin, JSON."""
    return redirect(static("img/favicon.svg"))


@require_safe
@cache_control(public=True, max_age=3600)
def robots(request: HttpRequest) -> HttpResponse:
    return render(request, "site/robots.txt", content_type="text/plain; charset=utf-8")


@require_safe
@cache_control(public=True, max_age=3600)
def security(request: HttpRequest) -> HttpResponse:
    """RFC 9116. It must name an end; a page that is served is a page that is kept up."""
    ends_at = timezone.now().replace(microsecond=0) + timedelta(days=90)
    return render(request, "site/security.txt", {"ends_at": ends_at}, content_type="text/plain; charset=utf-8")


def _request_id(text: str) -> str:
    try:
        ids.parse_public_id(ids.REQUEST, text)
    except ValueError:
        return ""
    return text


def _plans() -> QuerySet[Plan]:
    """Smallest first; those that are set per organization last."""
    return Plan.objects.order_by(F("requests_per_month").asc(nulls_last=True))
