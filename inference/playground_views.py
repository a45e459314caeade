"""The playground's page, and what it asks about its own requests. Their answers come from ``inference.playground``."""

from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import access
from accounts.models import Membership
from billing.models import UsageRecord
from billing.reports import receipts, standing
from helixflow.lib import errors
from inference import capabilities, catalogue

LANGUAGES: Final = (("curl", "curl"), ("python", "Python"), ("javascript", "JavaScript"), ("go", "Go"))
MOST_RECEIPTS: Final = 8
MAX_MODELS: Final = 1_000  # in the picker


@require_safe
@login_required
@never_cache
def playground(request: HttpRequest) -> HttpResponse:
    """``?model=`` picks the first model."""
    membership = access.page_membership(request)
    models = catalogue.current().offered_to(membership.organization_id)[:MAX_MODELS]
    talking = [model for model in models if capabilities.chats(model)]
    context = {
        "membership": membership,
        "memberships": access.memberships(membership.user),
        "makers": _by_maker(talking),
        "others": [model for model in models if model not in talking],
        "chosen": _chosen(request.GET.get("model", ""), talking),
        "languages": LANGUAGES,
        "store": f"playground:{membership.organization.public_id}:{membership.user.public_id}",
    }
    return render(request, "inference/playground.html", context)


@require_safe
@login_required
@never_cache
def costs(request: HttpRequest) -> JsonResponse:
    """What requests cost (``?ids=req_…,req_…``), of those that the ledger knows by now: it does after a second."""
    membership = access.page_membership(request)
    asked = request.GET.get("ids", "").split(",")[:MOST_RECEIPTS]
    return JsonResponse({"costs": {each: cost for each in asked if (cost := _cost(membership, each)) is not None}})


def _cost(membership: Membership, request_id: str) -> dict[str, Any] | None:
    try:
        record: UsageRecord = receipts.get(membership.organization_id, request_id)
    except errors.NotFound:
        return None
    return {"cost": standing.with_unit(record.cost), "tokens": record.prompt_tokens + record.completion_tokens}


def _by_maker(models: list[catalogue.Model]) -> list[tuple[str, list[catalogue.Model]]]:
    makers: dict[str, list[catalogue.Model]] = {}
    for model in models:
        makers.setdefault(model.owned_by, []).append(model)
    return sorted(makers.items())


def _chosen(name: str, models: list[catalogue.Model]) -> str:
    """The model asked for, else the one of the snippets, else the first."""
    names = [model.name for model in models]
    return next((each for each in (name, settings.EXAMPLE_MODEL) if each in names), names[0] if names else "")


urlpatterns = [
    path("dashboard/playground", playground, name="playground"),
    path("dashboard/playground/costs", costs, name="playground-costs"),
]
