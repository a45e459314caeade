"""The dashboard's pages for models: what the organization's keys may call, what it costs, and how it has been doing."""

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import access
from billing import prices as price_book
from billing.models import Price
from inference import capabilities, catalogue, health_shared, model_status, model_uptime
from inference.breaker import State
from inference.health_shared import DeploymentHealth
from inference.model_uptime import Uptime
from inference.models import Capability

PAGE: Final = 50
MAX_VERSIONS: Final = 20  # of a price
NOW: Final = {
    health_shared.HEALTHY: ("Working", "success"),
    health_shared.DEGRADED: ("Degraded", "warning"),
    health_shared.UNAVAILABLE: ("Unavailable", "danger"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A model as the pages show it."""

    model: catalogue.Model
    capabilities: tuple[Capability, ...]
    price: Price | None
    uptime: Uptime
    status: str

    @property
    def now(self) -> dict[str, str]:
        label, kind = NOW[self.status]
        return {"label": label, "kind": kind}

    @property
    def chats(self) -> bool:
        return Capability.CHAT in self.capabilities

    @property
    def snippets(self) -> str:
        """Which of templates/snippets show how it is called."""
        if self.chats:
            return "chat"
        return "embedding" if Capability.EMBEDDINGS in self.capabilities else "completion"


@require_safe
@login_required
def model_list(request: HttpRequest) -> HttpResponse:
    """Filtered by words and one capability; paged by name."""
    membership = access.page_membership(request)
    offered = catalogue.current().offered_to(membership.organization_id)
    words, capability = request.GET.get("q", "").strip()[:100], request.GET.get("can", "")
    found = [model for model in offered if _matches(model, words, capability)]
    after = request.GET.get("after", "")
    rest = [model for model in found if model.name > after] if after else found
    shown, kept = rest[:PAGE], {"q": words, "can": capability}
    context = {
        "membership": membership,
        "memberships": access.memberships(membership.user),
        "rows": _rows(shown),
        "total": len(found),
        "has_models": bool(offered),
        "q": words,
        "can": capability,
        "capabilities": Capability,
        "currency": settings.CURRENCY,
        "older": urlencode(kept | {"after": shown[-1].name}) if len(rest) > PAGE else "",
        "newest": urlencode(kept) if after else "",
    }
    return render(request, "inference/models.html", context)


@require_safe
@login_required
def model_detail(request: HttpRequest, name: str) -> HttpResponse:
    """404 for a model nobody has and for one that is not offered to this organization alike."""
    membership = access.page_membership(request)
    model = catalogue.current().get(name, membership.organization_id)
    (row,) = _rows([model])
    context = {
        "membership": membership,
        "row": row,
        "model": model,
        "deployments": _deployments(model),
        "versions": list(Price.objects.filter(model=name).order_by("-starts_at")[:MAX_VERSIONS]),
        "current": row.price,
        "now": timezone.now(),
        "currency": settings.CURRENCY,
        "usage_query": urlencode({"model": name}),
    }
    return render(request, "inference/model.html", context)


def _matches(model: catalogue.Model, words: str, capability: str) -> bool:
    text = f"{model.name} {model.owned_by} {model.description}".lower()
    return all(word in text for word in words.lower().split()) and (
        not capability or capability in capabilities.of(model)
    )


def _rows(models: list[catalogue.Model]) -> list[Row]:
    prices = price_book.in_force(*(model.name for model in models)) if models else {}
    uptimes, healths = model_uptime.all_models(), model_status.known()
    return [
        Row(
            model=model,
            capabilities=capabilities.of(model),
            price=prices.get(model.name),
            uptime=uptimes.get(model.name) or model_uptime.unknown(),
            status=model_status.status(model, healths),
        )
        for model in models
    ]


def _deployments(model: catalogue.Model) -> list[dict[str, Any]]:
    """What callers are told of them anyway: their names (X-HelixFlow-Upstream), and whether they answer."""
    healths = model_status.known()
    states = [(each, healths.get(each.id, DeploymentHealth()).state) for each in model.deployments]
    return [
        {"name": each.name, "first": each.priority == model.deployments[0].priority, **_said(state)}
        for each, state in states
    ]


def _said(state: State) -> dict[str, str]:
    label, kind = NOW[health_shared.worst([state])]
    return {"label": label, "kind": kind}


urlpatterns = [
    path("dashboard/models", model_list, name="models"),
    path("dashboard/models/<path:name>", model_detail, name="model"),  # names hold slashes
]
