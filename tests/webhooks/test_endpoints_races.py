"""Endpoints change while their deliveries are made."""

import random
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from helixflow.lib import errors
from tests import factories
from webhooks import deliveries, endpoints, queue
from webhooks.models import Attempt, Delivery, Endpoint

pytestmark = pytest.mark.django_db(transaction=True)

DELIVERIES = 80


def together(*functions: Callable[[], object]) -> list[BaseException]:
    """What they raised, all at once, each on a connection of its own."""
    raised: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  # the test judges it
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return raised


def work(endpoint_id, seed: int) -> None:
    """A lane that claims and records until nothing is due; every second call fails."""
    dice = random.Random(seed)
    while True:
        endpoint = Endpoint.objects.get(id=endpoint_id)
        lease, claimed = queue.claim(endpoint)
        if not claimed or endpoint.deleted_at is not None:
            queue.release(lease)
            return
        for delivery in claimed:
            failed = dice.random() < 0.5
            outcome = queue.Outcome(
                started_at=timezone.now(),
                duration_ms=1,
                url=endpoint.url,
                request_headers={},
                status=500 if failed else 204,
                error_code="status" if failed else "",
            )
            queue.record(lease=lease, endpoint=endpoint, delivery=delivery, outcome=outcome, next_attempt_at=None)


def test_deleting_beside_deliverers_leaves_nothing_pending(endpoint, owner, nudged, monkeypatch):
    monkeypatch.setattr("webhooks.queue.STRAYS", 7)
    for _ in range(DELIVERIES):
        factories.delivery(endpoint)
    raised = together(
        *(lambda seed=seed: work(endpoint.id, seed) for seed in range(3)),
        lambda: endpoints.delete(endpoint=endpoint, user=owner),
    )
    assert raised == []
    while queue.cancel_strays():  # what was in hand just then, which the sweeper has in as many rounds
        pass
    assert Delivery.objects.count() == DELIVERIES
    assert not Delivery.objects.filter(state="pending").exists()
    assert not Delivery.objects.exclude(lease=None).exists()


def test_changes_beside_deliverers_harm_nothing(endpoint, owner, nudged):
    for _ in range(DELIVERIES):
        factories.delivery(endpoint)

    def change() -> None:
        for n in range(20):
            endpoints.update(endpoint=endpoint, user=owner, description=f"{n}")

    assert together(*(lambda seed=seed: work(endpoint.id, seed) for seed in range(3)), change) == []
    assert Attempt.objects.count() == DELIVERIES
    assert Endpoint.objects.get().description == "19"


def test_what_is_sent_again_beside_deliverers_ends(endpoint, owner, nudged, monkeypatch):
    monkeypatch.setattr("webhooks.deliveries._BATCH", 5)
    for _ in range(DELIVERIES):
        factories.delivery(endpoint, state="failed", next_attempt_at=None)
    since, until = endpoint.created_at, timezone.now() + timedelta(seconds=1)  # the last one's millisecond too
    counts: list[int] = []

    def resend() -> None:
        counts.append(deliveries.resend_failed(endpoint=endpoint, user=owner, since=since, until=until))

    assert together(resend, resend, *(lambda seed=seed: work(endpoint.id, seed) for seed in range(2))) == []
    work(endpoint.id, 7)  # the lanes may have come before there was anything
    assert not Delivery.objects.filter(state="pending").exists()
    assert not Delivery.objects.exclude(lease=None).exists()
    assert Attempt.objects.count() == sum(counts) >= DELIVERIES


def test_of_two_who_rotate_at_once_one_is_refused(endpoint, owner):
    secrets: list[str] = []

    def rotate() -> None:
        secrets.append(endpoints.rotate_secret(endpoint=endpoint, user=owner)[1])

    raised = together(rotate, rotate)
    assert [type(error) for error in raised] == [errors.InvalidRequest]
    stored = Endpoint.objects.get()
    assert [stored.secret, stored.previous_secret] == [*secrets, factories.SECRET]
