"""The support desk: an organization's page in the admin site, what can be done from it, and how it is found.

It takes the place of the plain page of ``accounts.admin``, which knows nothing of plans, usage and deliveries; that one
stays behind "Edit".
"""

import uuid
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from accounts import keys
from accounts.admin import OrganizationAdmin
from accounts.models import ApiKey, Membership, Organization, User
from billing import desk, desk_actions
from helixflow.lib import errors, ids

MOST_FOUND: Final = 100  # rows that a search by words looks into
LEAST_HINT: Final = 4  # characters; fewer are in most hints
# An id as it is pasted, and the admin page of what it names. Those of an organization lead to its desk.
PAGES: Final = (
    (ids.USER, "admin:accounts_user_change"),
    (ids.REQUEST, "admin:billing_usagerecord_change"),
    (ids.COMPLETION, "admin:billing_usagerecord_change"),
    (ids.TEXT_COMPLETION, "admin:billing_usagerecord_change"),
    (ids.WEBHOOK, "admin:webhooks_endpoint_change"),
    (ids.DELIVERY, "admin:webhooks_delivery_change"),
    (ids.EVENT, "admin:webhooks_event_change"),
)
DESK: Final = "admin:accounts_organization_change"


class OrganizationDesk(OrganizationAdmin):
    search_help_text = (
        "Id of anything (org-…, key_…, req_…, chatcmpl-…, user-…, whe_…, whd_…, evt_…), an organization's name, a "
        "member's e-mail address, or a key's hint."
    )
    list_per_page = 50

    class Media:
        css = {"all": ["css/admin.css"]}  # noqa: RUF012  # Django reads it from the class

    def get_urls(self) -> list[URLPattern]:
        def view(function: Any) -> Any:
            return self.admin_site.admin_view(function)

        own = [
            path("<uuid:pk>/edit/", view(self.edit), name="accounts_organization_edit"),
            path("<uuid:pk>/act/<slug:name>/", view(self.act), name="accounts_organization_act"),
            path("<uuid:pk>/act/<slug:name>/<uuid:subject>/", view(self.act), name="accounts_organization_act_on"),
        ]
        return [*own, *super().get_urls()]

    # Finding

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """An id that names one thing leads to its page at once. A whole key doesn't stay in the address."""
        term = request.GET.get("q", "").strip()
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "GET" and (found := page_of(term)):
            return redirect(found)
        if keys.is_well_formed(term):
            return redirect(f"{request.path}?{urlencode({'q': keys.hint(term)})}")
        return super().changelist_view(request, extra_context)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Organization], search_term: str
    ) -> tuple[QuerySet[Organization], bool]:
        """Words are looked for among names, members and keys one after the other: joins would multiply the rows."""
        term = _as_hint(search_term.strip())
        if not term:
            return queryset, False
        members = Membership.objects.filter(Q(user__email__icontains=term) | Q(user__username__icontains=term))
        found = set(members.values_list("organization_id", flat=True)[:MOST_FOUND])
        if len(term) >= LEAST_HINT:
            hinted = ApiKey.objects.filter(hint__icontains=term)
            found |= set(hinted.values_list("organization_id", flat=True)[:MOST_FOUND])
        return queryset.filter(Q(name__icontains=term) | Q(id__in=found)), False

    # Looking

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST":
            return super().change_view(request, object_id, form_url, extra_context)
        organization = self._organization(request, object_id)
        shown = desk.of(organization)
        operator = _operator(request)
        context = self._context(request, organization) | {
            "desk": shown,
            "may": {name: desk_actions.may(act, operator) for name, act in desk_actions.ACTS.items()},
            "has_change_permission": self.has_change_permission(request, organization),
        }
        return TemplateResponse(request, "admin/billing/desk.html", context)

    def edit(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """Django's own form."""
        return super().change_view(request, str(pk))

    # Acting

    def act(self, request: HttpRequest, pk: uuid.UUID, name: str, subject: uuid.UUID | None = None) -> HttpResponse:
        """The form of one of ``desk_actions.ACTS``, and what it does."""
        organization = self._organization(request, str(pk))
        act = desk_actions.ACTS.get(name)
        if act is None or bool(act.of) != bool(subject):
            raise Http404
        about = desk_actions.subject(act, organization, str(subject)) if subject else None
        if subject and about is None:
            raise Http404
        operator = _operator(request)
        if not desk_actions.may(act, operator, about):
            raise PermissionDenied
        case = desk_actions.Case(request, operator, organization, about)
        initial = act.initial(case) if act.initial else None
        form = act.form(request.POST if request.method == "POST" else None, initial=initial)
        if request.method == "POST" and form.is_valid():
            try:
                said = act.run(case, **form.cleaned_data)
            except errors.HelixError as refused:
                form.add_error(None, refused.message)
            else:
                self.log_change(request, organization, f"{act.title}: {said}")
                self.message_user(request, said, messages.SUCCESS)
                return redirect(act.leads_to or reverse(DESK, args=[organization.id]))
        context = self._context(request, organization) | {"act": act, "form": form, "about": about}
        return TemplateResponse(request, "admin/billing/act.html", context)

    def _organization(self, request: HttpRequest, pk: str) -> Organization:
        found = self.get_object(request, pk)
        if found is None:
            raise Http404
        if not self.has_view_or_change_permission(request, found):
            raise PermissionDenied
        return found  # type: ignore[no-any-return]  # the admin's classes have no type of row

    def _context(self, request: HttpRequest, organization: Organization) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": organization,
            "media": self.media,
        }


def page_of(term: str) -> str:
    """The address of the page of what the id ``term`` names; empty if it names nothing that is there."""
    found = _organization_of(term)
    if found is not None:
        return reverse(DESK, args=[found])
    for prefix, page in PAGES:
        try:
            return reverse(page, args=[ids.parse_public_id(prefix, term)])
        except ValueError:
            continue
    return ""


def _as_hint(term: str) -> str:
    """With the one character that a hint has, where people type three dots."""
    return term.replace("...", "…") if term.startswith(keys.PREFIX) else term


def _organization_of(term: str) -> uuid.UUID | None:
    for prefix, rows, column in (
        (ids.ORGANIZATION, Organization.objects.all(), "id"),
        (ids.API_KEY, ApiKey.objects.all(), "organization_id"),
    ):
        try:
            return rows.filter(id=ids.parse_public_id(prefix, term)).values_list(column, flat=True).first()
        except ValueError:
            continue
    return None


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: the admin knows no strangers
    return request.user


admin.site.unregister(Organization)
admin.site.register(Organization, OrganizationDesk)
