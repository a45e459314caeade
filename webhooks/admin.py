"""Webhooks in the admin: where events go, how that went, and what support does about it. Secrets are not shown.

URLs are shown without their query, where receivers keep tokens.
"""

import uuid
from collections.abc import Callable
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from accounts.models import User
from helixflow.lib import errors, ids
from helixflow.lib.admin import ReadOnlyAdmin, parsed
from webhooks import deliveries, delivery_words, endpoints
from webhooks.mails import without_query
from webhooks.models import Attempt, Delivery, Endpoint, Event

MOST_FOUND: Final = 100  # endpoints that a search of deliveries by words looks into
SHOWN: Final = 500  # characters of an answer
LISTED: Final = 120  # characters of a URL, which may have 2,000
FIGURES: Final = "figures"  # where the list of endpoints keeps each row's


def shortened(endpoint: Endpoint) -> str:
    """Its URL, for a line of a list."""
    return str(Truncator(without_query(endpoint.url)).chars(LISTED))


def staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  # for the type checker: the admin knows no strangers
    return request.user


class Where(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("enabled", "enabled"),
            ("platform", "disabled by the platform"),
            ("hand", "disabled by hand"),
            ("failing", "enabled, but failing"),
            ("deleted", "deleted"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Endpoint]) -> QuerySet[Endpoint]:
        match self.value():
            case "enabled":
                return queryset.filter(deleted_at=None, disabled_at=None)
            case "platform":
                return queryset.filter(deleted_at=None, disabled_reason__in=("gone", "failing"))
            case "hand":
                return queryset.filter(deleted_at=None, disabled_reason="manual")
            case "failing":
                return queryset.filter(deleted_at=None, disabled_at=None).exclude(failing_since=None)
            case "deleted":
                return queryset.exclude(deleted_at=None)
        return queryset


@admin.register(Endpoint)
class EndpointAdmin(admin.ModelAdmin):
    list_display = ("short_address", "organization", "state", "last_day", "created_at")
    list_filter = (Where,)
    list_select_related = ("organization",)
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("url", "description", "organization__name")
    search_help_text = "URL, description, id (whe_…), organization or its id (org-…)."
    ordering = ("-id",)
    sortable_by = ("organization", "created_at")
    fields: ClassVar = [
        *("public_id", "address", "description", "organization"),
        *("events", "api_keys", "model_names"),
        *("state", "disabled_at", "owner_told_at", "failing_since", "rotation_ends_at"),
        *("last_day", "its_deliveries"),
        *("created_by", "created_at", "deleted_at"),
    ]
    actions = ("enable", "disable", "finish_rotation")

    class Media:
        css = {"all": ["css/admin.css"]}  # noqa: RUF012  # Django reads it from the class

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Endpoint | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Endpoint | None = None) -> bool:
        return False  # deliveries name it; its organization deletes it, and retention forgets it

    def has_manage_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("webhooks.change_endpoint")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Endpoint], search_term: str
    ) -> tuple[QuerySet[Endpoint], bool]:
        found = parsed(search_term, (ids.WEBHOOK, "id"), (ids.ORGANIZATION, "organization_id"))
        if found is not None:
            return queryset.filter(found), False
        return super().get_search_results(request, queryset, search_term)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """With the figures of the page's rows, which are one statement."""
        page: ChangeList = super().get_changelist_instance(request)
        rows = list(page.result_list)
        figures = deliveries.statistics([row.id for row in rows])
        for row in rows:
            setattr(row, FIGURES, figures[row.id])
        page.result_list = rows
        return page

    @admin.display(description="URL")
    def short_address(self, endpoint: Endpoint) -> str:
        return shortened(endpoint)

    @admin.display(description="URL")
    def address(self, endpoint: Endpoint) -> str:
        return without_query(endpoint.url)

    @admin.display(description="status")
    def state(self, endpoint: Endpoint) -> str:
        if endpoint.deleted_at is not None:
            return "deleted"
        if not endpoint.is_enabled:
            return endpoint.get_disabled_reason_display() or "disabled"
        return "enabled, but failing" if endpoint.failing_since else "enabled"

    @admin.display(description="last 24 hours")
    def last_day(self, endpoint: Endpoint) -> SafeString:
        """The list has read the figures of all its rows."""
        known: deliveries.EndpointStatistics | None = getattr(endpoint, FIGURES, None)
        return _told(known or deliveries.statistics([endpoint.id])[endpoint.id])

    @admin.display(description="deliveries")
    def its_deliveries(self, endpoint: Endpoint) -> SafeString:
        return _deliveries_link(endpoint.public_id)

    @admin.display(description="only of API keys")
    def api_keys(self, endpoint: Endpoint) -> str:
        return ", ".join(ids.public_id(ids.API_KEY, key) for key in endpoint.api_key_ids or ()) or "–"

    @admin.action(description="Enable: what waits is sent", permissions=["manage"])
    def enable(self, request: HttpRequest, chosen: QuerySet[Endpoint]) -> None:
        self._each(request, chosen.exclude(disabled_at=None), endpoints.enable, "Enabled")

    @admin.action(description="Disable: what is pending waits, new events pass it by", permissions=["manage"])
    def disable(self, request: HttpRequest, chosen: QuerySet[Endpoint]) -> None:
        self._each(request, chosen.filter(disabled_at=None), endpoints.disable, "Disabled")

    @admin.action(description="Finish rotation: sign with the new secret alone", permissions=["manage"])
    def finish_rotation(self, request: HttpRequest, chosen: QuerySet[Endpoint]) -> None:
        rotating = chosen.exclude(rotation_ends_at=None)
        self._each(request, rotating, endpoints.finish_rotation, "Finished the rotation of the secret")

    def _each(self, request: HttpRequest, chosen: QuerySet[Endpoint], verb: Callable[..., Endpoint], said: str) -> None:
        done = 0
        for endpoint in chosen.filter(deleted_at=None):
            try:
                changed = verb(endpoint=endpoint, user=staff(request))
            except errors.NotFound:  # deleted a moment ago
                continue
            self.log_change(request, changed, f"{said}.")
            done += 1
        self.message_user(request, f"{said}: {done}.", messages.SUCCESS if done else messages.WARNING)


class AttemptInline(admin.StackedInline):
    model = Attempt
    fk_name = "delivery"
    ordering = ("-id",)
    fields = (("outcome", "took"), ("address", "next_attempt_at"), "error", "answer")
    readonly_fields = ("outcome", "took", "address", "next_attempt_at", "error", "answer")
    extra = 0
    can_delete = False
    verbose_name_plural = "attempts, newest first"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are part of their delivery: who may look at it sees them."""
        return request.user.has_perm("webhooks.view_delivery") or request.user.has_perm("webhooks.change_delivery")

    @admin.display(description="result")
    def outcome(self, attempt: Attempt) -> str:
        return delivery_words.result(attempt)

    @admin.display(description="took")
    def took(self, attempt: Attempt) -> str:
        return delivery_words.duration(attempt.duration_ms)

    @admin.display(description="answer")
    def answer(self, attempt: Attempt) -> str:
        """Its beginning, with nothing in it that hides or turns text."""
        said = delivery_words.visible(attempt.response_body[:SHOWN])
        return f"{said} …" if len(attempt.response_body) > SHOWN else said or "–"


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    change_form_template = "admin/webhooks/delivery_form.html"
    list_display = ("public_id", "recipient", "state", "attempt_count", "result", "created_at")
    list_filter = ("state", "test")
    list_select_related = ("event", "endpoint", "organization")
    search_fields = ("endpoint__url",)
    search_help_text = "Id (whd_…, evt_…, whe_…, org-…), or words of an endpoint's URL or an organization's name."
    fields: ClassVar = [
        *("public_id", "its_event", "event_type", "its_endpoint", "organization", "test"),
        *("state", "attempt_count", "step", "next_attempt_at", "leased_until", "result"),
        *("created_at", "ended_at"),
    ]
    inlines = (AttemptInline,)

    class Media:
        css = {"all": ["css/admin.css"]}  # noqa: RUF012  # Django reads it from the class

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Delivery], search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        """Words are looked for among the endpoints, which are few, and never among deliveries."""
        term = search_term.strip()
        columns = ((ids.EVENT, "event_id"), (ids.WEBHOOK, "endpoint_id"), (ids.ORGANIZATION, "organization_id"))
        found = parsed(term, (ids.DELIVERY, "id"), *columns)
        if found is None and term:
            named = Endpoint.objects.filter(Q(url__icontains=term) | Q(organization__name__icontains=term))
            found = Q(endpoint_id__in=list(named.order_by("-id").values_list("id", flat=True)[:MOST_FOUND]))
        return (queryset.filter(found) if found is not None else queryset), False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.resend))
        again = path("<uuid:pk>/resend/", view, name="webhooks_delivery_resend")
        return [again, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = (extra_context or {}) | {"may_resend": self.may_resend(request)}
        return super().change_view(request, object_id, form_url, context)

    def may_resend(self, request: HttpRequest) -> bool:
        return request.user.has_perm("webhooks.change_delivery")

    def resend(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        if not self.may_resend(request):
            raise PermissionDenied
        delivery = self.get_object(request, str(pk))
        if delivery is None:
            raise Http404
        try:
            deliveries.resend(delivery=delivery, user=staff(request))
        except errors.InvalidRequest as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.log_change(request, delivery, "Sent again.")
            self.message_user(request, "It is sent again, under the same event id.", messages.SUCCESS)
        return redirect("admin:webhooks_delivery_change", pk)

    @admin.display(description="event")
    def event_type(self, delivery: Delivery) -> str:
        return delivery.event.type

    @admin.display(description="what, and whom it is told")
    def recipient(self, delivery: Delivery) -> SafeString:
        to = (delivery.event.type, delivery.organization, shortened(delivery.endpoint))
        return format_html("{} to {}<br>{}", *to)

    @admin.display(description="last result")
    def result(self, delivery: Delivery) -> str:
        return delivery_words.last_result(delivery) or "–"

    @admin.display(description="event id")
    def its_event(self, delivery: Delivery) -> SafeString:
        url = reverse("admin:webhooks_event_change", args=[delivery.event_id])
        return format_html('<a href="{}">{}</a>', url, delivery.event.public_id)

    @admin.display(description="endpoint")
    def its_endpoint(self, delivery: Delivery) -> SafeString:
        url = reverse("admin:webhooks_endpoint_change", args=[delivery.endpoint_id])
        return format_html('<a href="{}">{}</a>', url, shortened(delivery.endpoint))


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "type", "organization", "created_at")
    list_filter = ("type",)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "dedupe_key")
    search_help_text = "Id (evt_…), organization or its id (org-…), or dedupe key."
    fields: ClassVar = ["public_id", "type", "organization", "data", "dedupe_key", "its_deliveries", "created_at"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        found = parsed(search_term, (ids.EVENT, "id"), (ids.ORGANIZATION, "organization_id"))
        if found is not None:
            return queryset.filter(found), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="deliveries")
    def its_deliveries(self, event: Event) -> SafeString:
        return _deliveries_link(event.public_id)


def _told(figures: deliveries.EndpointStatistics) -> SafeString:
    lines = [f"{figures.pending:,} waiting now"]
    if figures.success_rate is not None:
        lines.insert(
            0, f"{figures.succeeded:,} of {figures.attempts:,} attempts succeeded ({figures.success_rate:.1%})"
        )
    if figures.p50_ms is not None and figures.p95_ms is not None:
        p50, p95 = delivery_words.duration(figures.p50_ms), delivery_words.duration(figures.p95_ms)
        lines.insert(1, f"p50 {p50}, p95 {p95}")
    return format_html_join(mark_safe("<br>"), "{}", ([line] for line in lines))


def _deliveries_link(public_id: str) -> SafeString:
    return format_html('<a href="{}?q={}">Show them</a>', reverse("admin:webhooks_delivery_changelist"), public_id)
