"""PostgreSQL is killed while an organization has its contents stored: nobody's request notices, and they come later."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from inference import contents
from inference.models import StoredContents
from tests.billing.admitting import Account
from tests.factories import deploy
from tests.faults.world import PATIENT, Server, chat, environment, request_id
from tests.stack import wait_for
from tests.web import Web, running_web


@pytest.fixture
def account(postgresql, valkey) -> Account:
    made = Account.make()
    Organization.objects.update(contents_days=7, contents_since=timezone.now())
    return made


@pytest.fixture
def web(account, upstream, data_dir) -> Iterator[Web]:
    deploy(upstream)
    with running_web(environment=environment(data_dir) | PATIENT) as running:
        yield running


def test_contents_wait_for_postgresql_and_requests_do_not(web, account, postgresql: Server):
    served = {request_id(chat(web, account.key.token))}
    wait_for(StoredContents.objects.exists)
    connection.close()
    postgresql.kill()
    for _ in range(5):
        answer = chat(web, account.key.token)
        assert answer.status_code == 200
        served.add(request_id(answer))
    postgresql.start()
    wait_for(lambda: StoredContents.objects.count() == 6)
    assert set(StoredContents.objects.values_list("id", flat=True)) == served
    organization = Organization.objects.get()
    assert all(contents.of(organization, each).answer.turns for each in served)  # type: ignore[union-attr]  # it is there
