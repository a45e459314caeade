from decimal import Decimal

import pytest
from django.utils import timezone

from accounts import api_keys
from helixflow.lib import clock
from inference.batch import announcing
from inference.batch_models import ENDED
from tests.billing.metering.announced import delivered, listen, told
from tests.billing.metering.test_examples import shape
from tests.inference.batch import rows
from webhooks import payloads
from webhooks.models import EventType


@pytest.fixture
def key(organization, owner):
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.mark.parametrize("status", ENDED)
def test_the_end_of_a_batch_is_told_once_with_how_it_ended(organization, key, status):
    listen(organization)
    ended_at = timezone.now()
    files = {"output_file_id": key.id, "error_file_id": key.id}
    batch = rows.batch(
        key,
        [200, 400],
        status=status,
        cost=Decimal("0.01"),
        prompt_tokens=2,
        completion_tokens=3,
        **files,
        **{f"{status}_at": ended_at},
    )
    announcing.completed(batch)
    announcing.completed(batch)
    (data,) = told(EventType.BATCH_COMPLETED)
    assert shape(data) == shape(payloads.example(EventType.BATCH_COMPLETED, organization.public_id))
    assert (data["id"], data["status"], data["ended_at"]) == (batch.public_id, status, clock.rfc3339(ended_at))
    assert data["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert data["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_it_goes_to_those_who_asked_for_its_keys_events_whatever_models_they_name(organization, owner, key):
    other, _ = api_keys.create(organization=organization, user=owner, name="other")
    mine = listen(organization, api_key_ids=[key.id], model_names=["gpt-4"])
    others = listen(organization, api_key_ids=[other.id])
    announcing.completed(rows.batch(key, [200], completed_at=timezone.now()))
    assert (len(delivered(mine)), delivered(others)) == (1, [])
