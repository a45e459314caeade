"""/dashboard/settings: the organization's name, its response cache and its stored contents."""

import pytest
from django.db import IntegrityError
from django.test import Client

from accounts import api_keys, organizations
from accounts.models import AuditEvent, Organization
from billing.admission import snapshots
from tests import factories

pytestmark = pytest.mark.django_db

URL = "/dashboard/settings"


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_strangers_log_in_first(client):
    for response in (client.get(URL), client.post(URL)):
        assert response["Location"] == f"/login?next={URL}"


def test_an_owner_turns_the_cache_on_and_off(owner, organization):
    page = browser(owner).get(URL).content.decode()
    assert 'value="Acme"' in page
    assert organization.public_id in page
    assert "stored, encrypted" in page
    for typed, kept in (("3600", 3600), ("", None)):
        saved = browser(owner).post(URL, {"name": "Acme", "cache_ttl_s": typed})
        assert saved["Location"] == URL
        organization.refresh_from_db()
        assert organization.cache_ttl_s == kept
    assert organization.generation == 3


def test_the_next_request_knows(owner, organization):
    _, secret = api_keys.create(organization=organization, user=owner, name="test")
    assert snapshots.load(secret).cache_ttl_s is None
    browser(owner).post(URL, {"name": "Acme", "cache_ttl_s": "90"})
    snapshot = snapshots.load(secret)
    assert (snapshot.cache_ttl_s, snapshot.generation) == (90, 3)


@pytest.mark.parametrize("typed", ["0", "-5", "86401", "1,000", "a day", "9" * 40])
def test_a_bad_time_is_explained_beside_its_field(owner, organization, typed):
    page = browser(owner).post(URL, {"name": "Acme", "cache_ttl_s": typed}).content.decode()
    assert 'aria-invalid="true"' in page
    assert typed in page
    organization.refresh_from_db()
    assert organization.cache_ttl_s is None


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b"])
def test_so_is_a_bad_name(owner, organization, name):
    assert "field__error" in browser(owner).post(URL, {"name": name}).content.decode()
    organization.refresh_from_db()
    assert organization.name == "Acme"


def test_a_name_is_escaped(owner, organization):
    browser(owner).post(URL, {"name": "<script>alert(1)</script>", "generation": "99"})
    assert "<script>alert" not in browser(owner).get(URL).content.decode()
    organization.refresh_from_db()
    assert organization.generation == 2


def test_members_read_it(member, organization):
    Organization.objects.update(cache_ttl_s=3600)
    page = browser(member).get(URL).content.decode()
    assert "for 3,600 seconds" in page
    assert "Only owners and admins" in page
    assert browser(member).post(URL, {"name": "Mine", "cache_ttl_s": ""}).status_code == 403
    organization.refresh_from_db()
    assert (organization.name, organization.cache_ttl_s) == ("Acme", 3600)


def test_the_outsider_sees_and_changes_their_own(outsider, organization):
    assert organization.public_id not in browser(outsider).get(URL).content.decode()
    browser(outsider).post(URL, {"name": "Theirs", "cache_ttl_s": "60", "organization": organization.public_id})
    organization.refresh_from_db()
    assert (organization.name, organization.cache_ttl_s) == ("Acme", None)


def test_it_offers_the_choice_of_several(owner, organization):
    other = factories.organization(owner=owner, name="Second")
    client = browser(owner)
    assert "Second" in client.get(URL).content.decode()
    chosen = client.post("/dashboard/organization", {"organization": other.public_id, "page": "settings"})
    assert chosen["Location"] == URL
    assert other.public_id in client.get(URL).content.decode()


@pytest.mark.parametrize("ttl_s", [0, 86_401])
def test_the_row_itself_holds_nothing_else(organization, ttl_s):
    with pytest.raises(IntegrityError):
        Organization.objects.update(cache_ttl_s=ttl_s)


def test_contents_are_stored_only_if_somebody_says_so(owner, organization):
    assert "no contents are stored" in browser(owner).get(URL).content.decode()
    browser(owner).post(URL, {"name": "Acme", "contents_days": "30"})
    organization.refresh_from_db()
    assert organization.contents_days == 30
    assert organization.contents_since is not None


def test_turning_contents_off_has_to_be_confirmed(owner, organization):
    client = browser(owner)
    client.post(URL, {"name": "Acme", "contents_days": "30"})
    assert 'name="forget"' not in client.get(URL).content.decode()
    asked = client.post(URL, {"name": "Acme", "contents_days": ""}).content.decode()
    assert 'name="forget"' in asked
    assert "also deletes what is stored" in asked
    organization.refresh_from_db()
    assert organization.contents_days == 30
    client.post(URL, {"name": "Acme", "contents_days": "", "forget": "on"})
    organization.refresh_from_db()
    assert (organization.contents_days, organization.contents_since) == (None, None)
    noted = AuditEvent.objects.order_by("-id")[0]
    assert (noted.action, noted.actor, noted.changes) == (
        "organization.changed",
        owner.email,
        {"contents_days": [30, None]},
    )


@pytest.mark.parametrize("typed", ["0", "366", "a month"])
def test_a_bad_number_of_days_is_explained(owner, organization, typed):
    page = browser(owner).post(URL, {"name": "Acme", "contents_days": typed}).content.decode()
    assert 'aria-invalid="true"' in page
    organization.refresh_from_db()
    assert organization.contents_days is None


def test_more_days_keep_what_is_stored(owner, organization):
    for days in (7, 30):
        organization = organizations.update(organization=organization, user=owner, contents_days=days)
        since = organization.contents_since
        organization.refresh_from_db()
        assert organization.contents_since == since
    changed = AuditEvent.objects.filter(action="organization.changed")
    assert [event.summary for event in changed.order_by("id")] == [
        "has prompts and answers stored for 7 days",
        "has prompts and answers stored for 30 days",
    ]
