"""Every service that changes access, limits or money leaves its line in the audit log, and nothing secret in it."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from accounts import api_keys, organizations, services, two_factor
from accounts.models import AuditEvent, Organization, User
from billing import key_limits, subscriptions
from billing.models import Plan
from billing.seeds import seed_plans
from helixflow.lib import errors
from tests import factories
from tests.accounts.codes import code_of, turned_on
from tests.factories import PASSWORD
from webhooks import endpoints

pytestmark = pytest.mark.django_db
TOKEN = "a-token-in-a-query"
HOOK = f"https://203.0.113.9/in?token={TOKEN}"  # an address asks no name server


@pytest.fixture(autouse=True)
def _public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helixflow.lib.http.check_url", lambda url: None)


def key_of(organization: Organization, user: User) -> Any:
    return api_keys.create(organization=organization, user=user, name="CI")[0]


def hook_of(organization: Organization, user: User) -> Any:
    return endpoints.create(organization=organization, user=user, url=HOOK, events=["quota.low"])[0]


def upgrade(organization: Organization, user: User) -> None:
    seed_plans()
    subscriptions.change(organization=organization, plan=Plan.objects.get(slug="pro"), user=user)


def rotated(organization: Organization, user: User) -> Any:
    return endpoints.rotate_secret(endpoint=hook_of(organization, user), user=user)[0]


def disabled(organization: Organization, user: User) -> Any:
    return endpoints.disable(endpoint=hook_of(organization, user), user=user)


Act = Callable[[Organization, User], Any]
ORGANIZATION: dict[str, tuple[Act, dict[str, list[Any]]]] = {
    "api_key.created": (key_of, {"name": [None, "CI"], "environment": [None, "development"]}),
    "api_key.rotated": (lambda o, u: api_keys.rotate(key=key_of(o, u), user=u, grace=timedelta(days=1)), {}),
    "api_key.revoked": (lambda o, u: api_keys.revoke(key=key_of(o, u), user=u), {}),
    "api_key.updated": (
        lambda o, u: api_keys.update(key=key_of(o, u), user=u, name="CD", models=["a"]),
        {"name": ["CI", "CD"], "allowed_models": [None, ["a"]]},
    ),
    "api_key.limits_changed": (
        lambda o, u: key_limits.set_limits(
            key=key_of(o, u), user=u, requests_per_minute=5, requests_per_month=None, monthly_budget=Decimal(2)
        ),
        {"requests_per_minute": [None, 5], "monthly_budget": [None, "2"]},
    ),
    "plan.changed": (upgrade, {"plan": ["Starter", "Pro"]}),
    "plan.capped": (
        lambda o, u: subscriptions.set_caps(organization=o, user=u, monthly_budget=Decimal(25)),
        {"monthly_budget": [None, "25"]},
    ),
    "webhook.created": (hook_of, {"url": [None, "https://203.0.113.9/in"], "events": [None, ["quota.low"]]}),
    "webhook.updated": (
        lambda o, u: endpoints.update(endpoint=hook_of(o, u), user=u, description="Warehouse", enabled=False),
        {"description": ["", "Warehouse"], "enabled": [True, False]},
    ),
    "webhook.secret_rotated": (rotated, {}),
    "webhook.rotation_finished": (lambda o, u: endpoints.finish_rotation(endpoint=rotated(o, u), user=u), {}),
    "webhook.disabled": (disabled, {"enabled": [True, False]}),
    "webhook.enabled": (lambda o, u: endpoints.enable(endpoint=disabled(o, u), user=u), {"enabled": [False, True]}),
    "webhook.deleted": (lambda o, u: endpoints.delete(endpoint=hook_of(o, u), user=u), {}),
    "organization.changed": (
        lambda o, u: organizations.update(organization=o, user=u, name="Acme 2", cache_ttl_s=60),
        {"name": ["Acme", "Acme 2"], "cache_ttl_s": [None, 60]},
    ),
    "organization.disabled": (
        lambda o, u: organizations.disable(organization=o, user=u, reason="abuse"),
        {"enabled": [True, False]},
    ),
}


@pytest.mark.parametrize("action", ORGANIZATION)
def test_a_change_of_an_organization_leaves_its_line(owner: User, organization: Organization, action: str) -> None:
    act, changes = ORGANIZATION[action]
    act(organization, owner)
    event = AuditEvent.objects.get(action=action)
    assert (event.organization_id, event.user_id, event.actor) == (organization.id, owner.id, owner.email)
    assert event.summary
    assert event.target
    assert {name: event.changes.get(name) for name in changes} == changes


@pytest.mark.parametrize(
    "act",
    [
        lambda o, u: organizations.update(organization=o, user=u, name="Acme"),
        lambda o, u: organizations.enable(organization=o, user=u),
        lambda o, u: subscriptions.end(organization=o, user=u),
        lambda o, u: subscriptions.set_caps(organization=o, user=u, monthly_budget=None),
    ],
)
def test_what_changes_nothing_leaves_no_line(owner: User, organization: Organization, act: Act) -> None:
    act(organization, owner)
    assert not AuditEvent.objects.exists()


def test_what_is_refused_leaves_no_line(owner: User, organization: Organization) -> None:
    with pytest.raises(errors.InvalidRequest):
        api_keys.create(organization=organization, user=owner, name="")
    with pytest.raises(errors.InvalidRequest):
        organizations.update(organization=organization, user=owner, name="")
    assert not AuditEvent.objects.exists()


def test_an_endpoints_new_query_is_a_change_that_is_not_told(owner: User, organization: Organization) -> None:
    endpoints.update(endpoint=hook_of(organization, owner), user=owner, url=f"{HOOK}-2")
    event = AuditEvent.objects.get(action="webhook.updated")
    assert event.changes == {"url": ["https://203.0.113.9/in"] * 2}


ACCOUNT: dict[str, Callable[[User], Any]] = {
    "account.email_confirmed": lambda user: services.verify_email(user=user, email=user.email),
    "account.email_changed": lambda user: services.change_email(user=user, email="new@example.com"),
    "account.password_changed": lambda user: services.change_password(user=user, password="another secret 1"),
    "account.password_reset": lambda user: services.reset_password(user=user, password="another secret 1"),
    "two_factor.turned_on": turned_on,
    "two_factor.turned_off": lambda user: two_factor.turn_off(user=user, code=turned_on(user)[1][0]),
    "two_factor.codes_made": lambda user: two_factor.new_codes(user=user, code=turned_on(user)[1][0]),
    "two_factor.recovery_code_used": lambda user: two_factor.prove(user=user, code=turned_on(user)[1][0]),
    "login.succeeded": lambda user: Client().post("/login", {"username": user.username, "password": PASSWORD}),
}


@pytest.mark.parametrize("action", ACCOUNT)
def test_a_change_of_an_account_leaves_its_line_outside_of_organizations(owner: User, action: str) -> None:
    factories.organization(owner=owner)
    ACCOUNT[action](owner)
    event = AuditEvent.objects.get(action=action)
    assert (event.organization_id, event.user_id) == (None, owner.id)


def test_signing_up_leaves_a_line_in_the_new_organization(db: None) -> None:
    user = services.register(username="ada", email="ada@example.com", password=PASSWORD)
    event = AuditEvent.objects.get(action="organization.created")
    assert (event.user_id, event.organization_id) == (user.id, user.memberships.get().organization_id)


def test_nothing_secret_is_in_any_line(owner: User, organization: Organization, settings: Any) -> None:
    key, secret = api_keys.create(organization=organization, user=owner, name="CI")
    successor, second = api_keys.rotate(key=key, user=owner, grace=timedelta(0))
    api_keys.revoke(key=successor, user=owner)
    endpoint, signing = endpoints.create(organization=organization, user=owner, url=HOOK, events=["quota.low"])
    _, signing_2 = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    endpoints.update(endpoint=endpoint, user=owner, url=f"{HOOK}-2")
    endpoints.delete(endpoint=endpoint, user=owner)
    app, codes = turned_on(owner)
    two_factor.prove(user=owner, code=codes[0])
    services.change_password(user=owner, password="another secret 1")
    used = code_of(app)
    written = json.dumps([[row.summary, row.changes, row.target] for row in AuditEvent.objects.all()])
    secrets = [secret, second, signing, signing_2, TOKEN, app, *codes, "another secret 1", PASSWORD, owner.password]
    assert AuditEvent.objects.count() >= 9
    assert not [text for text in secrets if text in written]
    assert f'"{used}"' not in written
