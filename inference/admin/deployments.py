"""Deployments in the admin: who gets how much of a model's traffic, how each is doing, and whether it answers."""

import uuid
from functools import cache, partial
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from inference import catalogue, health_shared, probing
from inference.admin import live
from inference.admin.base import CatalogueAdmin, stranded
from inference.models import Deployment, Model
from inference.providers.adapter import Operation

QUESTIONS: Final = {"words": Operation.CHAT, "embeddings": Operation.EMBEDDING}


@admin.register(Deployment)
class DeploymentAdmin(CatalogueAdmin):
    change_list_template = "admin/inference/deployment_list.html"
    change_form_template = "admin/inference/deployment_form.html"
    list_display = ("name", "model", "reached_as", "priority", "weight", "enabled")
    list_editable = ("priority", "weight", "enabled")
    list_filter = ("enabled", "provider", "provider__kind")
    list_select_related = ("model", "provider")
    search_fields = ("name", "model__name", "provider__name", "upstream_model")
    autocomplete_fields = ("model", "provider")
    actions = ("enable", "disable")
    fieldsets: ClassVar = [
        (None, {"fields": ["name", "model", "provider", "upstream_model", "enabled"]}),
        ("Its share of the traffic", {"fields": ["priority", "weight"]}),
        ("Deadlines", {"fields": ["connect_s", "first_token_s", "gap_s", "total_s"]}),
    ]

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        """With a column that reads once per page how all are doing."""
        healths = cache(health_shared.shared)
        can_change = self.has_change_permission(request)

        @admin.display(description="now")
        def now(deployment: Deployment) -> SafeString:
            return live.cell(deployment, healths().get(deployment.id.hex), can_change=can_change)

        return (self.list_display[0], now, *self.list_display[1:])

    @admin.display(description="provider", ordering="provider__name")
    def reached_as(self, deployment: Deployment) -> SafeString:
        return format_html("{}<br>{}", deployment.provider.name, deployment.upstream_model)

    def get_urls(self) -> list[URLPattern]:
        pages: list[URLPattern] = self.page_urls(test=require_POST(self.test), reset=require_POST(self.reset))
        now = path("live/", self.admin_site.admin_view(require_GET(self.now)), name="inference_deployment_live")
        return [now, *pages, *super().get_urls()]

    def models_of(self, row: Deployment) -> QuerySet[Model]:
        return Model.objects.filter(id=row.model_id)

    def test(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """Chat or embeddings: the page of the result offers the other one."""
        deployment = self.to_change(request, pk)
        asked = QUESTIONS.get(request.POST.get("ask", "")) or probing.likely_operation(deployment)
        report = probing.ask_deployment(deployment, asked)
        other = "embeddings" if asked is Operation.CHAT else "words"
        question = "a few words" if asked is Operation.CHAT else "an embedding"
        return self.report_page(request, deployment, report, question, other=other)

    def reset(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """Let requests through again at once, whatever is remembered of the deployment."""
        deployment = self.to_change(request, pk)
        if health_shared.reset(deployment.id):
            self.log_change(request, deployment, "Let requests through again.")
            self.message_user(request, f"{deployment} gets requests again within a second.", messages.SUCCESS)
        else:
            self.message_user(request, "Redis is away: each process goes by what it sees itself.", messages.ERROR)
        return redirect("admin:inference_model_change", deployment.model_id)

    def now(self, request: HttpRequest) -> HttpResponse:
        """What the pages ask for every few seconds: the cells of the deployments that they show."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        wanted = [uuid.UUID(text) for text in request.GET.getlist("live") if _is_id(text)]
        healths, can_change = health_shared.shared(), self.has_change_permission(request)
        cell = partial(live.cell, can_change=can_change, again=True)
        rows = Deployment.objects.filter(id__in=wanted).select_related("provider")
        return HttpResponse("".join(cell(row, healths.get(row.id.hex)) for row in rows))

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, chosen: QuerySet[Deployment]) -> None:
        self._switch(request, chosen, enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, chosen: QuerySet[Deployment]) -> HttpResponse | None:
        """Asks first if that would leave an enabled model without any."""
        left = Model.objects.filter(deployments__in=chosen).distinct()
        before = {model.id for model in stranded(left)}
        remaining = Deployment.objects.filter(enabled=True, provider__enabled=True).exclude(id__in=chosen)
        alone = left.filter(enabled=True).exclude(id__in=before).exclude(deployments__in=remaining)
        if alone and "confirmed" not in request.POST:
            context = {"title": "Disable deployments", "chosen": chosen, "alone": alone}
            return self.page(request, "disable_confirm.html", **context, action_checkbox_name=ACTION_CHECKBOX_NAME)
        self._switch(request, chosen, enabled=False)
        return None

    def _switch(self, request: HttpRequest, chosen: QuerySet[Deployment], *, enabled: bool) -> None:
        changed = list(chosen.exclude(enabled=enabled))
        Deployment.objects.filter(id__in=[row.id for row in changed]).update(enabled=enabled)
        catalogue.announce_change()
        word = "Enabled" if enabled else "Disabled"
        for row in changed:
            self.log_change(request, row, f"{word}.")
        self.message_user(request, f"{word}: {len(changed)}.", messages.SUCCESS)


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
