import threading
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import IntegrityError, connection
from django.utils import timezone

from accounts import api_keys, auth, generation
from accounts.models import ApiKey, Organization
from helixflow.lib import errors, redis

DAY = timedelta(days=1)


def generation_of(organization) -> int:
    return Organization.objects.get(id=organization.id).generation


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def test_create_returns_the_secret_and_stores_only_its_digest(organization, owner):
    _, secret = api_keys.create(organization=organization, user=owner, name="CI", models=["gpt-4", "gpt-4"])
    auth.check_form(secret)
    stored = ApiKey.objects.get()
    assert bytes(stored.digest) == auth.digests(secret)[0]
    assert stored.hint[:10] == secret[:10]
    assert stored.allowed_models == ["gpt-4"]
    assert (stored.created_by, stored.environment, stored.status) == (owner, "development", "active")
    with connection.cursor() as cursor:
        cursor.execute("SELECT accounts_apikey::text FROM accounts_apikey")
        assert secret not in cursor.fetchone()[0]


def test_the_secret_is_in_no_log_line(organization, owner, caplog):
    with caplog.at_level("DEBUG"):
        key, secret = api_keys.create(organization=organization, user=owner, name="CI")
        _, second = api_keys.rotate(key=key, user=owner, grace=DAY)
    assert key.public_id in caplog.text
    assert secret not in caplog.text
    assert second not in caplog.text


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\0b", "a\nb", "tab\tbed", "\u202eevil"])
def test_create_refuses_a_bad_name(organization, owner, name):
    with pytest.raises(errors.InvalidRequest) as caught:
        api_keys.create(organization=organization, user=owner, name=name)
    assert caught.value.param == "name"
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("name", ["a", "x" * 100, "<script>alert(1)</script>", "Ключ 🔑"])
def test_create_takes_any_printable_name(organization, owner, name):
    assert api_keys.create(organization=organization, user=owner, name=name)[0].name == name


@pytest.mark.parametrize(
    "models", [[], [""], ["x" * 201], ["a\nb"], ["gpt-4'; rm -rf"], ["two words"], [f"m{n}" for n in range(101)]]
)
def test_create_refuses_bad_models(organization, owner, models):
    with pytest.raises(errors.InvalidRequest) as caught:
        api_keys.create(organization=organization, user=owner, name="CI", models=models)
    assert caught.value.param == "models"


def test_create_names_every_bad_field(organization, owner):
    with pytest.raises(errors.InvalidRequest) as caught:
        api_keys.create(
            organization=organization, user=owner, name="", environment="moon", expires_at=timezone.now() - DAY
        )
    assert set(caught.value.details) == {"name", "environment", "expires_at"}


def test_an_organization_has_at_most_so_many_active_keys(organization, owner, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_ACTIVE", 2)
    first, _ = api_keys.create(organization=organization, user=owner, name="1")
    second, _ = api_keys.create(organization=organization, user=owner, name="2")
    with pytest.raises(errors.InvalidRequest, match="2 active keys"):
        api_keys.create(organization=organization, user=owner, name="3")
    with pytest.raises(errors.InvalidRequest, match="2 active keys"):
        api_keys.rotate(key=first, user=owner, grace=DAY)
    api_keys.rotate(key=first, user=owner, grace=timedelta(0))  # swaps one for one
    api_keys.revoke(key=second, user=owner)
    api_keys.create(organization=organization, user=owner, name="3")


def test_the_same_secret_cannot_be_stored_twice(organization, owner, key, monkeypatch):
    monkeypatch.setattr(auth, "digests", lambda secret: [bytes(key.digest)])
    with pytest.raises(IntegrityError):
        api_keys.create(organization=organization, user=owner, name="twin")


def test_rotation_keeps_the_old_key_for_the_grace(organization, owner, key):
    key = api_keys.update(key=key, environment="production", models=["gpt-4"])
    with time_machine.travel(datetime(2026, 3, 1, tzinfo=UTC), tick=False):
        successor, secret = api_keys.rotate(key=key, user=owner, grace=2 * DAY)
        key.refresh_from_db()
        assert key.expires_at == datetime(2026, 3, 3, tzinfo=UTC)
        assert (key.rotated_to, key.status) == (successor, "active")
    with time_machine.travel(datetime(2026, 3, 3, tzinfo=UTC), tick=False):
        assert key.status == "expired"
    assert bytes(successor.digest) == auth.digests(secret)[0] != bytes(key.digest)
    assert (successor.name, successor.environment, successor.allowed_models, successor.expires_at) == (
        "CI",
        "production",
        ["gpt-4"],
        None,
    )


def test_grace_never_prolongs_a_key_and_the_successor_inherits_its_expiry(organization, owner, key):
    soon = timezone.now() + timedelta(hours=1)
    key = api_keys.update(key=key, expires_at=soon)
    successor, _ = api_keys.rotate(key=key, user=owner, grace=7 * DAY)
    key.refresh_from_db()
    assert key.expires_at == successor.expires_at == soon


def test_rotation_without_grace_ends_the_old_key_at_once(owner, key):
    api_keys.rotate(key=key, user=owner, grace=timedelta(0))
    key.refresh_from_db()
    assert key.status == "expired"


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), 7 * DAY + timedelta(seconds=1)])
def test_rotation_refuses_other_graces(owner, key, grace):
    with pytest.raises(errors.InvalidRequest, match="0 to 7 days"):
        api_keys.rotate(key=key, user=owner, grace=grace)


def test_a_key_is_rotated_once(owner, key):
    api_keys.rotate(key=key, user=owner, grace=DAY)
    with pytest.raises(errors.InvalidRequest, match="rotated already"):
        api_keys.rotate(key=key, user=owner, grace=DAY)
    with pytest.raises(errors.InvalidRequest, match="ends with its grace"):
        api_keys.update(key=key, expires_at=timezone.now() + 300 * DAY)
    assert ApiKey.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_who_rotate_at_once_one_wins(organization, owner, key):
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def rotate() -> None:
        start.wait()
        try:
            api_keys.rotate(key=key, user=owner, grace=DAY)
            outcomes.append("won")
        except errors.InvalidRequest as error:
            outcomes.append(error.message)
        finally:
            connection.close()

    threads = [threading.Thread(target=rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes.count("won") == 1
    assert len(outcomes) == 8
    assert ApiKey.objects.count() == 2


def test_a_revoked_or_expired_key_is_not_rotated(organization, owner, key):
    api_keys.revoke(key=key, user=owner)
    with pytest.raises(errors.InvalidRequest, match="revoked"):
        api_keys.rotate(key=key, user=owner, grace=DAY)
    short, _ = api_keys.create(
        organization=organization, user=owner, name="short", expires_at=timezone.now() + timedelta(seconds=5)
    )
    with (
        time_machine.travel(timezone.now() + timedelta(seconds=6)),
        pytest.raises(errors.InvalidRequest, match="expired"),
    ):
        api_keys.rotate(key=short, user=owner, grace=DAY)


def test_revoking_twice_changes_nothing(organization, owner, key):
    first = api_keys.revoke(key=key, user=owner)
    known = generation_of(organization)
    again = api_keys.revoke(key=key, user=owner)
    assert again.revoked_at == first.revoked_at
    assert generation_of(organization) == known


def test_update_changes_only_what_is_given(owner, key):
    changed = api_keys.update(key=key, name="Deploys", models=["gpt-4"])
    assert (changed.name, changed.allowed_models, changed.environment) == ("Deploys", ["gpt-4"], "development")
    changed = api_keys.update(key=key, models=None)
    assert (changed.name, changed.allowed_models) == ("Deploys", None)


def test_an_expired_key_can_be_renamed_and_given_a_new_expiry(organization, owner):
    end = timezone.now() + timedelta(seconds=5)
    key, _ = api_keys.create(organization=organization, user=owner, name="short", expires_at=end)
    with time_machine.travel(end + DAY):
        assert api_keys.update(key=key, name="old", expires_at=end).name == "old"
        assert api_keys.update(key=key, expires_at=None).status == "active"


def test_a_revoked_key_cannot_be_changed(owner, key):
    api_keys.revoke(key=key, user=owner)
    with pytest.raises(errors.InvalidRequest, match="revoked"):
        api_keys.update(key=key, name="zombie")


def test_update_knows_no_other_fields(key):
    with pytest.raises(TypeError):
        api_keys.update(key=key, revoked_at=None)


@pytest.mark.django_db(transaction=True)
def test_every_change_is_announced_to_all_processes(organization, owner):
    def announced() -> int:
        return int(redis.sync_client().get(generation.redis_key(organization.id)) or 0)

    key, _ = api_keys.create(organization=organization, user=owner, name="CI")
    seen = [announced()]
    api_keys.update(key=key, name="CI 2")
    seen.append(announced())
    successor, _ = api_keys.rotate(key=key, user=owner, grace=DAY)
    seen.append(announced())
    api_keys.revoke(key=successor, user=owner)
    seen.append(announced())
    assert seen == [2, 3, 4, 5]
    assert generation_of(organization) == 5


def test_last_use_only_moves_forward(organization, owner, key):
    other, _ = api_keys.create(organization=organization, user=owner, name="other")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    api_keys.record_use({key.id: noon, other.id: noon})
    api_keys.record_use({key.id: noon + DAY, other.id: noon - DAY})
    key.refresh_from_db()
    other.refresh_from_db()
    assert (key.last_used_at, other.last_used_at) == (noon + DAY, noon)
    api_keys.record_use({})


def test_recording_use_is_two_queries_however_many_keys(organization, owner, django_assert_num_queries):
    made = [api_keys.create(organization=organization, user=owner, name=f"{n}")[0] for n in range(20)]
    with django_assert_num_queries(2 + 2):  # select and update, within savepoints
        api_keys.record_use({key.id: timezone.now() for key in made})
