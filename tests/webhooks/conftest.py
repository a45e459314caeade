"""What tests of webhooks share: an endpoint, a delivery of it, and what the queue was told."""

import uuid

import pytest

from accounts import api_keys
from accounts.models import ApiKey
from helixflow.lib import errors
from tests import factories
from webhooks.models import Delivery, Endpoint


@pytest.fixture
def endpoint(organization, owner) -> Endpoint:
    """Of all events, enabled, of ``organization``; its secret is ``factories.SECRET``."""
    return factories.endpoint(organization, created_by=owner)


@pytest.fixture
def delivery(endpoint) -> Delivery:
    """Pending and due, of a completion.created."""
    return factories.delivery(endpoint)


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[uuid.UUID, int]]:
    """The endpoints that workers are told to look at, and for how many deliveries; nobody hears it."""
    told: list[tuple[uuid.UUID, int]] = []

    def nudge(endpoint_id: uuid.UUID, deliveries: int = 1, **_: object) -> None:
        told.append((endpoint_id, deliveries))

    monkeypatch.setattr("webhooks.queue.nudge", nudge)
    return told


@pytest.fixture
def names_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address is safe but those that say ``inside``: which are is tested with helixflow.lib.http."""

    def check_url(url: str) -> None:
        if "inside" in url:
            raise errors.InvalidRequest("This address is not public.", param="url")

    monkeypatch.setattr("helixflow.lib.http.check_url", check_url)
