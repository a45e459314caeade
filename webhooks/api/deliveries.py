"""``/v1/webhooks/{id}/deliveries``: the log of an endpoint, what was sent and what came back, and sending again."""

from typing import Any, Final

from django.urls import re_path
from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api import callers
from accounts.models import Membership
from helixflow.lib import drf, errors, ids, paging
from helixflow.lib.serializers import MomentField, StrictCharField, StrictSerializer, parameters, validated
from webhooks import access, deliveries
from webhooks.api import representation
from webhooks.api.endpoints import ListParameters, Nothing, managed
from webhooks.models import Delivery, Endpoint

MAX_ATTEMPTS: Final = 50  # shown, the newest: sending again adds to them


class LogParameters(ListParameters):
    event = StrictCharField(required=False, allow_blank=True)
    state = StrictCharField(required=False, allow_blank=True)
    since = MomentField(required=False)
    until = MomentField(required=False)


class ResendFields(StrictSerializer):
    """``until``: now if absent."""

    since = MomentField()
    until = MomentField(required=False)


class DeliveryList(APIView):
    def get(self, request: Request, endpoint_id: str) -> Response:
        membership = callers.membership(request)
        endpoint = access.get_endpoint(membership, endpoint_id)
        given = parameters(request, LogParameters)
        shown, next_cursor = paging.page(
            deliveries.log(
                membership.organization,
                endpoint=endpoint,
                event_type=given.get("event"),
                state=given.get("state"),
                since=given.get("since"),
                until=given.get("until"),
            ),
            prefix=ids.DELIVERY,
            cursor=given.get("cursor"),
            limit=paging.limit_of(given.get("limit")),
        )
        return drf.respond_page(request, [representation.delivery(row) for row in shown], next_cursor)


class DeliveryDetail(APIView):
    def get(self, request: Request, endpoint_id: str, delivery_id: str) -> Response:
        membership = callers.membership(request)
        endpoint = access.get_endpoint(membership, endpoint_id)
        return drf.respond(request, _in_full(_delivery_of(membership, endpoint, delivery_id)))


class Resend(APIView):
    def post(self, request: Request, endpoint_id: str, delivery_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        delivery = _delivery_of(callers.membership(request), endpoint, delivery_id)
        validated(Nothing(data=request.data))
        again = deliveries.resend(delivery=delivery, user=callers.user(request))
        return drf.respond(request, representation.delivery(again), status.HTTP_202_ACCEPTED)


class ResendFailed(APIView):
    def post(self, request: Request, endpoint_id: str) -> Response:
        endpoint = managed(request, endpoint_id)
        given = validated(ResendFields(data=request.data))
        resent = deliveries.resend_failed(
            endpoint=endpoint,
            user=callers.user(request),
            since=given["since"],
            until=given.get("until") or timezone.now(),
        )
        return drf.respond(request, {"resent": resent}, status.HTTP_202_ACCEPTED)


def _delivery_of(membership: Membership, endpoint: Endpoint, delivery_id: str) -> Delivery:
    delivery = access.get_delivery(membership, delivery_id)
    if delivery.endpoint_id != endpoint.id:
        raise errors.NotFound("There is no delivery with this id at this endpoint.")
    return delivery


def _in_full(delivery: Delivery) -> dict[str, Any]:
    """With what is sent and its attempts, newest first."""
    attempts = delivery.attempts.order_by("-id")[:MAX_ATTEMPTS]
    return representation.delivery(delivery) | {
        "body": representation.body(delivery),
        "attempts": [representation.attempt(row) for row in attempts],
    }


urlpatterns = [
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/deliveries/?$", DeliveryList.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/deliveries/(?P<delivery_id>[^/]+)/?$", DeliveryDetail.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/deliveries/(?P<delivery_id>[^/]+)/resend/?$", Resend.as_view()),
    re_path(r"^webhooks/(?P<endpoint_id>[^/]+)/resend-failed/?$", ResendFailed.as_view()),
]
