"""How the control plane's views take API keys: identify and admit like the data plane, without counting as inference.

Every answer to a known key shows the organization's limits, errors included (contract §5).
"""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import auth
from billing.admission import limits
from billing.admission.snapshots import Snapshot
from helixflow.lib import errors


class ApiKeyAuthentication(BaseAuthentication):
    """Sets ``request.auth`` to the key's Snapshot; there is no user, as reading one would take a query.

    Raises AuthenticationFailed, InvalidApiKey, RateLimitExceeded (the abuse limit), AuthorizationFailed (disabled).
    """

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Snapshot]:
        header = request.META.get("HTTP_AUTHORIZATION")
        token = auth.bearer_token([] if header is None else [header.encode()])
        verdict = limits.admit_other(token)
        snapshot = verdict.snapshot
        request.verdict = verdict  # type: ignore[attr-defined]  # ApiKeyView puts it into the headers
        if not verdict.admitted:
            raise verdict.error()
        if not snapshot.enabled:
            raise errors.AuthorizationFailed("This organization is disabled, or is to be deleted: see its dashboard.")
        return AnonymousUser(), snapshot

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class ApiKeyView(APIView):
    """A view for callers with an API key."""

    authentication_classes = (ApiKeyAuthentication,)
    permission_classes = ()  # authentication either raises or knows the key

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        verdict = getattr(request, "verdict", None)
        for name, value in verdict.headers() if verdict else ():
            response[name.decode()] = value.decode()
        return response

    @staticmethod
    def snapshot(request: Request) -> Snapshot:
        assert isinstance(request.auth, Snapshot)  # noqa: S101  # for the type checker
        return request.auth
