import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts import api_keys
from accounts.models import ApiKey, User
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)  # as in life: an admin action has no transaction of its own
LIST = "admin:accounts_apikey_changelist"


@pytest.fixture
def admin(db) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.com", "correct horse 42"))
    return client


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def page(key) -> str:
    return reverse("admin:accounts_apikey_change", args=[key.pk])


def revoke(client: Client, key: ApiKey) -> None:
    client.post(reverse(LIST), {"action": "revoke", "_selected_action": [str(key.pk)]})
    key.refresh_from_db()


def test_keys_are_found_by_name_hint_id_and_owner(admin, key):
    for term in ("CI", key.hint[:10], key.public_id, "owner@example.com", "Acme"):
        assert key.hint in admin.get(reverse(LIST), {"q": term}).content.decode(), term
    assert key.hint not in admin.get(reverse(LIST), {"q": "key_" + "0" * 22}).content.decode()


def test_no_page_shows_the_digest(admin, key, page):
    digest = bytes(key.digest)
    for url in (reverse(LIST), page):
        response = admin.get(url)
        assert response.status_code == 200
        assert digest.hex() not in response.content.decode()
        assert repr(digest) not in response.content.decode()
        assert "digest" not in response.content.decode()


def test_a_key_can_be_revoked_and_not_be_made_changed_or_deleted(admin, key, page):
    assert admin.get(reverse("admin:accounts_apikey_add")).status_code == 403
    assert admin.post(page, {"name": "mine"}).status_code == 403
    assert admin.post(reverse("admin:accounts_apikey_delete", args=[key.pk]), {"post": "yes"}).status_code == 403
    revoke(admin, key)
    assert (key.status, key.name) == ("revoked", "CI")


def test_revoking_needs_the_permission(key):
    viewer = factories.user("viewer")
    viewer.is_staff = True
    viewer.save()
    viewer.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    client = Client()
    client.force_login(viewer)
    assert client.get(reverse(LIST)).status_code == 200
    revoke(client, key)
    assert key.status == "active"


def test_the_admin_is_for_staff(client, owner, key):
    client.force_login(owner)
    assert client.get(reverse(LIST)).status_code == 302
