"""An organization with a key, and the gateway on a real socket, where workers send to."""

import pytest

from accounts.models import ApiKey
from tests.billing.admitting import Account
from tests.inference.batch import engine


@pytest.fixture
def account(transactional_db) -> Account:
    return Account.make(requests_per_minute=engine.MINUTE)


@pytest.fixture
def key(account) -> ApiKey:
    row: ApiKey = account.key.row
    return row


@pytest.fixture
def gateway(plane, deployment, settings, patient_with_redis):
    settings.BATCH_URL = plane.url.removesuffix("/v1")
    settings.BATCH_DELAYS_S = (0, 0)
    return plane
