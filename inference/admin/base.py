"""What the pages of the catalogue share. Each change reaches every web process within a second."""

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from inference import catalogue
from inference.models import Deployment, Model, Provider
from inference.probing import Report


class CatalogueAdmin(admin.ModelAdmin):  # the stubs' generic is not subscriptable at run time
    class Media:
        css = {"all": ["css/admin.css"]}  # noqa: RUF012  # Django reads it from the class

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The last step of every save: of a page, of its inlines, of the list."""
        super().save_related(request, form, formsets, change)
        catalogue.announce_change()
        if change:
            self.warn_of(request, stranded(self.models_of(form.instance)))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        catalogue.announce_change()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        catalogue.announce_change()

    def models_of(self, row: Any) -> QuerySet[Model]:
        """The models that a change of this row can leave without a deployment."""
        raise NotImplementedError

    def warn_of(self, request: HttpRequest, models: Iterable[Model]) -> None:
        names = ", ".join(model.name for model in models)
        if names:
            text = f"No enabled deployment of an enabled provider answers for: {names}. Callers get 404 for it."
            self.message_user(request, text, messages.WARNING)

    def page_urls(self, **views: Callable[..., HttpResponse]) -> list[URLPattern]:
        """A page beside each row's change page, by the view's name."""
        return [
            path(
                f"<uuid:pk>/{name}/", self.admin_site.admin_view(view), name=f"inference_{self.opts.model_name}_{name}"
            )
            for name, view in views.items()
        ]

    def to_change(self, request: HttpRequest, pk: uuid.UUID) -> Any:
        """The row, for those who may change it. Raises Http404 and PermissionDenied."""
        row = self.get_object(request, str(pk))
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404
        return row

    def page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        shared = self.admin_site.each_context(request) | {"opts": self.opts, "media": self.media}
        return TemplateResponse(request, f"admin/inference/{template}", shared | context)

    def report_page(
        self, request: HttpRequest, row: Any, report: Report, question: str, **context: Any
    ) -> TemplateResponse:
        outcome = f"answered in {report.total_ms} ms" if report.ok else f"failed: {report.error}"
        self.log_change(request, row, f"Tested: {outcome}"[:500])
        title = f"{row}: {'it works' if report.ok else 'it failed'}"
        return self.page(request, "report.html", title=title, original=row, report=report, question=question, **context)


def enabled_deployments() -> Count:
    return Count("deployments", filter=Q(deployments__enabled=True), distinct=True)


def stranded(models: QuerySet[Model]) -> QuerySet[Model]:
    """Those of them that are enabled and that nothing answers for."""
    answering = Deployment.objects.filter(model=OuterRef("pk"), enabled=True, provider__enabled=True)
    return models.filter(~Exists(answering), enabled=True)


def models_of_provider(provider: Provider) -> QuerySet[Model]:
    return Model.objects.filter(deployments__provider=provider).distinct()
