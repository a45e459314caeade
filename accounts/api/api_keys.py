"""REST for API keys: /v1/api-keys. Called with the JWT of a login, never with an API key."""

from datetime import timedelta
from typing import Any

from django.urls import re_path
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, api_keys
from accounts.api import callers
from accounts.models import ApiKey, Membership
from helixflow.lib import clock, drf, errors, ids, paging
from helixflow.lib.serializers import StrictCharField, StrictIntegerField, StrictSerializer, validated


class ApiKeyFields(StrictSerializer):
    """Types only; the rules are the service's (``accounts.api_keys.clean``)."""

    name = StrictCharField(trim_whitespace=False, allow_blank=True)
    environment = StrictCharField(required=False, allow_blank=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    models = serializers.ListField(
        child=StrictCharField(trim_whitespace=False, allow_blank=True), required=False, allow_null=True
    )


class RotationFields(StrictSerializer):
    grace_days = StrictIntegerField(required=False, default=1, min_value=0, max_value=api_keys.MAX_GRACE.days)


class ApiKeyList(APIView):
    def get(self, request: Request) -> Response:
        membership = callers.membership(request)
        keys = ApiKey.objects.of(membership.organization).select_related("created_by")
        match request.query_params.get("status", "all"):
            case "active":
                keys = keys.usable()
            case "all":
                pass
            case _:
                raise errors.InvalidRequest("The status is active or all.", param="status")
        shown, next_cursor = paging.page(
            keys,
            prefix=ids.API_KEY,
            cursor=request.query_params.get("cursor"),
            limit=paging.limit_of(request.query_params.get("limit")),
        )
        return drf.respond_page(request, [represent(key) for key in shown], next_cursor)

    def post(self, request: Request) -> Response:
        membership = _manager(request)
        fields = validated(ApiKeyFields(data=request.data))
        key, secret = api_keys.create(organization=membership.organization, user=callers.user(request), **fields)
        return _with_secret(request, represent(key), secret)


class ApiKeyDetail(APIView):
    def get(self, request: Request, key_id: str) -> Response:
        return drf.respond(request, represent(access.get_api_key(callers.membership(request), key_id)))

    def patch(self, request: Request, key_id: str) -> Response:
        key = access.get_api_key(_manager(request), key_id)
        fields = validated(ApiKeyFields(data=request.data, partial=True))
        return drf.respond(request, represent(api_keys.update(key=key, user=callers.user(request), **fields)))

    def delete(self, request: Request, key_id: str) -> Response:
        """Revokes; the row stays, so that usage keeps its name. Answers with the revoked key, also the second time."""
        key = access.get_api_key(_manager(request), key_id)
        return drf.respond(request, represent(api_keys.revoke(key=key, user=callers.user(request))))


class ApiKeyRotation(APIView):
    def post(self, request: Request, key_id: str) -> Response:
        key = access.get_api_key(_manager(request), key_id)
        days = validated(RotationFields(data=request.data))["grace_days"]
        successor, secret = api_keys.rotate(key=key, user=callers.user(request), grace=timedelta(days=days))
        key.refresh_from_db(fields=["expires_at", "rotated_to"])
        return _with_secret(request, represent(successor) | {"replaces": represent(key)}, secret)


def represent(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.public_id,
        "object": "api_key",
        "name": key.name,
        "environment": key.environment,
        "hint": key.hint,
        "status": key.status,
        "models": key.allowed_models,
        "created_by": key.created_by.public_id if key.created_by else None,
        "created_at": clock.rfc3339(key.created_at),
        "expires_at": clock.rfc3339(key.expires_at) if key.expires_at else None,
        "last_used_at": clock.rfc3339(key.last_used_at) if key.last_used_at else None,
        "revoked_at": clock.rfc3339(key.revoked_at) if key.revoked_at else None,
        "rotated_to": ids.public_id(ids.API_KEY, key.rotated_to_id) if key.rotated_to_id else None,
    }


def _with_secret(request: Request, data: dict[str, Any], secret: str) -> Response:
    response = drf.respond(request, data | {"key": secret}, status.HTTP_201_CREATED)
    response["Cache-Control"] = "no-store"
    return response


def _manager(request: Request) -> Membership:
    membership = callers.membership(request)
    access.require_key_manager(membership)
    return membership


urlpatterns = [
    re_path(r"^api-keys/?$", ApiKeyList.as_view()),
    re_path(r"^api-keys/(?P<key_id>[^/]+)/?$", ApiKeyDetail.as_view()),
    re_path(r"^api-keys/(?P<key_id>[^/]+)/rotate/?$", ApiKeyRotation.as_view()),
]
