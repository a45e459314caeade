"""``/docs``: the guides, the API reference, their search, and ``/v1/openapi.json``.

What anybody reads takes no query but that of the plans; who is signed in is greeted with their own key's beginning.
"""

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import path, re_path
from django.utils.cache import get_conditional_response
from django.utils.safestring import mark_safe
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from accounts import access, roles
from accounts.models import ApiKey, Role, User
from billing.models import Plan
from helixflow.lib import errors
from helixflow.site import doc_search, docs, error_guide
from helixflow.site.openapi import document, reference


@dataclass(frozen=True)
class Reader:
    """Who is signed in: the organization they look at, and the beginning of its newest usable key, if it has one."""

    organization: str
    key_prefix: str | None


def _plans() -> dict[str, Any]:
    return {"plans": Plan.objects.order_by(F("requests_per_month").asc(nulls_last=True))}


def _errors() -> dict[str, Any]:
    return {"errors": error_guide.ROWS}


def _environment() -> dict[str, Any]:
    return {"environment": docs.environment()}


def _roles() -> dict[str, Any]:
    order = (Role.MEMBER, Role.ADMIN, Role.OWNER)
    return {"roles": [{"label": row.label, "may": [role in row.roles for role in order]} for row in roles.TABLE]}


# What some pages show besides their words.
OF_PAGE: Final = {"limits": _plans, "errors": _errors, "self-hosting": _environment, "accounts": _roles}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "site/docs/index.html", _common(request) | {"outline": docs.outline()})


@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    found = docs.BY_SLUG.get(slug)
    if found is None:
        raise Http404
    known = _common(request)
    known |= OF_PAGE.get(slug, dict)()
    body = render_to_string(docs.page_template(found), known, request)
    before, after = docs.around(found)
    known |= {"page": found, "body": mark_safe(body), "headings": docs.headings(body)}  # noqa: S308  # a template's
    return render(request, "site/docs/page.html", known | {"before": before, "after": after})


@require_safe
def api(request: HttpRequest) -> HttpResponse:
    """The reference's front: what holds for every call, and all of them in a list."""
    known = _common(request) | _errors()
    body = render_to_string("site/docs/api_common.html", known, request)
    known |= {"body": mark_safe(body), "headings": docs.headings(body)}  # noqa: S308  # a template's
    return render(request, "site/docs/api.html", known)


@require_safe
def chapter(request: HttpRequest, slug: str) -> HttpResponse:
    found = reference.chapter(slug)
    if found is None:
        raise Http404
    return render(request, "site/docs/chapter.html", _common(request) | {"chapter": found})


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """For those without JavaScript, and for links to a search."""
    text = request.GET.get("q", "")[:100].strip()
    known = _common(request) | {"q": text, "found": doc_search.search(text)}
    return render(request, "site/docs/search.html", known)


@require_safe
@cache_control(public=True, max_age=300)
def search_index(request: HttpRequest) -> HttpResponse:
    """What static/js/docs.js looks through: title, where it stands, address, words."""
    return JsonResponse([list(entry) for entry in doc_search.entries()], safe=False)


@require_safe
@cache_control(public=True, max_age=300)
def openapi(request: HttpRequest) -> HttpResponse:
    content, etag = document.encoded()
    answer = HttpResponse(content, content_type="application/json", headers={"ETag": etag})
    kept = get_conditional_response(request, etag=etag, response=answer)
    if isinstance(kept, HttpResponseNotModified):
        kept["Cache-Control"] = "public, max-age=300"
    return kept or answer


def _common(request: HttpRequest) -> dict[str, Any]:
    return {"groups": docs.GROUPS, "chapters": reference.chapters(), "reader": _reader(request)}


def _reader(request: HttpRequest) -> Reader | None:
    """Without a session's cookie nothing is looked up."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or not isinstance(request.user, User):
        return None
    try:
        organization = access.session_membership(request.user, request.session).organization
    except errors.AuthorizationFailed:  # they are in none
        return None
    key = ApiKey.objects.of(organization).usable().order_by("-id").first()
    return Reader(organization.name, f"{key.hint.partition('…')[0]}…" if key else None)


urlpatterns = [
    path("docs", index, name="docs"),
    path("docs/search", search),
    path("docs/search.json", search_index),
    path("docs/api", api, name="docs-api"),
    path("docs/api/<slug:slug>", chapter, name="docs-api-chapter"),
    path("docs/<slug:slug>", page, name="docs-page"),
    re_path(r"^v1/openapi\.json/?$", openapi, name="openapi"),
]
