import re
import uuid

import pytest

from accounts import playground as playground_keys
from accounts.models import ApiKey, Membership
from helixflow.lib import ids
from inference.models import Capability, Model
from tests import factories
from tests.billing.usage_events import usage, write

PAGES = (
    "/dashboard/playground",
    "/dashboard/api-keys",
    "/dashboard/api-keys?show=all",
    "/dashboard/plan",
    "/dashboard",
)


@pytest.fixture
def models(db):
    for name, can in (("gpt-b", ["chat"]), ("gpt-a", []), ("embed", [Capability.EMBEDDINGS])):
        factories.deploy("http://127.0.0.1:1/v1", name=f"at-{name}", model=name)
        Model.objects.filter(name=name).update(capabilities=can)
    factories.reread_catalogue()


def options(html):
    """The first picker's, as (name, chosen, for chat)."""
    first = html.partition("</select>")[0]
    found = re.findall(r'<option value="([^"]*)"( selected)?( disabled)?>', first)
    return [(name, bool(chosen), not disabled) for name, chosen, disabled in found]


def page(client, user, path="/dashboard/playground"):
    client.force_login(user)
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_strangers_log_in_first(client):
    for path in ("/dashboard/playground", "/dashboard/playground/costs"):
        assert client.get(path)["Location"].startswith("/login")


def test_models_that_chat_come_first_and_the_one_asked_for_is_chosen(client, member, models):
    assert options(page(client, member)) == [("gpt-a", True, True), ("gpt-b", False, True), ("embed", False, False)]
    assert options(page(client, member, "/dashboard/playground?model=gpt-b"))[1] == ("gpt-b", True, True)
    assert options(page(client, member, "/dashboard/playground?model=embed"))[0] == ("gpt-a", True, True)


def test_models_of_others_cannot_be_picked(client, outsider, organization, models):
    Model.objects.get(name="gpt-a").only_for.add(organization)
    factories.reread_catalogue()
    assert "gpt-a" not in page(client, outsider, "/dashboard/playground?model=gpt-a")


def test_without_a_model_it_says_who_can_help(client, member):
    factories.reread_catalogue()
    html = page(client, member)
    assert "No model to talk to" in html
    assert "playground.js" not in html


def test_without_javascript_it_offers_the_request_as_code(client, member, models):
    noscript = page(client, member).partition("<noscript>")[2].partition("</noscript>")[0]
    assert "needs JavaScript" in noscript
    assert "chat/completions" in noscript


def test_what_it_keeps_in_the_browser_is_of_one_person_in_one_organization(client, member, organization, models):
    assert f'data-store="playground:{organization.public_id}:{member.public_id}"' in page(client, member)


def test_it_needs_few_queries(client, member, models, django_assert_max_num_queries):
    client.force_login(member)
    client.get("/dashboard/playground")
    with django_assert_max_num_queries(12):
        client.get("/dashboard/playground")


def test_costs_are_told_once_they_are_known_and_only_to_their_organization(client, member, organization, outsider):
    event = usage(organization_id=organization.id)
    write(event)
    known, unknown = ids.public_id(ids.REQUEST, event.id), ids.public_id(ids.REQUEST, uuid.uuid4())
    path = f"/dashboard/playground/costs?ids={known},{unknown},nonsense,"
    client.force_login(member)
    costs = client.get(path).json()["costs"]
    assert set(costs) == {known}
    assert costs[known]["tokens"] == 15
    client.force_login(outsider)
    assert client.get(path).json() == {"costs": {}}


def test_no_page_and_no_list_shows_its_key(client, owner, organization, models):
    secret = playground_keys.secret_of(Membership.objects.get(user=owner))
    key = ApiKey.objects.get(is_playground=True)
    client.force_login(owner)
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == 200
        assert secret not in answer.content.decode()
    for below in ("", "/rotate", "/revoke", "/limits"):
        assert client.get(f"/dashboard/api-keys/{key.public_id}{below}").status_code == 404
    assert key.public_id not in client.get("/dashboard/api-keys?show=all").content.decode()
