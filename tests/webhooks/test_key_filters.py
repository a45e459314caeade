"""An endpoint that is limited to a key goes on hearing of it after the key's rotation."""

from datetime import timedelta

import pytest

from accounts import api_keys
from tests import factories
from webhooks import endpoints

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("days", [0, 7])
def test_a_filter_takes_over_the_successor(endpoint, owner, key, days):
    endpoints.update(endpoint=endpoint, user=owner, api_keys=[key.public_id])
    successor, _ = api_keys.rotate(key=key, user=owner, grace=timedelta(days=days))
    endpoint.refresh_from_db()
    assert endpoint.api_key_ids == [key.id, successor.id]


def test_other_endpoints_stay_as_they_are(organization, owner, key):
    other, _ = api_keys.create(organization=organization, user=owner, name="other")
    of_all = factories.endpoint(organization)
    of_another = factories.endpoint(organization, api_key_ids=[other.id])
    api_keys.rotate(key=key, user=owner, grace=timedelta(days=1))
    of_all.refresh_from_db()
    of_another.refresh_from_db()
    assert (of_all.api_key_ids, of_another.api_key_ids) == (None, [other.id])
