"""Rotating a secret: both are used for a while, until the owner finishes or a day has passed."""

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from helixflow.lib import errors
from tests import factories
from webhooks import endpoints
from webhooks.models import Endpoint

pytestmark = pytest.mark.django_db


def test_the_new_secret_is_beside_the_one_before(endpoint, owner):
    rotated, secret = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    stored = Endpoint.objects.get()
    assert (stored.secret, stored.previous_secret) == (secret, factories.SECRET)
    assert secret != factories.SECRET
    assert secret.startswith("whsec_")
    assert rotated.rotation_ends_at == stored.rotation_ends_at
    assert stored.rotation_ends_at is not None
    assert timedelta(hours=23.9) < stored.rotation_ends_at - timezone.now() <= timedelta(hours=24)


def test_secrets_are_sealed_and_in_no_log_line(endpoint, owner, caplog):
    with caplog.at_level("DEBUG"):
        _, secret = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    with connection.cursor() as cursor:
        cursor.execute("SELECT webhooks_endpoint::text FROM webhooks_endpoint")
        stored = cursor.fetchone()[0]
    for hidden in (secret, factories.SECRET):
        assert hidden not in stored
        assert hidden not in caplog.text
    assert endpoint.public_id in caplog.text


def test_finishing_leaves_the_new_one_alone(endpoint, owner):
    _, secret = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    endpoints.finish_rotation(endpoint=endpoint, user=owner)
    stored = Endpoint.objects.get()
    assert (stored.secret, stored.previous_secret, stored.sealed_previous_secret) == (secret, None, "")
    assert not stored.is_rotating


def test_finishing_what_is_not_under_way_changes_nothing(endpoint, owner):
    endpoints.finish_rotation(endpoint=endpoint, user=owner)
    assert Endpoint.objects.get().secret == factories.SECRET


def test_a_second_rotation_has_to_wait_for_the_first(endpoint, owner):
    _, secret = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    with pytest.raises(errors.InvalidRequest, match="Finish it first"):
        endpoints.rotate_secret(endpoint=endpoint, user=owner)
    stored = Endpoint.objects.get()
    assert (stored.secret, stored.previous_secret) == (secret, factories.SECRET)
    endpoints.finish_rotation(endpoint=endpoint, user=owner)
    _, third = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    stored = Endpoint.objects.get()
    assert (stored.secret, stored.previous_secret) == (third, secret)


def test_after_a_day_it_is_over_and_another_can_begin(endpoint, owner):
    with time_machine.travel(0) as clock:
        clock.move_to("2026-03-01T12:00:00Z")
        _, second = endpoints.rotate_secret(endpoint=endpoint, user=owner)
        clock.shift(timedelta(hours=24, seconds=-1))
        assert Endpoint.objects.get().previous_secret == factories.SECRET
        clock.shift(timedelta(seconds=1))
        assert Endpoint.objects.get().previous_secret is None
        _, third = endpoints.rotate_secret(endpoint=endpoint, user=owner)
        assert (Endpoint.objects.get().secret, Endpoint.objects.get().previous_secret) == (third, second)


@pytest.mark.parametrize("verb", [endpoints.rotate_secret, endpoints.finish_rotation])
def test_a_deleted_one_is_not_found(endpoint, owner, verb):
    endpoints.delete(endpoint=endpoint, user=owner)
    with pytest.raises(errors.NotFound):
        verb(endpoint=endpoint, user=owner)
    assert Endpoint.objects.get().sealed_secret == ""


def test_a_secret_that_can_not_be_opened_is_replaced_at_once(endpoint, owner):
    Endpoint.objects.update(sealed_secret="under a key that is gone")
    _, secret = endpoints.rotate_secret(endpoint=endpoint, user=owner)
    stored = Endpoint.objects.get()
    assert (stored.secret, stored.previous_secret, stored.is_rotating) == (secret, None, False)
