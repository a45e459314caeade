"""What tests of the team share: who looks at its pages and calls its endpoints, and things done at once."""

import json
import re
import threading
from collections.abc import Callable
from html import unescape
from typing import Any

from django.core.mail import EmailMessage
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import jwt, sessions
from accounts.models import Membership, Organization, User


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def api(user: User, **headers: str) -> Client:
    session = sessions.start(user=user, address="127.0.0.1", user_agent="tests")
    return Client(headers={"Authorization": f"Bearer {jwt.access_token(session)}", **headers})


def send(client: Client, method: str, url: str, body: object = None) -> Any:
    """Django's test response, with json()."""
    return client.generic(method, url, json.dumps(body) if body is not None else "", "application/json")


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def verified(user: User) -> User:
    user.email_verified_at = timezone.now()
    user.save()
    return user


def membership(user: User, organization: Organization) -> Membership:
    return Membership.objects.select_related("organization", "user").get(user=user, organization=organization)


def link_in(mail: EmailMessage) -> str:
    """The path of the link that a mail holds."""
    found = re.search(r"https?://[^/\s]+(/invitations/\w+)", str(mail.body))
    assert found is not None
    return found[1]


def together(*functions: Callable[[], object]) -> list[BaseException]:
    """What they raised, all at once, each on a connection of its own."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(len(functions), timeout=30)

    def run(function: Callable[[], object]) -> None:
        try:
            barrier.wait()
            function()
        except BaseException as error:  # noqa: BLE001  # the test judges it
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return raised
