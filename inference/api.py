"""GET /v1/models and /v1/models/{model}, OpenAI-shaped. Answered from the catalogue in memory: no SQL when warm."""

import time
from typing import Any

from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response

from billing.admission.snapshots import Snapshot
from billing.api_auth import ApiKeyView
from helixflow.lib import errors
from inference import catalogue
from inference.gateway import gateway


class ModelsView(ApiKeyView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        gateway.uses[self.snapshot(request).key_id] = time.time()


class ModelList(ModelsView):
    def get(self, request: Request) -> Response:
        snapshot = self.snapshot(request)
        models = catalogue.current().models.values()
        return Response({"object": "list", "data": [represent(model) for model in models if _may_see(snapshot, model)]})


class ModelDetail(ModelsView):
    def get(self, request: Request, name: str) -> Response:
        """As a completion would: 403 for a model that is not on the key's list, 404 for one nobody offers here."""
        snapshot = self.snapshot(request)
        if not _is_on_list(snapshot, name):
            raise errors.AuthorizationFailed("This API key may not use this model.", param="model")
        return Response(represent(catalogue.current().get(name, snapshot.organization_id)))


def represent(model: catalogue.Model) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owned_by}


def _may_see(snapshot: Snapshot, model: catalogue.Model) -> bool:
    return model.offered_to(snapshot.organization_id) and _is_on_list(snapshot, model.name)


def _is_on_list(snapshot: Snapshot, name: str) -> bool:
    return snapshot.allowed_models is None or name in snapshot.allowed_models


urlpatterns = [
    re_path(r"^models/?$", ModelList.as_view()),
    re_path(r"^models/(?P<name>.+?)/?$", ModelDetail.as_view()),  # names may hold slashes
]
