"""Nothing of one organization is another's: every address that names something, tried by everybody it isn't for.

The addresses come from the URL list itself. One with a parameter that ``tests.belongings`` doesn't know fails here: say
there what it names.
"""

from typing import Any

import pytest
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


def by_template(route: Route) -> str:
    return route.template


@pytest.fixture
def theirs(organization: Organization, owner: User) -> dict[str, str]:
    return belongings.of(organization, owner)


def send(client: Client, method: str, url: str) -> Any:
    """A body that is right nowhere: what is asked for is looked up before it is read."""
    return client.generic(method, url, "{}" if url.startswith("/v1/") else "", _content_type(url))


def _content_type(url: str) -> str:
    return "application/json" if url.startswith("/v1/") else "application/x-www-form-urlencoded"


def callers_of(route: Route, user: User) -> dict[str, Client]:
    """As the address lets people in: a browser's session, or a login's token and an API key."""
    if not route.is_api:
        browser = Client()
        browser.force_login(user)
        return {"session": browser}
    token = jwt.access_token(sessions.start(user=user, address="127.0.0.1", user_agent="tests"))
    _, key = api_keys.create(organization=user.memberships.get().organization, user=user, name="theirs")
    bearers = {"login": token, "API key": key}
    return {name: Client(headers={"Authorization": f"Bearer {bearer}"}) for name, bearer in bearers.items()}


def test_every_parameter_is_known(theirs: dict[str, str]) -> None:
    assert {
        name for route in NAMING for name in route.parameters
    } - theirs.keys() - belongings.OF_NOBODY.keys() == set()


@pytest.mark.parametrize("route", OWNED, ids=by_template)
def test_what_another_organization_has_is_not_found(route: Route, theirs: dict[str, str], outsider: User) -> None:
    url = route.template.format(**belongings.shared() | theirs)
    told = {
        (who, method): send(client, method, url).status_code
        for who, client in callers_of(route, outsider).items()
        for method in METHODS
    }
    # 405: nobody may do that here. 401: this kind of credential opens nothing here, whoever's it is.
    assert {each: status for each, status in told.items() if status not in {401, 404, 405}} == {}
    assert 404 in told.values()


@pytest.mark.parametrize("route", OWNED, ids=by_template)
def test_its_owner_finds_it(route: Route, theirs: dict[str, str], owner: User) -> None:
    """Else the test above says nothing."""
    url = route.template.format(**belongings.shared() | theirs)
    told = [
        send(client, method, url).status_code
        for client in callers_of(route, owner).values()
        for method in METHODS[:-1]  # the last would take away what is looked for
    ]
    assert 404 not in told
    assert set(told) - {401, 403, 405}


@pytest.mark.parametrize("route", [route for route in sitemap.routes() if route.is_dashboard], ids=by_template)
def test_the_dashboard_is_for_those_who_are_logged_in(route: Route, client: Client, theirs: dict[str, str]) -> None:
    url = route.template.format(**belongings.shared() | theirs)
    for method in ("GET", "POST"):
        answer = client.generic(method, url)
        assert answer.status_code in {302, 405}
        assert answer.status_code == 405 or answer["Location"].startswith("/login?next=")


def test_the_list_of_addresses_is_read(client: Client) -> None:
    """A walk that finds little would pass all of the above."""
    found = {route.template for route in sitemap.routes()}
    assert {"/", "/dashboard", "/dashboard/api-keys/{key_id}/rotate", "/v1/webhooks/{endpoint_id}/test"} <= found
    assert len(OWNED) > 25
