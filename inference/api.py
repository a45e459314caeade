"""GET /v1/models and /v1/models/{model}, OpenAI-shaped. Answered from the catalogue in memory: no SQL when warm.

With ``?status=true`` an operator, by a key that a member of staff made, also sees how the deployments are doing.
"""

import time
from typing import Any

from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from billing.admission.snapshots import Snapshot
from billing.api_auth import ApiKeyView
from helixflow.lib import clock, errors
from inference import catalogue, model_status
from inference.gateway import gateway
from inference.health_shared import DeploymentHealth


class ModelsView(ApiKeyView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        gateway.uses[self.snapshot(request).key_id] = time.time()


class ModelList(ModelsView):
    def get(self, request: Request) -> Response:
        snapshot = self.snapshot(request)
        healths = _healths(request, snapshot)
        models = catalogue.current().models.values()
        return Response(
            {"object": "list", "data": [represent(model, healths) for model in models if _may_see(snapshot, model)]}
        )


class ModelDetail(ModelsView):
    def get(self, request: Request, name: str) -> Response:
        """As a completion would: 403 for a model that is not on the key's list, 404 for one nobody offers here."""
        snapshot = self.snapshot(request)
        if not _is_on_list(snapshot, name):
            raise errors.AuthorizationFailed("This API key may not use this model.", param="model")
        healths = _healths(request, snapshot)
        return Response(represent(catalogue.current().get(name, snapshot.organization_id), healths))


Healths = dict[str, DeploymentHealth]


def represent(model: catalogue.Model, healths: Healths | None = None) -> dict[str, Any]:
    shown = {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owned_by}
    if healths is None:
        return shown
    deployments = [_represent_deployment(each, healths.get(each.id, DeploymentHealth())) for each in model.deployments]
    return shown | {"status": model_status.status(model, healths), "deployments": deployments}


def _represent_deployment(deployment: catalogue.Deployment, health: DeploymentHealth) -> dict[str, Any]:
    return {
        "name": deployment.name,
        "provider": deployment.provider,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "state": health.state,
        "since": health.since and clock.rfc3339(health.since),
        "until": health.until and clock.rfc3339(health.until),
        "reason": health.reason,
        "requests": health.requests,
        "failures": health.failures,
        "latency_ms": health.latency_ms,
        "in_flight": health.in_flight,
    }


def _healths(request: Request, snapshot: Snapshot) -> Healths | None:
    """None where nobody asked. Raises AuthorizationFailed for who isn't an operator, InvalidRequest."""
    asked = request.query_params.get("status", "false")
    if asked not in {"true", "false"}:
        raise errors.InvalidRequest("status is true or false.", param="status")
    if asked == "false":
        return None
    maker = User.objects.filter(pk=snapshot.user_id, is_staff=True, is_active=True) if snapshot.user_id else None
    if maker is None or not maker.exists():
        raise errors.AuthorizationFailed("Only operators may see how deployments are doing.", param="status")
    return model_status.known()


def _may_see(snapshot: Snapshot, model: catalogue.Model) -> bool:
    return model.offered_to(snapshot.organization_id) and _is_on_list(snapshot, model.name)


def _is_on_list(snapshot: Snapshot, name: str) -> bool:
    return snapshot.allowed_models is None or name in snapshot.allowed_models


urlpatterns = [
    re_path(r"^models/?$", ModelList.as_view()),
    re_path(r"^models/(?P<name>.+?)/?$", ModelDetail.as_view()),  # names may hold slashes
]
