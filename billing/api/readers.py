"""Callers who may read an organization's usage: one of its API keys, or a login of somebody in it (contract §3)."""

import uuid
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts import access, auth, jwt
from accounts.models import ApiKey, User
from billing.admission.snapshots import Snapshot
from billing.api_auth import ApiKeyAuthentication, ApiKeyView
from helixflow.lib import errors, ids
from helixflow.lib.serializers import StrictCharField, StrictSerializer, parameters


class KeyOrLogin(BaseAuthentication):
    """What looks like a JWT is one; whatever else is there must be an API key, which draws on the abuse limit."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        token = jwt.token_of(request)
        if token is not None and auth.looks_like_jwt(token):
            return jwt.JWTAuthentication().authenticate(request)
        return ApiKeyAuthentication().authenticate(request)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class ReaderView(ApiKeyView):
    authentication_classes = (KeyOrLogin,)  # type: ignore[assignment]  # in place of the key alone

    @staticmethod
    def organization_id(request: Request) -> uuid.UUID:
        """The key's organization, or the one the login acts for. Every query starts from it."""
        if isinstance(request.auth, Snapshot):
            return request.auth.organization_id
        assert isinstance(request.user, User)  # noqa: S101  # for the type checker: there is no third way in
        return access.api_membership(request.user, request.headers.get("X-HelixFlow-Organization")).organization_id

    @staticmethod
    def parameters(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
        return parameters(request, serializer)


class NoParameters(StrictSerializer):
    """For an address that takes none."""


class ModelNameField(StrictCharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, max_length=200, **kwargs)


def key_of(organization_id: uuid.UUID, public_id: str) -> ApiKey:
    """Raises NotFound, whether the key is another organization's or nobody's."""
    try:
        key_id = ids.parse_public_id(ids.API_KEY, public_id)
    except ValueError:
        raise errors.NotFound(f"That is not an id of an API key; one starts with {ids.API_KEY}.") from None
    key = ApiKey.objects.filter(organization_id=organization_id, id=key_id).first()
    if key is None:
        raise errors.NotFound("There is no API key with this id.")
    return key


def name_key(key_id: uuid.UUID, key: ApiKey | None) -> dict[str, Any]:
    """The ledger outlives keys: what is left of one that is gone is its id."""
    return {
        "id": ids.public_id(ids.API_KEY, key_id),
        "name": key.name if key else None,
        "hint": key.hint if key else None,
    }
