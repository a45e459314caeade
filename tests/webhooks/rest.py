"""Calls of the REST API, as somebody who is logged in."""

import json
from typing import Any

from django.test import Client

from accounts import jwt, sessions
from accounts.models import User

URL = "/v1/webhooks"


def api(user: User, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def send(client: Client, method: str, url: str, body: object = None) -> Any:
    """Django's test response, with json()."""
    return client.generic(method, url, json.dumps(body) if body is not None else "", "application/json")
