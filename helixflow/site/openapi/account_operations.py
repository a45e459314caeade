"""Logins and API keys."""

from typing import Any, Final

from accounts.api import api_keys, auth
from billing.api import key_limits
from helixflow.lib.serializers import StrictCharField, StrictSerializer
from helixflow.site.openapi import answers
from helixflow.site.openapi.operations import TIME, Operation, Tag, envelope, page


class KeyListParameters(StrictSerializer):
    """As ``accounts.api.api_keys`` and ``helixflow.lib.paging`` read them."""

    status = StrictCharField(required=False)
    cursor = StrictCharField(required=False)
    limit = StrictCharField(required=False)


LOGIN: Final = {
    "access_token": "eyJ…",
    "token_type": "bearer",
    "expires_in": 3600,
    "refresh_token": "eyJ…",
    "user": {"id": "user-…", "username": "ada@example.com", "email": "ada@example.com"},
}
PASSWORD: Final = "a long password of yours"  # noqa: S105  # an example

AUTH: Final = (
    Operation(
        method="post",
        path="/auth/register",
        id="register",
        tag="Authentication",
        summary="Register",
        text="Makes an account and an organization of its own. The same as [signing up](/signup).",
        auth="none",
        body=auth.Registration,
        answer=answers.RegisteredUser,
        shape="plain",
        status=201,
        errors=(429, 503),
        anchors=("register",),
        example_body={"username": "ada@example.com", "email": "ada@example.com", "password": PASSWORD},
        example={"message": "User registered successfully", "user_id": "user-…", "username": "ada@example.com"},
    ),
    Operation(
        method="post",
        path="/auth/login",
        id="login",
        tag="Authentication",
        summary="Log in",
        text="Gives an access token for an hour and a refresh token for seven days. Changing your password ends both "
        "at once. Tries are limited, per account and per address.",
        auth="none",
        body=auth.Credentials,
        answer=answers.Login,
        shape="plain",
        errors=(401, 429, 503),
        anchors=("login",),
        example_body={"username": "ada@example.com", "password": PASSWORD},
        example=LOGIN,
    ),
    Operation(
        method="post",
        path="/auth/refresh",
        id="refreshLogin",
        tag="Authentication",
        summary="Refresh a token",
        text="Trades a refresh token for a new pair; the answer is that of a login. A refresh token works once. If an "
        "old one comes back later, the session is ended, since someone else may have it.",
        auth="none",
        body=auth.Refresh,
        answer=answers.Login,
        shape="plain",
        errors=(401,),
        anchors=("refresh",),
        example_body={"refresh_token": "$REFRESH_TOKEN"},
        example=LOGIN,
    ),
    Operation(
        method="post",
        path="/auth/logout",
        id="logout",
        tag="Authentication",
        summary="Log out",
        text="Ends the session of the access token in the header, or of a `refresh_token` in the body. Both tokens "
        "stop working.",
        body=auth.Logout,
        optional_body=True,
        answer=answers.Acknowledgement,
        anchors=("logout",),
        example_body={},
        example=envelope({"message": "Logged out"}),
    ),
)

KEY: Final[dict[str, Any]] = {
    "id": "key_…",
    "object": "api_key",
    "name": "Website",
    "environment": "production",
    "hint": "hflow_Ab12…Yz89",
    "status": "active",
    "models": None,
    "created_by": "user-…",
    "created_at": TIME,
    "expires_at": None,
    "last_used_at": None,
    "revoked_at": None,
    "rotated_to": None,
}
LIMITS: Final[dict[str, Any]] = {
    "object": "api_key.limits",
    "api_key_id": "key_…",
    "requests_per_minute": 60,
    "requests_per_month": None,
    "monthly_budget": "5.00",
    "currency": "USD",
}

KEYS: Final = (
    Operation(
        method="get",
        path="/api-keys",
        id="listApiKeys",
        tag="API keys",
        summary="List keys",
        text="The keys of your organization, newest first. Any member may list them; owners and admins change them.",
        query=KeyListParameters,
        answer=answers.ApiKey,
        shape="page",
        anchors=("keys-list",),
        example=page(KEY),
    ),
    Operation(
        method="post",
        path="/api-keys",
        id="createApiKey",
        tag="API keys",
        summary="Create a key",
        text="`data.key` is the key itself. This is the only time it is seen.",
        body=api_keys.ApiKeyFields,
        answer=answers.NewApiKey,
        status=201,
        anchors=("keys-create",),
        example_body={"name": "Website", "environment": "production"},
        example=envelope(KEY | {"key": "hflow_…"}),
    ),
    Operation(
        method="get",
        path="/api-keys/{key_id}",
        id="getApiKey",
        tag="API keys",
        summary="Get a key",
        answer=answers.ApiKey,
        anchors=("keys-get",),
        example=envelope(KEY),
    ),
    Operation(
        method="patch",
        path="/api-keys/{key_id}",
        id="updateApiKey",
        tag="API keys",
        summary="Change a key",
        text="Takes the fields of creation; those you leave out stay as they are. A change counts from the next "
        "request on.",
        body=api_keys.ApiKeyFields,
        answer=answers.ApiKey,
        anchors=("keys-change",),
        example_body={"models": ["gpt-3.5-turbo"]},
        example=envelope(KEY | {"models": ["gpt-3.5-turbo"]}),
    ),
    Operation(
        method="post",
        path="/api-keys/{key_id}/rotate",
        id="rotateApiKey",
        tag="API keys",
        summary="Rotate a key",
        text="Makes a key with the same name and restrictions, and lets the old one go on for a while. It is in "
        "`data.replaces`.",
        body=api_keys.RotationFields,
        optional_body=True,
        answer=answers.RotatedApiKey,
        status=201,
        anchors=("keys-rotate",),
        example_body={"grace_days": 2},
        example=envelope(KEY | {"key": "hflow_…", "replaces": KEY | {"rotated_to": "key_…"}}),
    ),
    Operation(
        method="delete",
        path="/api-keys/{key_id}",
        id="revokeApiKey",
        tag="API keys",
        summary="Revoke a key",
        text="From the next request on the key is refused, for good. It stays in the list, as revoked.",
        answer=answers.ApiKey,
        anchors=("keys-revoke",),
        example=envelope(KEY | {"status": "revoked", "revoked_at": TIME}),
    ),
    Operation(
        method="get",
        path="/api-keys/{key_id}/limits",
        id="getApiKeyLimits",
        tag="API keys",
        summary="Get a key's limits",
        text="What one key may use of its organization's limits; `null` is no limit of its own.",
        answer=answers.ApiKeyLimits,
        example=envelope(LIMITS),
    ),
    Operation(
        method="put",
        path="/api-keys/{key_id}/limits",
        id="setApiKeyLimits",
        tag="API keys",
        summary="Limit a key",
        text="All three are needed, so that none is lifted by being forgotten; `null` is no limit of its own.",
        body=key_limits.LimitFields,
        answer=answers.ApiKeyLimits,
        anchors=("keys-limits",),
        example_body={"requests_per_minute": 60, "requests_per_month": None, "monthly_budget": "5.00"},
        example=envelope(LIMITS),
    ),
)


TAGS: Final = (
    Tag("Authentication", "authentication", "Accounts, and the tokens that manage them.", AUTH),
    Tag("API keys", "api-keys", "Keys, their rotation, and limits of their own.", KEYS),
)
