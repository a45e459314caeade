"""Deleting an organization or an account: asking, seven days of thinking again, and what is left."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.apps import apps
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import api_keys, deletions, erasure, playground, tasks
from accounts.models import ApiKey, AuditEvent, Export, Membership, Organization, Role, TokenSession, User, WebSession
from billing.admission import snapshots
from billing.models import Refusal, UsageMonth
from helixflow.lib import errors
from tests import factories
from tests.accounts.team import api, membership, signed_in, text_of
from webhooks.models import Attempt, Delivery, Endpoint, Event

pytestmark = pytest.mark.django_db

ORGANIZATION = "/dashboard/settings/delete"
ACCOUNT = "/dashboard/profile/delete"
RIGHT = {"typed": "Acme", "current_password": factories.PASSWORD}
MINE = {"typed": "owner@example.com", "current_password": factories.PASSWORD}
LATER = timedelta(days=7, seconds=1)


def after(delta: timedelta) -> time_machine.travel:
    return time_machine.travel(timezone.now() + delta)


def test_it_names_what_is_destroyed_and_wants_name_and_password(owner, organization):
    client = signed_in(owner)
    text = text_of(client.get(ORGANIZATION))
    assert "Delete Acme?" in text
    assert "membership of 1 person" in text
    for field in RIGHT:
        assert "field__error" in client.post(ORGANIZATION, RIGHT | {field: "wrong"}).content.decode()
    organization.refresh_from_db()
    assert organization.deletion_due_at is None


def test_only_owners_delete_and_keep(member, outsider, organization):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    for user in (member, admin):
        client = signed_in(user)
        assert client.post(ORGANIZATION, RIGHT).status_code == 403
        assert client.post("/dashboard/settings/keep").status_code == 403
        assert ORGANIZATION not in client.get("/dashboard/settings").content.decode()
    signed_in(outsider).post(ORGANIZATION, RIGHT)
    organization.refresh_from_db()
    assert organization.deletion_due_at is None


def test_calls_are_refused_at_once_and_keeping_restores_everything(owner, member, organization, inbox):
    second = factories.user("second", organization=organization, role=Role.OWNER)
    _, secret = api_keys.create(organization=organization, user=owner, name="CI")
    before = Organization.objects.values().get(id=organization.id)
    client = signed_in(owner)
    assert client.post(ORGANIZATION, RIGHT)["Location"] == "/dashboard/settings"
    assert not snapshots.load(secret).enabled
    assert "Keep the organization" in text_of(client.get("/dashboard/team"))
    assert "An owner can still keep it" in text_of(signed_in(member).get("/dashboard/team"))
    assert client.post("/dashboard/settings", {"name": "New"}).status_code == 403
    assert signed_in(second).post("/dashboard/settings/keep")["Location"] == "/dashboard/settings"
    assert snapshots.load(secret).enabled
    assert Organization.objects.values().get(id=organization.id) == before | {"generation": before["generation"] + 2}
    assert [mail.subject.partition(" · ")[0] for mail in inbox] == ["Acme will be deleted", "Acme is kept"]
    assert inbox[0].to == ["owner@example.com", "second@example.com"]


def test_when_it_is_due_nothing_is_left_and_nothing_of_others_is_gone(owner, outsider, organization, monkeypatch):
    monkeypatch.setattr(erasure, "BATCH", 2)
    other = membership(outsider, outsider.memberships.get().organization)
    for mine in (organization, other.organization):
        _fill(mine, owner)
    deletions.delete_organization(by=membership(owner, organization))
    tasks.erase_due()
    assert Organization.objects.filter(id=organization.id).exists()
    with after(LATER):
        with pytest.raises(errors.InvalidRequest, match="too late"):
            deletions.keep_organization(by=membership(owner, organization))
        tasks.erase_due()
    for model in (UsageMonth, Refusal, Event, Endpoint, Delivery, AuditEvent, ApiKey, Export, Membership):
        kept = set(model.objects.values_list("organization_id", flat=True)) - {None}
        assert kept == {other.organization_id}, model
    assert Attempt.objects.count() == 3
    assert User.objects.filter(id=owner.id).exists()
    assert signed_in(owner).get("/dashboard/organizations").status_code == 200


def _fill(organization: Organization, owner: User) -> None:
    key, _ = api_keys.create(organization=organization, user=owner, name="CI")
    endpoint = factories.endpoint(organization)
    for _ in range(3):
        factories.attempt(factories.delivery(endpoint))
    month = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        fields = {"organization": organization, "api_key_id": key.id}
        UsageMonth.objects.create(month=month.replace(month=1 + number).date(), **fields)
        Refusal.objects.create(id=uuid.uuid4(), minute=month, reason="minute", count=1, **fields)
    Export.objects.create(organization=organization, state=Export.State.FAILED)


def test_a_deletion_that_runs_out_of_time_goes_on_later(owner, organization):
    _fill(organization, owner)
    deletions.delete_organization(by=membership(owner, organization))
    with after(LATER):
        assert erasure.erase_due(for_s=0) == 0
        assert Organization.objects.filter(id=organization.id).exists()
        assert erasure.erase_due() == 1


def test_an_account_goes_with_what_nobody_else_is_in_and_ends_every_session(owner, organization, inbox):
    token, client = api(owner), signed_in(owner)
    _, secret = api_keys.create(organization=organization, user=owner, name="CI")
    assert "Acme" in text_of(client.get(ACCOUNT))
    assert "signed out everywhere" in text_of(client.post(ACCOUNT, MINE))
    assert token.get("/v1/organization").status_code == 401
    assert not WebSession.objects.filter(user=owner).exists()
    assert not TokenSession.objects.filter(user=owner, ended_at=None).exists()
    assert not snapshots.load(secret).enabled
    assert "Your account will be deleted" in inbox[0].subject


def test_a_login_within_the_days_shows_the_way_back(owner, organization):
    deletions.delete_account(user=owner)
    client = signed_in(owner)
    text = text_of(client.get("/dashboard/profile"))
    assert "Your account will be deleted in 6 days" in text or "Your account will be deleted in 7 days" in text
    assert client.post("/dashboard/profile/keep")["Location"] == "/dashboard/profile"
    owner.refresh_from_db()
    organization.refresh_from_db()
    assert (owner.deletion_due_at, organization.deletion_due_at) == (None, None)
    assert "will be deleted" not in text_of(client.get("/dashboard/profile"))


def test_keeping_the_account_keeps_no_organization_that_was_to_go_before(owner, organization):
    deletions.delete_organization(by=membership(owner, organization))
    with after(timedelta(hours=1)):
        deletions.delete_account(user=owner)
        deletions.keep_account(user=User.objects.get(id=owner.id))
    organization.refresh_from_db()
    assert organization.deletion_due_at is not None


def test_the_last_owner_of_others_must_hand_over_first(owner, member, organization):
    client = signed_in(owner)
    assert "Transfer them to somebody" in text_of(client.get(ACCOUNT))
    assert "Transfer them to somebody" in text_of(client.post(ACCOUNT, MINE))
    with pytest.raises(errors.InvalidRequest, match="last owner of “Acme”"):
        deletions.delete_account(user=owner)
    owner.refresh_from_db()
    assert owner.deletion_due_at is None
    Membership.objects.filter(user=member).update(role=Role.OWNER)
    assert deletions.delete_account(user=owner) is not None
    organization.refresh_from_db()
    assert organization.deletion_due_at is None


def test_an_owner_who_is_about_to_go_is_no_other_owner(owner, member, organization):
    Membership.objects.filter(user=member).update(role=Role.OWNER)
    deletions.delete_account(user=member)
    with pytest.raises(errors.InvalidRequest, match="last owner"):
        deletions.delete_account(user=owner)


def test_wrong_words_delete_nothing(owner, organization):
    client = signed_in(owner)
    for field in MINE:
        assert "field__error" in client.post(ACCOUNT, MINE | {field: "wrong"}).content.decode()
    owner.refresh_from_db()
    assert owner.deletion_due_at is None


def test_staff_is_refused_with_the_reason(owner, organization):
    User.objects.filter(id=owner.id).update(is_staff=True)
    client = signed_in(User.objects.get(id=owner.id))
    assert "Staff accounts" in text_of(client.get(ACCOUNT))
    assert "Staff accounts" in text_of(client.post(ACCOUNT, MINE))
    owner.refresh_from_db()
    assert owner.deletion_due_at is None


def test_when_it_is_due_the_account_is_gone_and_its_keys_elsewhere_stay(owner, outsider, organization):
    elsewhere = outsider.memberships.get().organization
    Membership.objects.create(organization=elsewhere, user=owner, role=Role.ADMIN)
    key, _ = api_keys.create(organization=elsewhere, user=owner, name="CI")
    deletions.delete_account(user=owner)
    with after(LATER):
        tasks.erase_due()
    assert not User.objects.filter(id=owner.id).exists()
    assert not Organization.objects.filter(id=organization.id).exists()
    key.refresh_from_db()
    assert (key.created_by, key.revoked_at) == (None, None)


def test_strangers_log_in_first(client):
    for url in (ORGANIZATION, ACCOUNT):
        assert client.post(url, RIGHT)["Location"] == f"/login?next={url}"
    for url in ("/dashboard/settings/keep", "/dashboard/profile/keep"):
        assert client.post(url)["Location"] == f"/login?next={url}"


def test_what_is_kept_at_the_last_moment_loses_nothing(owner, organization):
    """The round that found it due may come to it after it was kept."""
    _fill(organization, owner)
    deletions.delete_organization(by=membership(owner, organization))
    deletions.keep_organization(by=membership(owner, organization))
    assert not erasure.erase_organization(organization.id, time.monotonic() + 60)
    assert (UsageMonth.objects.count(), Event.objects.count() > 0) == (3, True)


def test_one_that_cannot_be_deleted_keeps_no_other(owner, outsider, organization, monkeypatch):
    for user in (owner, outsider):
        deletions.delete_account(user=user)

    def refuse(organization_id: uuid.UUID, limit: int) -> int:
        assert organization_id != organization.id
        return 0

    monkeypatch.setattr(erasure, "_erasers", [refuse])
    with after(LATER):
        assert erasure.erase_due() == 2
    assert list(Organization.objects.all()) == [organization]
    assert list(User.objects.all()) == [owner]


def test_an_export_that_gets_ready_meanwhile_leaves_no_file(owner, organization, settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path
    deletions.delete_organization(by=membership(owner, organization))

    def make_one(*_: object) -> int:
        name = default_storage.save("exports/late.zip", ContentFile(b"PK"))
        Export.objects.create(organization=organization, state=Export.State.READY, file=name)
        return 0

    monkeypatch.setattr(erasure, "_erasers", [make_one])
    with after(LATER):
        assert erasure.erase_due() == 1
    assert default_storage.listdir("exports")[1] == []


def test_who_is_going_keeps_no_organization_that_nobody_else_owns(owner, organization):
    deletions.delete_account(user=owner)
    by = membership(User.objects.get(id=owner.id), organization)
    with pytest.raises(errors.InvalidRequest, match="Keep your account first"):
        deletions.keep_organization(by=by)
    deletions.keep_account(user=by.user)
    organization.refresh_from_db()
    assert organization.deletion_due_at is None


def test_with_an_account_goes_its_playground_key(owner, outsider):
    elsewhere = outsider.memberships.get().organization
    mine = Membership.objects.create(organization=elsewhere, user=owner, role=Role.MEMBER)
    secret = playground.secret_of(mine)
    deletions.delete_account(user=owner)
    with after(LATER):
        tasks.erase_due()
    with pytest.raises(errors.InvalidApiKey):
        snapshots.load(secret)


def test_nothing_that_names_an_organization_is_forgotten():
    """Rows that PostgreSQL doesn't delete along: a table made tomorrow needs an eraser too."""
    with CaptureQueriesContext(connection) as queries:
        for eraser in erasure._erasers:
            eraser(uuid.uuid4(), 1)
    asked = "".join(query["sql"] for query in queries)
    forgotten = []
    for model in apps.get_models():
        named = next((field for field in model._meta.fields if field.column == "organization_id"), None)
        if named is None or model is AuditEvent:  # which has a way of its own
            continue
        goes_along = named.remote_field is not None and named.remote_field.on_delete is models.CASCADE
        if not goes_along and f'"{model._meta.db_table}"' not in asked:
            forgotten.append(model)
    assert forgotten == []
