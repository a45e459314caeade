"""The examples of events, in the catalogue and in test events, against what the meter publishes."""

import pytest

from billing import events
from billing.models import Plan, Subscription
from helixflow.lib import errors
from tests.billing.metering.announced import listen, told
from tests.billing.usage_events import refused, usage, write
from webhooks import payloads
from webhooks.models import EventType

pytestmark = pytest.mark.django_db


def shape(value: object) -> object:
    """Names and types, all the way down."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value).__name__


# The meter's own; tests/inference/batch/test_announcing.py has the batches'.
@pytest.mark.parametrize("event_type", set(EventType) - {EventType.BATCH_COMPLETED})
def test_an_example_has_the_fields_of_what_is_published(organization, owner, event_type):
    listen(organization)
    plan = Plan.objects.create(slug="small", name="Small", requests_per_minute=10, requests_per_month=2)
    Subscription.objects.create(organization=organization, plan=plan)
    who = {"organization_id": organization.id, "user_id": owner.id, "end_user": "alice"}
    broken_off = {"status": 503, "error_code": "timeout", "tokens": events.Tokens(input=3, output=1)}
    write(usage(**who), usage(**who, **broken_off), refused(organization_id=organization.id))
    published = told(event_type)
    assert published
    for data in published:
        assert shape(data) == shape(payloads.example(event_type, organization.public_id))


def test_the_error_of_the_example_is_one_of_the_platforms():
    error = payloads.example(EventType.COMPLETION_FAILED, "org-1")["error"]
    assert error == {"code": errors.UpstreamTimeout.code, "message": errors.UpstreamTimeout.default_message}
