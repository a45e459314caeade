"""One endpoint that hangs, one that answers slowly for ever, one that floods: the others stay on time."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests import factories
from tests.fakes.receiver import Behaviour, Call, Receiver, after, drip_body, drip_head, flood, hang, status
from tests.stack import wait_for
from tests.webhooks import workers
from webhooks import sending, services
from webhooks.models import Attempt, Delivery, Endpoint, EventType

pytestmark = pytest.mark.django_db(transaction=True)
BAD: dict[str, Behaviour] = {
    "/hangs": hang(),
    "/drips": drip_body(),
    "/drips-its-head": drip_head(),
    "/floods": flood(),
}
GOOD = ("/good", "/better", "/best")
ROUNDS, EVERY_S = 40, 0.1
TIMEOUT_S = 3
SLOW = {"/slow": after(TIMEOUT_S * 0.8, status()), "/not-quick": after(TIMEOUT_S * 0.3, status())}
GENEROUS_S = 8.0  # what a busy machine may need; a good endpoint behind the bad ones would wait for tens of seconds
GROWTH_BYTES = 48 * 1024 * 1024
QUICK = {
    "HELIXFLOW_WEBHOOK_DELAYS_S": "0,60",
    "HELIXFLOW_WEBHOOK_TIMEOUT_S": str(TIMEOUT_S),
    "HELIXFLOW_WEBHOOK_LEASE_S": "60",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    def answer(call: Call) -> Behaviour:
        return (BAD | SLOW).get(call.path, status())

    with Receiver() as running:
        running.answer = answer
        yield running


@pytest.fixture
def endpoints(organization, receiver, settings) -> Iterator[dict[str, Endpoint]]:
    """By path."""
    base = receiver.url.removesuffix(receiver.path)
    with workers.broker(settings.REDIS_URL):
        yield {path: factories.endpoint(organization, f"{base}{path}") for path in (*GOOD, *BAD)}


def publish_steadily(endpoint: Endpoint) -> None:
    happening = services.Happening(endpoint.organization_id, EventType.QUOTA_LOW, {"threshold": 80})
    for _ in range(ROUNDS):
        services.publish_all([happening])
        time.sleep(EVERY_S)


class Watch(threading.Thread):
    """The most memory that a worker had."""

    def __init__(self, worker: workers.Worker) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self._worker = worker
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self._worker.resident_bytes)

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.most


def test_bad_receivers_delay_nobody_else(endpoints, receiver, tmp_path: Path) -> None:
    good = [endpoints[path] for path in GOOD]
    with workers.deliverer(tmp_path, **QUICK) as worker:
        services.publish_all([services.Happening(good[0].organization_id, EventType.QUOTA_LOW, {"threshold": 80})])
        receiver.wait_for(len(endpoints), seconds=40)  # it is warm, and the bad ones have their first lane
        before, watch = worker.resident_bytes, Watch(worker)
        watch.start()
        publish_steadily(good[0])
        wait_for(lambda: not Delivery.objects.filter(endpoint__in=good, state="pending").exists())
        wait_for(lambda: all(endpoint.attempts.count() >= 4 for path, endpoint in endpoints.items() if path in BAD))
        most = watch.stop()
        assert "Traceback" not in worker.output
    late = [
        attempt.started_at - attempt.delivery.created_at
        for attempt in Attempt.objects.filter(endpoint__in=good).select_related("delivery")
    ]
    assert len(late) == len(GOOD) * (ROUNDS + 1)
    assert max(late[len(GOOD) :]) < timedelta(seconds=GENEROUS_S)
    assert most - before < GROWTH_BYTES


@pytest.mark.parametrize("path", ["/hangs", "/slow", "/not-quick"])
def test_however_many_hold_threads_they_leave_some_to_the_others(
    organization, receiver, settings, tmp_path: Path, path: str
) -> None:
    """With four lanes each they could fill all there are, whether they fail or succeed slowly."""
    base = receiver.url.removesuffix(receiver.path)
    with workers.broker(settings.REDIS_URL):
        bad = [factories.endpoint(organization, f"{base}{path}") for _ in range(20)]
        happening = services.Happening(organization.id, EventType.QUOTA_LOW, {"threshold": 80})
        with workers.deliverer(tmp_path, **QUICK):
            services.publish_all([happening])
            wait_for(lambda: Attempt.objects.count() == len(bad))
            good = factories.endpoint(organization, f"{base}/good")
            publish_steadily(good)
            wait_for(lambda: not good.deliveries.filter(state="pending").exists())
    attempts = good.attempts.select_related("delivery")
    late = [attempt.started_at - attempt.delivery.created_at for attempt in attempts]
    assert len(late) == ROUNDS
    assert max(late) < timedelta(seconds=GENEROUS_S)


def test_what_is_written_of_them(endpoints, receiver, tmp_path: Path) -> None:
    happening = services.Happening(endpoints["/good"].organization_id, EventType.QUOTA_LOW, {"threshold": 80})
    with workers.deliverer(tmp_path, **QUICK):
        services.publish_all([happening])
        wait_for(lambda: Attempt.objects.count() == len(endpoints))
    attempts = {path: endpoint.attempts.get() for path, endpoint in endpoints.items()}
    assert all(attempts[path].succeeded for path in GOOD)
    for path in ("/hangs", "/drips", "/drips-its-head"):
        assert (attempts[path].succeeded, attempts[path].error_code) == (False, "timeout")
        assert TIMEOUT_S * 900 < attempts[path].duration_ms < (TIMEOUT_S + GENEROUS_S) * 1000
    flooded = attempts["/floods"]
    assert (flooded.succeeded, flooded.status, flooded.error_code) == (False, 200, sending.TOO_LONG)
    assert flooded.response_truncated
    assert len(flooded.response_body) == sending.KEPT_BYTES
    wait_for(lambda: not receiver.open, what="connections to the receiver stay open")
