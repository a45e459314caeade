"""``/v1/webhooks`` and ``/v1/webhooks/{id}``: endpoints, their secrets and test events."""

from typing import Any, Final

from django.urls import re_path
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import callers
from helixflow.lib import clock, drf, ids, paging
from helixflow.lib.serializers import StrictBooleanField, StrictCharField, StrictSerializer, parameters, validated
from webhooks import access, deliveries, endpoints
from webhooks.api import representation
from webhooks.deliveries import EndpointStatistics
from webhooks.models import Endpoint

_MANY: Final = 1_000  # entries, above which nobody looks at each


class NamesField(serializers.ListField):
    child = StrictCharField(trim_whitespace=False, allow_blank=True)

    def to_internal_value(self, data: Any) -> list[str]:
        if isinstance(data, list) and len(data) > _MANY:
            raise serializers.ValidationError("This list is too long.")
        return list(super().to_internal_value(data))


class EndpointFields(StrictSerializer):
    """Types only; the rules are the service's (``webhooks.endpoints.clean``)."""

    url = StrictCharField(trim_whitespace=False, allow_blank=True)
    events = NamesField()
    description = StrictCharField(required=False, trim_whitespace=False, allow_blank=True)
    api_keys = NamesField(required=False, allow_null=True)
    models = NamesField(required=False, allow_null=True)
    enabled = StrictBooleanField(required=False)


class TestFields(StrictSerializer):
    """``event``: that of the example; the first that the endpoint subscribes to if absent."""

    event = StrictCharField(required=False, allow_blank=True)


class ListParameters(StrictSerializer):
    """Paging's to judge."""

    cursor = StrictCharField(required=False, allow_blank=True, trim_whitespace=False)
    limit = StrictCharField(required=False, allow_blank=True, trim_whitespace=False)


class Nothing(StrictSerializer):
    """For a call that takes no fields."""


class EndpointList(APIView):
    def get(self, request: Request) -> Response:
        membership = callers.membership(request)
        given = parameters(request, ListParameters)
        shown, next_cursor = paging.page(
            Endpoint.objects.of(membership.organization).select_related("created_by"),
            prefix=ids.WEBHOOK,
            cursor=given.get("cursor"),
            limit=paging.limit_of(given.get("limit")),
        )
        return drf.respond_page(request, [represent(endpoint) for endpoint in shown], next_cursor)

    def post(self, request: Request) -> Response:
        membership = callers.membership(request)
        access.require_manager(membership)
        fields = validated(EndpointFields(data=request.data))
        endpoint, secret = endpoints.create(organization=membership.organization, user=callers.user(request), **fields)
        return _with_secret(request, endpoint, secret, status.HTTP_201_CREATED)


class EndpointDetail(APIView):
    def get(self, request: Request, endpoint_id: str) -> Response:
        endpoint = access.get_endpoint(callers.membership(request), endpoint_id)
        found = deliveries.statistics([endpoint.id])[endpoint.id]
        return drf.respond(request, represent(endpoint) | {"statistics": _represent_statistics(found)})

    def patch(self, request: Request, endpoint_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        fields = validated(EndpointFields(data=request.data, partial=True))
        return drf.respond(
            request, represent(endpoints.update(endpoint=endpoint, user=callers.user(request), **fields))
        )

    def delete(self, request: Request, endpoint_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        endpoints.delete(endpoint=endpoint, user=callers.user(request))
        return drf.respond(request, {"id": endpoint.public_id, "object": "webhook_endpoint", "deleted": True})


class SecretRotation(APIView):
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        validated(Nothing(data=request.data))
        endpoint, secret = endpoints.rotate_secret(endpoint=endpoint, user=callers.user(request))
        return _with_secret(request, endpoint, secret, status.HTTP_200_OK)


class RotationEnd(APIView):
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        validated(Nothing(data=request.data))
        return drf.respond(request, represent(endpoints.finish_rotation(endpoint=endpoint, user=callers.user(request))))


class TestEvent(APIView):
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        event = validated(TestFields(data=request.data)).get("event", endpoint.events[0])
        delivery = deliveries.send_test(endpoint=endpoint, user=callers.user(request), event_type=event)
        return drf.respond(request, representation.delivery(delivery), status.HTTP_202_ACCEPTED)


def managed(request: Request, endpoint_id: str) -> Endpoint:
    """The endpoint of that id, for somebody who may change it. Raises NotFound, AuthorizationFailed."""
    membership = callers.membership(request)
    access.require_manager(membership)
    return access.get_endpoint(membership, endpoint_id)


def represent(endpoint: Endpoint) -> dict[str, Any]:
    moment = representation.moment
    return {
        "id": endpoint.public_id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
        "api_keys": _public_ids(endpoint),
        "models": endpoint.model_names,
        "enabled": endpoint.is_enabled,
        "disabled_at": moment(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason or None,
        "failing_since": moment(endpoint.failing_since),
        "rotation": {"ends_at": moment(endpoint.rotation_ends_at)} if endpoint.is_rotating else None,
        "created_by": endpoint.created_by.public_id if endpoint.created_by else None,
        "created_at": clock.rfc3339(endpoint.created_at),
    }


def _public_ids(endpoint: Endpoint) -> list[str] | None:
    return [ids.public_id(ids.API_KEY, key_id) for key_id in endpoint.api_key_ids or ()] or None


def _represent_statistics(found: EndpointStatistics) -> dict[str, Any]:
    """Of the last 24 hours; ``pending`` of now."""
    return {
        "attempts": found.attempts,
        "succeeded": found.succeeded,
        "success_rate": found.success_rate,
        "p50_ms": representation.milliseconds(found.p50_ms),
        "p95_ms": representation.milliseconds(found.p95_ms),
        "pending": found.pending,
    }


def _with_secret(request: Request, endpoint: Endpoint, secret: str, status_code: int) -> Response:
    response = drf.respond(request, represent(endpoint) | {"secret": secret}, status_code)
    response["Cache-Control"] = "no-store"
    return response


urlpatterns = [
    re_path(r"^webhooks/?$", EndpointList.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/?$", EndpointDetail.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/rotate-secret/?$", SecretRotation.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/finish-rotation/?$", RotationEnd.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/test/?$", TestEvent.as_view()),
]
