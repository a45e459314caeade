"""A worker's turn at a batch, with the gateway on a real socket and the fake upstream behind it."""

import pytest

from accounts.models import ApiKey
from inference.batch import files
from inference.batch_models import BatchStatus, StoredFile
from tests.inference.batch import engine
from tests.inference.settled import usage_events, used


@pytest.fixture
def key(token, organization) -> ApiKey:
    return ApiKey.objects.get()


@pytest.fixture(autouse=True)
def _settings(settings) -> None:
    settings.BATCH_DELAYS_S = (0.1, 0.1)


@pytest.fixture
def gateway(plane, deployment, settings, patient_with_redis):
    settings.BATCH_URL = plane.url.removesuffix("/v1")
    return plane


def test_requests_are_asked_in_the_keys_name_and_answered_in_order(gateway, key, upstream, organization):
    batch = engine.work(engine.make(key, 20))
    assert (batch.status, batch.total, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 20, 20, 0)
    assert len(upstream.requests) == 20
    assert engine.states(batch) == ["completed"] * 20
    output = StoredFile.objects.get(id=batch.output_file_id)
    lines = list(files.lines(output))
    assert len(lines) == 20
    assert used(organization) == 20
    events = usage_events(organization)
    assert {event.api_key_id for event in events} == {key.id}
