import threading

import pytest
from django.db import connection, transaction

from accounts import access, api_keys, auth, playground
from accounts.models import ApiKey, Membership, Organization
from helixflow.lib import errors
from tests import factories


@pytest.fixture
def membership(organization, member) -> Membership:
    return Membership.objects.select_related("organization", "user").get(user=member)


def generation_of(organization) -> int:
    return Organization.objects.get(id=organization.id).generation


def test_the_first_call_makes_a_key_and_the_next_finds_it(membership, member):
    secret = playground.secret_of(membership)
    assert playground.secret_of(membership) == secret
    auth.check_form(secret)
    key = ApiKey.objects.get()
    assert bytes(key.digest) == auth.digests(secret)[0]
    assert (key.created_by, key.name, key.is_playground, key.status) == (member, "Playground", True, "active")
    assert (key.hint, str(key)) == ("", "Playground")


def test_each_member_has_a_key_of_their_own(membership, owner, organization):
    others = Membership.objects.get(user=owner, organization=organization)
    assert playground.secret_of(membership) != playground.secret_of(others)


def test_the_secret_is_in_no_column_and_no_log_line(membership, caplog):
    with caplog.at_level("DEBUG"):
        secret = playground.secret_of(membership)
    assert ApiKey.objects.get().public_id in caplog.text
    assert secret not in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("SELECT accounts_apikey::text FROM accounts_apikey")
        assert secret[6:20] not in cursor.fetchone()[0]


def test_it_is_no_key_of_the_lists(membership, organization):
    playground.secret_of(membership)
    assert not ApiKey.objects.of(organization).exists()
    with pytest.raises(errors.NotFound):
        access.get_api_key(membership, ApiKey.objects.get().public_id)


def test_it_takes_no_room_of_the_organizations_keys(membership, organization, member, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_ACTIVE", 1)
    playground.secret_of(membership)
    api_keys.create(organization=organization, user=member, name="CI")


def test_who_leaves_loses_it_from_the_next_request_on(membership, organization):
    secret = playground.secret_of(membership)
    before = generation_of(organization)
    playground.revoke(membership)
    assert ApiKey.objects.get().status == "revoked"
    assert generation_of(organization) == before + 1
    assert playground.secret_of(membership) != secret  # who comes back has a new one


def test_who_never_had_one_leaves_without_a_trace(membership, organization):
    before = generation_of(organization)
    playground.revoke(membership)
    assert generation_of(organization) == before


def test_a_membership_that_has_ended_gets_none(membership):
    Membership.objects.filter(id=membership.id).delete()
    with pytest.raises(errors.AuthorizationFailed):
        playground.secret_of(membership)
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("changed", [{"SECRET_KEY": "x" * 50}, {"KEY_PEPPERS": ["y" * 50]}])
def test_after_a_change_of_secrets_a_new_key_takes_its_place(membership, settings, changed):
    secret = playground.secret_of(membership)
    for name, value in changed.items():
        setattr(settings, name, value)
    playground.secret_of(membership)
    old, new = ApiKey.objects.order_by("id")
    assert (old.status, new.status) == ("revoked", "active")
    assert bytes(new.digest) not in auth.digests(secret)


def test_a_pepper_that_is_still_tried_changes_nothing(membership, settings):
    secret = playground.secret_of(membership)
    settings.KEY_PEPPERS = ["y" * 50, *settings.KEY_PEPPERS]
    assert playground.secret_of(membership) == secret


@pytest.mark.django_db(transaction=True)
def test_two_first_calls_at_once_share_one_key(transactional_db):
    organization = factories.organization(owner=factories.user("ada"))
    membership = Membership.objects.select_related("user").get(organization=organization)
    found = []

    def call() -> None:
        found.append(playground.secret_of(membership))
        connection.close()

    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(id=organization.id)  # so that they meet
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 3
    assert len(set(found)) == 1
    assert ApiKey.objects.count() == 1
