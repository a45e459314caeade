"""What the logs don't hold, at their most talkative: secrets of endpoints, and what is in the query of their URLs."""

import logging

import pytest

from tests import factories
from tests.fakes import receiver as fake
from tests.fakes.receiver import Receiver
from webhooks import endpoints, sending
from webhooks.models import Attempt

pytestmark = pytest.mark.django_db
TOKEN = "token-of-the-receiver"


@pytest.mark.parametrize("behaviour", [fake.status(200), fake.status(503), fake.close()])
def test_no_secret_and_no_query_is_logged(organization, owner, nudged, settings, caplog, behaviour):
    settings.WEBHOOK_ALLOW_LOOPBACK = True
    caplog.set_level(logging.DEBUG)
    with Receiver() as receiver:
        receiver.script(behaviour)
        url = f"{receiver.url}?token={TOKEN}"
        hook, secret = endpoints.create(organization=organization, user=owner, url=url, events=["completion.created"])
        factories.delivery(hook)
        assert sending.work(hook.id) == 1
        assert TOKEN in receiver.wait_for(1)[0].path
    endpoints.delete(endpoint=hook, user=owner)
    assert Attempt.objects.get().url == url
    assert hook.public_id in caplog.text
    for kept in (TOKEN, secret, hook.sealed_secret):
        assert kept not in caplog.text
