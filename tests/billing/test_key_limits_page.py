"""The limits on a key's page, and the page their form is sent to."""

from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, Role
from billing import key_limits, subscriptions
from billing.models import KeyLimits
from billing.reports import standing
from tests import factories
from tests.billing.visits import EVIL, csrf_token, redis_is_away, signed_in, text_of, use

pytestmark = pytest.mark.django_db

LIMITS = {"requests_per_minute": "5", "requests_per_month": "500", "monthly_budget": "12.50"}
NO_LIMITS = dict.fromkeys(LIMITS, "")
SET = (5, 500, Decimal("12.50"))


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def url(key) -> str:
    return f"/dashboard/api-keys/{key.public_id}/limits"


def limits_of(key) -> tuple[int | Decimal | None, ...]:
    limits = key_limits.of(key)
    return limits.requests_per_minute, limits.requests_per_month, limits.monthly_budget


def test_a_key_s_page_has_a_form_of_its_limits(owner, key, url):
    page = signed_in(owner).get(f"/dashboard/api-keys/{key.public_id}")
    assert f'action="{url}"' in page.content.decode()
    assert "If empty, your organization's 10,000 applies." in text_of(page)
    assert "If empty, it has none." in text_of(page)


@pytest.mark.parametrize("method", ["get", "post"])
def test_limits_require_a_login(client, url, method):
    response = getattr(client, method)(url)
    assert response.status_code == 302
    assert response["Location"] == f"/login?next={url}"


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_owners_and_admins_set_limits(organization, key, url, role):
    client = signed_in(factories.user("boss", organization=organization, role=role))
    response = client.post(url, LIMITS, follow=True)
    assert response.redirect_chain == [(f"/dashboard/api-keys/{key.public_id}", 302)]
    assert "The limits of “CI” are saved." in response.content.decode()
    assert limits_of(key) == SET
    assert 'value="12.50"' in client.get(url).content.decode()


def test_empty_lifts_a_limit(owner, key, url):
    client = signed_in(owner)
    client.post(url, LIMITS)
    client.post(url, LIMITS | {"requests_per_month": ""})
    assert limits_of(key) == (5, None, Decimal("12.50"))
    client.post(url, NO_LIMITS)
    assert not KeyLimits.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requests_per_minute", "-1"),
        ("requests_per_minute", "1,000"),
        ("requests_per_month", "1.5"),
        ("requests_per_month", "2147483648"),
        ("monthly_budget", "-1"),
        ("monthly_budget", "1.005"),
        ("monthly_budget", "Infinity"),
    ],
)
def test_a_bad_limit_comes_back_with_its_error(owner, key, url, field, value):
    response = signed_in(owner).post(url, LIMITS | {field: value})
    page = response.content.decode()
    assert response.status_code == 200
    assert f'id="id_{field}_error"' in page
    assert page.count("field__error") == 1
    assert f'value="{value}"' in page
    assert not KeyLimits.objects.exists()


def test_what_was_used_stands_beside_each_limit(owner, key, url):
    use(key, units=123, cost="1.5")
    client = signed_in(owner)
    text = text_of(client.get(url))
    assert "Used this minute: 0" in text
    assert "Used this month: 123" in text
    assert "Used this month: 1.50 USD" in text
    client.post(url, LIMITS)
    text = text_of(client.get(url))
    assert "123 of 500" in text
    assert "1.50 of 12.50 USD" in text


def test_a_limit_above_the_organization_s_is_said_to_have_no_effect(owner, organization, key, url):
    subscriptions.set_caps(organization=organization, user=owner, monthly_budget=Decimal(10))
    client = signed_in(owner)
    client.post(url, LIMITS | {"requests_per_minute": "101", "requests_per_month": "10000"})
    text = text_of(client.get(url))
    assert "Requests per minute: 101 is above your organization's 100, so it has no effect." in text
    assert "Monthly budget: 12.50 USD is above your organization's 10.00 USD, so it has no effect." in text
    assert text.count("no effect") == 2
    assert "0 of 100" in text


def test_without_redis_a_key_s_limits_are_shown_all_the_same(owner, key, url, monkeypatch):
    use(key, units=123)
    redis_is_away(monkeypatch)
    text = text_of(signed_in(owner).get(url))
    assert "Used this month: 123" in text
    assert "this minute" not in text


def test_a_member_reads_limits_and_changes_nothing(member, owner, key, url):
    signed_in(owner).post(url, LIMITS)
    client = signed_in(member)
    for page in (url, f"/dashboard/api-keys/{key.public_id}"):
        shown = client.get(page)
        assert "<form" not in shown.content.decode().split("<main")[1]
        assert "Only owners and admins" in text_of(shown)
        assert "12.50 USD" in text_of(shown)
    assert client.post(url, NO_LIMITS).status_code == 403
    assert limits_of(key) == SET


def test_another_organization_s_key_has_no_page(outsider, key, url):
    client = signed_in(outsider)
    assert client.get(url).status_code == client.post(url, LIMITS).status_code == 404
    assert not KeyLimits.objects.exists()


@pytest.mark.parametrize("bad", ["x", "key_" + "0" * 22, "org-" + "0" * 22, "%00"])
def test_odd_ids_are_404(owner, organization, bad):
    assert signed_in(owner).get(f"/dashboard/api-keys/{bad}/limits").status_code == 404


def test_a_revoked_key_s_limits_are_read_only(owner, key, url):
    signed_in(owner).post(url, LIMITS)
    api_keys.revoke(key=key, user=owner)
    client = signed_in(owner)
    for page in (url, f"/dashboard/api-keys/{key.public_id}"):
        assert "<form" not in client.get(page).content.decode().split("<main")[1]
        assert "This key is revoked" in text_of(client.get(page))
    assert "This key is revoked" in text_of(client.post(url, NO_LIMITS))
    assert limits_of(key) == SET


def test_a_disabled_organization_looks_and_changes_nothing(owner, organization, url):
    organization.disabled_at = timezone.now()
    organization.save()
    client = signed_in(owner)
    assert "<form" not in client.get(url).content.decode().split("<main")[1]
    assert "disabled" in text_of(client.get(url))
    assert client.post(url, LIMITS).status_code == 403
    assert not KeyLimits.objects.exists()


def test_limits_without_a_csrf_token_are_refused(owner, url):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    assert client.post(url, LIMITS).status_code == 403
    assert not KeyLimits.objects.exists()
    assert client.post(url, LIMITS | {"csrfmiddlewaretoken": csrf_token(client.get(url))}).status_code == 302


@pytest.mark.parametrize("path", ["", "/limits"])
def test_script_in_a_name_is_inert(owner, organization, path):
    key, _ = api_keys.create(organization=organization, user=owner, name=EVIL)
    page = signed_in(owner).get(f"/dashboard/api-keys/{key.public_id}{path}").content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("method", ["put", "delete"])
def test_other_methods_are_405(owner, url, method):
    assert getattr(signed_in(owner), method)(url).status_code == 405


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (Decimal(0), "0.00"),
        (Decimal("1234.5"), "1,234.50"),
        (Decimal("0.01"), "0.01"),
        (Decimal("0.0099"), "0.0099"),
        (Decimal("0.000000000012"), "0.000000000012"),
        (Decimal("0.00100000"), "0.001"),
    ],
)
def test_amounts_have_as_many_digits_as_it_takes(amount, text):
    assert standing.shown(amount) == text
