"""What becomes of batches while the processes that work on them end, and their servers go away."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.billing.admitting import Account
from tests.factories import deploy
from tests.faults import batch_world
from tests.inference.batch import engine
from tests.web import running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """Processes entered here end with the test."""
    with ExitStack() as stack:
        yield stack


def test_killed_workers_lose_nothing_and_repeat_nothing(upstream, data_dir, running):
    deploy(upstream)
    account = Account.make()
    batch_world.slow(upstream, 0.02)
    web = running.enter_context(running_web())
    worker = running.enter_context(batch_world.batcher(data_dir, web))
    batch = engine.make(account.key.row, 500)
    seen = []
    for reached in (50, 200, 350):
        seen += batch_world.until_settled(batch, reached)
        worker.kill()
        worker.start()
    seen += batch_world.until_ended(batch)
    assert seen == sorted(seen)
    assert batch.status == "completed"
    batch_world.check(batch, account, upstream, completed=500)
