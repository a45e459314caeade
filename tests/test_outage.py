"""Every page while PostgreSQL is away, for somebody who is signed in: told as what it is, and at once.

The addresses come from the URL list itself; those of the status tell of the outage (helixflow/test_status.py).
"""

from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from accounts.models import Organization, User
from tests import belongings, sitemap

PAGES = [route for route in sitemap.routes() if not route.is_api and not route.template.startswith("/status")]


class Away:
    """A database that doesn't answer, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *_: Any) -> None:
        self.asked += 1
        raise OperationalError("connection timeout expired")


@pytest.fixture
def named(organization: Organization, owner: User) -> dict[str, str]:
    return belongings.shared() | belongings.of(organization, owner)


@pytest.mark.parametrize("method", ["get", "post"])
def test_pages_say_so_and_ask_once(owner: User, named: dict[str, str], method: str) -> None:
    """Each further question would take as long as the first: the time in which connecting is given up."""
    wrong = {}
    browser = Client(raise_request_exception=False)
    browser.force_login(owner)
    for route in PAGES:
        away = Away()
        with connection.execute_wrapper(away):
            answer = getattr(browser, method)(route.template.format(**{"token": "x"} | named))
        if answer.status_code == 503:
            is_plain = answer["Retry-After"] == "5" and "We'll be right back" in answer.content.decode()
        else:
            is_plain = answer.status_code in {200, 302, 403, 404, 405}
        if not is_plain or away.asked > 1:
            wrong[route.template] = (answer.status_code, away.asked)
    assert wrong == {}
