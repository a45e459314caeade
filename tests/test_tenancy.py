"""Nothing of one organization is another's: every address that names something, tried by everybody it isn't for.

The addresses come from the URL list itself. One with a parameter that ``tests.belongings`` doesn't know fails here: say
there what it names.
"""

from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from accounts import api_keys, jwt, sessions
from accounts.models import Organization, User
from tests import belongings, sitemap
from tests.sitemap import Route

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NAMING = [route for route in sitemap.routes() if route.parameters]
OWNED = [
    route for route in NAMING if route.parameters - belongings.OF_NOBODY.keys() and "token" not in route.parameters
]


@pytest.fixture
def theirs(organization: Organization, owner: User) -> dict[str, str]:
    return belongings.of(organization, owner)


def send(client: Client, method: str, url: str) -> Any:
    """A body that is right nowhere: what is asked for is looked up before it is read."""
    return client.generic(method, url, "{}" if url.startswith("/v1/") else "", _content_type(url))


def _content_type(url: str) -> str:
    return "application/json" if url.startswith("/v1/") else "application/x-www-form-urlencoded"


def callers(user: User) -> dict[str, Client]:
    """A browser's session; and a login's token and an API key."""
    browser = Client()
    browser.force_login(user)
    token = jwt.access_token(sessions.start(user=user, address="127.0.0.1", user_agent="tests"))
    _, key = api_keys.create(organization=user.memberships.get().organization, user=user, name="theirs")
    bearers = {"login": token, "API key": key}
    return {"session": browser} | {
        name: Client(headers={"Authorization": f"Bearer {bearer}"}) for name, bearer in bearers.items()
    }


def told(
    route: Route, theirs: dict[str, str], clients: dict[str, Client], methods: tuple[str, ...] = METHODS
) -> dict[tuple[str, str], int]:
    """Status by caller and method: pages are for sessions, the API for the others."""
    url = route.template.format(**belongings.shared() | theirs)
    return {
        (who, method): send(client, method, url).status_code
        for who, client in clients.items()
        if (who == "session") is not route.is_api
        for method in methods
    }


def test_every_parameter_is_known(theirs: dict[str, str]) -> None:
    assert {
        name for route in NAMING for name in route.parameters
    } - theirs.keys() - belongings.OF_NOBODY.keys() == set()


def test_what_another_organization_has_is_not_found(theirs: dict[str, str], outsider: User) -> None:
    found = {route.template: told(route, theirs, callers(outsider)) for route in OWNED}
    # 405: nobody may do that here. 401: this kind of credential opens nothing here, whoever's it is.
    wrong = {path: answers for path, answers in found.items() if set(answers.values()) - {401, 404, 405}}
    assert wrong == {}
    assert [path for path, answers in found.items() if 404 not in answers.values()] == []


def test_its_owner_finds_it(theirs: dict[str, str], owner: User) -> None:
    """Else the test above says nothing. What is done to a thing is undone before the next address is tried."""
    clients = callers(owner)
    found = {}
    for route in OWNED:
        with transaction.atomic():
            found[route.template] = told(route, theirs, clients, METHODS[:-1])  # the last would take it away
            transaction.set_rollback(True)
    assert {path: answers for path, answers in found.items() if 404 in answers.values()} == {}
    assert [path for path, answers in found.items() if set(answers.values()) <= {401, 403, 405}] == []


def test_the_dashboard_is_for_those_who_are_logged_in(client: Client, theirs: dict[str, str]) -> None:
    named = belongings.shared() | theirs
    open_to_all = []
    for route in sitemap.routes():
        for method in ("GET", "POST"):
            answer = client.generic(method, route.template.format(**named)) if route.is_dashboard else None
            if answer is None or answer.status_code == 405:
                continue
            if answer.status_code != 302 or not answer["Location"].startswith("/login?next="):
                open_to_all.append((route.template, method, answer.status_code))
    assert open_to_all == []


def test_the_list_of_addresses_is_read(client: Client) -> None:
    """A walk that finds little would pass all of the above."""
    found = {route.template for route in sitemap.routes()}
    assert {"/", "/dashboard", "/dashboard/api-keys/{key_id}/rotate", "/v1/webhooks/{endpoint_id}/test"} <= found
    assert len(OWNED) > 25
