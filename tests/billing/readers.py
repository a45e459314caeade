"""Callers of the usage API, for tests."""

from django.test import Client

from accounts import api_keys, jwt, sessions
from billing import events
from tests.billing import usage_events


def login(user, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def with_key(secret: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {secret}"})


def new_key(organization, user, name="CI"):
    """The key and its secret."""
    return api_keys.create(organization=organization, user=user, name=name)


def meter(key, *, book=None, **fields) -> events.Usage:
    """One request made with ``key``, as the meter writes it."""
    event: events.Usage = usage_events.usage(
        organization_id=key.organization_id, api_key_id=key.id, user_id=key.created_by_id, **fields
    )
    usage_events.write(event, book=book)
    return event
