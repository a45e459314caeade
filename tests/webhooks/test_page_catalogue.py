"""The dashboard's event catalogue."""

import json
import re
from html import unescape

import pytest

from accounts.models import Membership
from tests import factories
from tests.webhooks.pages import signed_in, text_of
from webhooks import event_guide, payloads
from webhooks.models import EventType

URL = "/dashboard/webhooks/events"


def paths(data: object, above: str = "") -> set[str]:
    """The names of all fields, as the catalogue writes them."""
    if not isinstance(data, dict):
        return set()
    return {path for name, value in data.items() for path in ({above + name} | paths(value, f"{above}{name}."))}


def test_it_requires_a_login(client):
    response = client.get(URL)
    assert (response.status_code, response["Location"]) == (302, f"/login?next={URL}")


def test_there_is_a_guide_to_each_event_type():
    assert [guide.type for guide in event_guide.GUIDES] == list(EventType)


@pytest.mark.parametrize("guide", event_guide.GUIDES, ids=lambda guide: guide.type)
def test_exactly_the_fields_of_the_example_are_explained(guide):
    assert {field.name for field in guide.fields} == paths(payloads.example(guide.type, "org-1"))


def test_each_event_is_shown_with_its_fields_and_an_example_as_it_is_sent(member, organization):
    response = signed_in(member).get(URL)
    text = text_of(response)
    page = response.content.decode()
    copies = [unescape(raw) for raw in re.findall(r'data-copy="([^"]*)"', page)]
    bodies = {body["event"]: raw for raw in copies for body in [json.loads(raw)]}
    assert set(bodies) == set(EventType)
    for guide in event_guide.GUIDES:
        assert guide.when in text
        for field in guide.fields:
            assert field.name in text
            assert field.text in text
        body = json.loads(bodies[guide.type])
        assert list(body) == ["event", "timestamp", "data"]
        assert body["data"] == payloads.example(guide.type, organization.public_id)
        assert " " not in bodies[guide.type].split('"message"')[0]


def test_the_headers_and_code_to_verify_them_are_shown(owner, organization):
    response = signed_in(owner).get(URL)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature", "X-HelixFlow-Signature-Next"):
        assert name in text_of(response)
    for language in ("python", "javascript", "go"):
        panel = response.content.decode().split(f'id="verify-code-{language}"')[1].split("</pre>")[0]
        assert "HELIXFLOW_WEBHOOK_SECRET" in unescape(re.sub(r"<[^>]+>", "", panel))


def test_each_event_leads_to_a_test_of_it(owner, organization):
    client = signed_in(owner)
    assert 'href="/dashboard/webhooks/new"' in client.get(URL).content.decode()
    made = [factories.endpoint(organization)]
    for _ in range(2):
        page = client.get(URL).content.decode()
        for endpoint in made:
            for event in EventType:
                assert f'href="/dashboard/webhooks/{endpoint.public_id}/test?event={event}"' in page
        made.append(factories.endpoint(organization))


def test_a_member_sends_no_tests(member, organization):
    endpoint = factories.endpoint(organization)
    page = signed_in(member).get(URL).content.decode()
    assert endpoint.public_id not in page
    assert "/dashboard/webhooks/new" not in page


def test_other_organizations_endpoints_are_not_there(outsider, organization):
    theirs = factories.endpoint(Membership.objects.get(user=outsider).organization)
    ours = factories.endpoint(organization)
    page = signed_in(outsider).get(URL).content.decode()
    assert theirs.public_id in page
    assert ours.public_id not in page


def test_script_in_a_description_is_inert(owner, organization):
    for _ in range(2):
        factories.endpoint(organization, description="</bdi><script>alert(1)</script>")
    page = signed_in(owner).get(URL).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
