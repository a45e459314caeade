"""The dashboard's pages of webhook endpoints: who sees what, what they do, and what they never show."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import Role
from helixflow.lib import errors
from tests import factories
from tests.webhooks.visits import FORM, HOOK, URL, main_of, new_form, signed_in, state_of, text_of
from webhooks import endpoints
from webhooks.models import Delivery, DeliveryState, DisabledReason, Endpoint

pytestmark = pytest.mark.usefixtures("names_resolve")

EVIL = "<script>alert(1)</script>\"'>{{7*7}}"
PAGES = ["", "/new", "/{id}", "/{id}/rotate", "/{id}/finish-rotation", "/{id}/disable", "/{id}/delete", "/{id}/test"]
OF_ONE = [path for path in PAGES if "{id}" in path]
ACTIONS = ["/new", *OF_ONE, "/{id}/enable"]


@pytest.mark.parametrize("path", [*PAGES, "/{id}/enable"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_page_requires_a_login(client, endpoint, path, method):
    url = URL + path.format(id=endpoint.public_id)
    response = getattr(client, method)(url)
    assert response.status_code == 302
    assert response["Location"] == f"/login?next={url}"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_its_owner_and_holds_no_secret(owner, endpoint, path):
    response = signed_in(owner).get(URL + path.format(id=endpoint.public_id))
    assert response.status_code == 200
    assert "whsec_" not in response.content.decode()


@pytest.mark.parametrize("path", [*OF_ONE, "/{id}/enable"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_another_organizations_endpoint_is_404(outsider, endpoint, path, method):
    before = state_of(endpoint)
    response = getattr(signed_in(outsider), method)(
        URL + path.format(id=endpoint.public_id), FORM | {"event": "quota.low"}
    )
    assert response.status_code == 404 or (path.endswith("/enable") and method == "get" and response.status_code == 405)
    assert state_of(endpoint) == before
    assert not Delivery.objects.exists()


@pytest.mark.parametrize("path", [*OF_ONE, "/{id}/enable"])
@pytest.mark.parametrize("bad", ["x", "whe_" + "0" * 22, "org-" + "0" * 22, "%00", "%F0%9F%94%91"])
def test_odd_ids_are_404(owner, organization, path, bad):
    assert signed_in(owner).post(URL + path.format(id=bad)).status_code == 404


@pytest.mark.parametrize("path", ACTIONS)
def test_a_member_changes_nothing(member, endpoint, path):
    before = state_of(endpoint)
    form = FORM | {"events": ["completion.failed"], "event": "quota.low", "once": "x"}
    response = signed_in(member).post(URL + path.format(id=endpoint.public_id), form)
    assert response.status_code == 403
    assert "owners and admins" in text_of(response)
    assert state_of(endpoint) == before
    assert (Endpoint.objects.count(), Delivery.objects.count()) == (1, 0)


def test_a_member_sees_endpoints_and_their_deliveries_without_forms(member, endpoint):
    delivery = factories.delivery(endpoint)
    page = main_of(signed_in(member).get(URL))
    assert HOOK in page
    assert "/new" not in page
    page = main_of(signed_in(member).get(f"{URL}/{endpoint.public_id}"))
    assert delivery.public_id in page
    assert 'method="post"' not in page
    for action in ("rotate", "disable", "delete", "test", "resend-failed"):
        assert f"/{action}" not in page


@pytest.mark.parametrize("path", ACTIONS)
def test_a_post_without_csrf_token_is_refused(owner, endpoint, path):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    before = state_of(endpoint)
    assert client.post(URL + path.format(id=endpoint.public_id), FORM | {"event": "quota.low"}).status_code == 403
    assert state_of(endpoint) == before
    assert (Endpoint.objects.count(), Delivery.objects.count()) == (1, 0)


@pytest.mark.parametrize("path", PAGES)
def test_script_in_what_people_enter_is_inert(owner, organization, path):
    endpoint = factories.endpoint(
        organization, f"https://hooks.example.com/{EVIL}", description=EVIL, model_names=[EVIL]
    )
    page = signed_in(owner).get(URL + path.format(id=endpoint.public_id)).content.decode()
    assert "<script>alert" not in page


def test_a_disabled_organization_can_look_and_not_touch(owner, organization, endpoint):
    organization.disabled_at = timezone.now()
    organization.save()
    client = signed_in(owner)
    assert client.get(f"{URL}/{endpoint.public_id}").status_code == 200
    assert client.post(f"{URL}/{endpoint.public_id}/delete").status_code == 403


# The list


def test_a_first_visit_says_what_webhooks_are_for(owner, member, organization):
    page = text_of(signed_in(owner).get(URL))
    assert "signed request" in page
    assert "Create endpoint" in page
    assert "Ask an owner or admin" in text_of(signed_in(member).get(URL))


def test_the_list_tells_how_each_endpoint_did_lately(owner, organization, endpoint):
    failing = factories.endpoint(organization, "https://other.example.com/", events=["quota.low"])
    for receiver, outcomes in ((endpoint, [True] * 3), (failing, [True, False])):
        delivery = factories.delivery(receiver, state=DeliveryState.SUCCEEDED)
        for succeeded in outcomes:
            factories.attempt(delivery, succeeded=succeeded, duration_ms=40)
    factories.delivery(failing)
    rows = main_of(signed_in(owner).get(URL)).split("<tbody")[1].split("</tr>")
    first, second = (" ".join(unescape(re.sub(r"<[^>]+>", "", row)).split()) for row in rows[:2])
    assert "https://other.example.com/" in first
    assert "quota.low" in first
    assert "50.0% 40 ms 40 ms 1" in first
    assert "100% 40 ms 40 ms 0" in second


def test_an_endpoint_without_attempts_has_no_rate(owner, endpoint):
    assert "– – – 0" in text_of(signed_in(owner).get(URL))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Enabled"),
        ({"failing_since": timezone.now() - timedelta(hours=3)}, "Failing first failed 3 hours ago"),
        ({"disabled_reason": DisabledReason.MANUAL}, "Disabled by hand"),
        ({"disabled_reason": DisabledReason.GONE}, "410 Gone"),
        (
            {"disabled_reason": DisabledReason.FAILING, "failing_since": timezone.now() - timedelta(days=5, hours=1)},
            "first failed 5 days ago",
        ),
    ],
)
def test_the_status_says_why_nothing_is_sent(owner, organization, fields, words):
    disabled_at = timezone.now() if "disabled_reason" in fields else None
    endpoint = factories.endpoint(organization, HOOK, disabled_at=disabled_at, **fields)
    client = signed_in(owner)
    assert words in text_of(client.get(URL))
    assert words in text_of(client.get(f"{URL}/{endpoint.public_id}"))


@pytest.mark.parametrize("reason", [DisabledReason.GONE, DisabledReason.FAILING])
def test_what_the_platform_disabled_is_said_on_the_overview_and_these_pages(owner, outsider, endpoint, reason):
    client, pages = signed_in(owner), ("/dashboard", URL, f"{URL}/{endpoint.public_id}")
    for path in pages:
        assert "gets no more events" not in text_of(client.get(path))
    Endpoint.objects.update(disabled_at=timezone.now(), disabled_reason=reason)
    for path in pages:
        assert "gets no more events" in text_of(client.get(path))
    assert "gets no more events" not in text_of(signed_in(outsider).get("/dashboard"))
    Endpoint.objects.update(disabled_reason=DisabledReason.MANUAL)
    for path in pages:
        assert "gets no more events" not in text_of(client.get(path))


def test_many_disabled_endpoints_do_not_bury_a_page(owner, organization):
    disabled = {"disabled_at": timezone.now(), "disabled_reason": DisabledReason.GONE}
    for n in range(5):
        factories.endpoint(organization, f"https://hooks.example.com/{n}", **disabled)
    page = text_of(signed_in(owner).get("/dashboard"))
    assert page.count("gets no more events") == 3
    assert "More endpoints get no events" in page


def test_the_list_is_paged_by_key_with_few_queries(owner, organization, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr("webhooks.endpoint_views.PAGE", 3)
    made = [factories.endpoint(organization, f"https://hooks.example.com/number-{n}") for n in range(7)]
    newest = [endpoint.url[-1] for endpoint in sorted(made, key=lambda endpoint: endpoint.id, reverse=True)]
    client, url, seen = signed_in(owner), URL, []
    while url:
        with django_assert_max_num_queries(8):
            page = client.get(url).content.decode()
        seen.append(re.findall(r"number-(\d)</a>", page))
        following = re.search(r'rel="next" href="\?([^"]+)"', page)
        url = f"{URL}?{unescape(following[1])}" if following else ""
    assert seen == [newest[:3], newest[3:6], newest[6:]]
    [back] = re.findall(r'rel="prev" href="\?([^"]+)"', page)
    first = client.get(f"{URL}?{back}").content.decode()
    assert re.findall(r"number-(\d)</a>", first) == newest[:3]


def test_a_made_up_cursor_is_a_clear_400(owner, endpoint):
    response = signed_in(owner).get(f"{URL}?cursor=abc")
    assert response.status_code == 400
    assert "cursor" in text_of(response)


def test_deleted_endpoints_and_those_of_others_are_not_listed(owner, outsider, organization, endpoint):
    endpoints.delete(endpoint=endpoint, user=owner)
    foreign = factories.endpoint(outsider.memberships.get().organization, "https://foreign.example.com/")
    page = text_of(signed_in(owner).get(URL))
    assert HOOK not in page
    assert foreign.url not in page
    assert signed_in(owner).get(f"{URL}/{endpoint.public_id}").status_code == 404


def test_of_several_organizations_the_chosen_one_is_shown(owner, endpoint):
    second = factories.organization(owner=owner, name="Second")
    client = signed_in(owner)
    response = client.post(
        "/dashboard/organization", {"organization": second.public_id, "page": "webhooks"}, follow=True
    )
    assert response.redirect_chain == [(URL, 302)]
    assert HOOK not in text_of(response)
    assert client.get(f"{URL}/{endpoint.public_id}").status_code == 404


# Creating


def test_the_secret_is_shown_once_with_a_receiver_in_three_languages(owner, organization):
    client = signed_in(owner)
    response = client.post(f"{URL}/new", new_form(client))
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    endpoint = Endpoint.objects.get()
    assert (endpoint.organization, endpoint.created_by, endpoint.url) == (organization, owner, HOOK)
    assert (endpoint.description, endpoint.events, endpoint.is_enabled) == ("Warehouse", ["quota.low"], True)
    page = response.content.decode()
    assert set(re.findall(r"whsec_[\w+/=-]{30,}", unescape(page))) == {endpoint.secret}
    for language in ("python", "javascript", "go"):
        assert "signature" in page.split(f'id="verify-{language}"')[1].split("</pre>")[0]
    assert f'action="{URL}/{endpoint.public_id}/test"' in page
    for path in PAGES:
        assert endpoint.secret not in unescape(client.get(URL + path.format(id=endpoint.public_id)).content.decode())
    assert endpoint.secret not in str(dict(client.session))


def test_sending_the_form_again_makes_no_second_endpoint_and_shows_no_secret(owner, organization):
    client = signed_in(owner)
    form = new_form(client)
    client.post(f"{URL}/new", form)
    response = client.post(f"{URL}/new", form, follow=True)
    assert response.redirect_chain == [(URL, 302)]
    assert "was sent before" in text_of(response)
    assert "whsec_" not in response.content.decode()
    assert Endpoint.objects.count() == 1
    client.post(f"{URL}/new", new_form(client))
    assert Endpoint.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_form_that_is_sent_twice_at_once_makes_one_endpoint(owner, organization, monkeypatch):
    monkeypatch.setattr("helixflow.lib.http.check_url", lambda url: time.sleep(0.3))
    client = signed_in(owner)
    form = new_form(client)

    def send() -> int:
        other = Client()
        other.cookies = client.cookies
        try:
            return other.post(f"{URL}/new", form).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(send) for _ in range(2)]
        assert sorted(each.result(30) for each in sent) == [200, 302]
    assert Endpoint.objects.count() == 1


def test_a_form_that_came_back_with_errors_can_be_sent_again(owner, organization):
    client = signed_in(owner)
    bad = new_form(client, url="https://inside.example.com")
    page = client.post(f"{URL}/new", bad).content.decode()
    [once] = re.findall(r'name="once" value="([^"]+)"', page)
    assert once != bad["once"]
    assert "whsec_" in client.post(f"{URL}/new", FORM | {"once": once}).content.decode()


def test_with_too_many_names_being_looked_up_the_form_comes_back_as_it_was(owner, organization, endpoint, monkeypatch):
    def busy(url: str) -> None:
        raise errors.ServiceUnavailable("Too many names are being looked up. Try again.")

    client, url = signed_in(owner), "https://other.example.com/hooks"
    with monkeypatch.context() as patched:
        patched.setattr("helixflow.lib.http.check_url", busy)
        pages = [client.post(f"{URL}/{path}", new_form(client, url=url)) for path in ("new", endpoint.public_id)]
    for page in pages:
        assert "Too many names are being looked up. Try again." in text_of(page)
        assert f'value="{url}"' in page.content.decode()
    [once] = re.findall(r'name="once" value="([^"]+)"', pages[0].content.decode())
    assert "whsec_" in client.post(f"{URL}/new", FORM | {"once": once}).content.decode()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"url": ""}, "Enter the address"),
        ({"url": "https://inside.example.com"}, "This address is not public."),
        ({"url": "https://example.com/" + "x" * 2000}, "2000"),
        ({"url": "https://example.com/\x00"}, "Null characters"),
        ({"description": "x" * 201}, "200"),
        ({"description": "a\x01b"}, "control characters"),
        ({"events": []}, "Choose at least one event."),
        ({"events": ["completion.created", "moon"]}, "moon"),
        ({"api_keys": ["key_" + "0" * 22]}, "Choose again"),
        ({"models": ",".join(f"m{n}" for n in range(101))}, "at most 100"),
        ({"models": "x" * 201}, "200"),
        ({"once": ""}, "Check the marked fields."),
    ],
)
def test_a_bad_form_comes_back_with_its_error(owner, organization, bad, words):
    client = signed_in(owner)
    response = client.post(f"{URL}/new", new_form(client) | bad)
    assert response.status_code == 200
    assert 'role="alert"' in response.content.decode()
    assert words in text_of(response)
    assert not Endpoint.objects.exists()


def test_all_problems_are_at_their_fields_and_what_was_entered_stays(owner, organization):
    client = signed_in(owner)
    form = new_form(client, url="https://inside.example.com/x", description="a\x01b", models="gpt-4")
    page = client.post(f"{URL}/new", form).content.decode()
    assert page.count("field__error") == 2
    assert 'value="https://inside.example.com/x"' in page
    assert re.search(r'value="quota.low"[^>]* checked', page)
    assert not re.search(r'value="completion.created"[^>]* checked', page)
    assert '<details class="more" open>' in page


def test_the_limit_of_endpoints_is_told(owner, organization, endpoint, settings):
    settings.WEBHOOK_MAX_ENDPOINTS = 1
    client = signed_in(owner)
    response = client.post(f"{URL}/new", new_form(client))
    assert "can have 1 webhook endpoints" in text_of(response)
    assert Endpoint.objects.count() == 1


def test_too_many_in_an_hour_are_told_and_the_form_comes_back(owner, organization, endpoint, settings, monkeypatch):
    settings.WEBHOOK_MAX_ENDPOINTS = 1
    monkeypatch.setattr(endpoints, "TURNOVER", 1)
    endpoints.delete(endpoint=endpoint, user=owner)
    client = signed_in(owner)
    response = client.post(f"{URL}/new", new_form(client))
    assert "at most 1 webhook endpoints an hour" in text_of(response)
    assert f'value="{HOOK}"' in response.content.decode()


def test_filters_are_of_this_organizations_keys(owner, outsider, organization):
    key, _ = api_keys.create(organization=organization, user=owner, name="Website")
    foreign, _ = api_keys.create(organization=outsider.memberships.get().organization, user=outsider, name="Foreign")
    client = signed_in(owner)
    page = text_of(client.get(f"{URL}/new"))
    assert "Website" in page
    assert "Foreign" not in page
    client.post(f"{URL}/new", new_form(client, api_keys=[foreign.public_id]))
    assert not Endpoint.objects.exists()
    client.post(f"{URL}/new", new_form(client, api_keys=[key.public_id], models="gpt-4,\n gpt-3.5-turbo"))
    endpoint = Endpoint.objects.get()
    assert (endpoint.api_key_ids, endpoint.model_names) == ([key.id], ["gpt-4", "gpt-3.5-turbo"])


def test_fields_of_no_form_are_ignored(owner, outsider, organization):
    foreign = outsider.memberships.get().organization
    client = signed_in(owner)
    extra = {"organization_id": str(foreign.id), "disabled_at": "2020-01-01", "sealed_secret": "x", "enabled": "false"}
    client.post(f"{URL}/new", new_form(client) | extra)
    endpoint = Endpoint.objects.get()
    assert (endpoint.organization, endpoint.is_enabled) == (organization, True)
    assert endpoint.secret.startswith("whsec_")


def test_an_admin_may_do_it_all(organization):
    client = signed_in(factories.user("admin", organization=organization, role=Role.ADMIN))
    assert client.post(f"{URL}/new", new_form(client)).status_code == 200
    endpoint = Endpoint.objects.get()
    assert client.post(f"{URL}/{endpoint.public_id}/delete").status_code == 302
    assert not Endpoint.objects.of(organization).exists()
