import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from accounts import access, api_keys, auth, keys
from accounts.models import ApiKey, Role
from tests import factories

URL = "/dashboard/api-keys"
CHOICE = "/dashboard/organization"
EVIL = "<script>alert(1)</script>\"'>{{7*7}}"
FORM = {"name": "CI", "environment": "development", "expires_at": "", "models": ""}


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    return unescape(re.sub(r"<[^>]+>", "", response.content.decode()))


def new_form(client: Client, **fields: str) -> dict[str, str]:
    page = client.get(f"{URL}/new").content.decode()
    [once] = re.findall(r'name="once" value="([^"]+)"', page)
    return FORM | {"once": once} | fields


@pytest.fixture
def key(organization, owner) -> ApiKey:
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


PAGES = ["", "/new", "/{id}", "/{id}/rotate", "/{id}/revoke"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_every_page_requires_a_login(client, key, path, method):
    url = URL + path.format(id=key.public_id)
    response = getattr(client, method)(url)
    assert response.status_code == 302
    assert response["Location"] == f"/login?next={url}"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_its_owner(owner, key, path):
    assert signed_in(owner).get(URL + path.format(id=key.public_id)).status_code == 200


@pytest.mark.parametrize("path", [path for path in PAGES if "{id}" in path])
@pytest.mark.parametrize("method", ["get", "post"])
def test_another_organizations_key_is_404(outsider, key, path, method):
    response = getattr(signed_in(outsider), method)(URL + path.format(id=key.public_id), {"grace_days": "0"} | FORM)
    assert response.status_code == 404
    key.refresh_from_db()
    assert (key.name, key.revoked_at, key.rotated_to) == ("CI", None, None)


@pytest.mark.parametrize("bad", ["x", "key_" + "0" * 22, "org-" + "0" * 22, "%00", "%F0%9F%94%91"])
def test_odd_ids_are_404(owner, organization, bad):
    assert signed_in(owner).get(f"{URL}/{bad}").status_code == 404


@pytest.mark.parametrize("path", ["/new", "/{id}", "/{id}/rotate", "/{id}/revoke"])
def test_a_member_changes_nothing(member, key, path):
    response = signed_in(member).post(URL + path.format(id=key.public_id), FORM | {"name": "mine", "grace_days": "0"})
    assert response.status_code == 403
    assert "owners and admins" in text_of(response)
    key.refresh_from_db()
    assert (key.name, key.revoked_at, key.rotated_to) == ("CI", None, None)
    assert ApiKey.objects.count() == 1


def test_a_member_sees_the_keys_and_no_buttons(member, key):
    page = signed_in(member).get(URL).content.decode()
    assert key.hint in page
    for action in ("api-keys/new", "/rotate", "/revoke"):
        assert action not in page
    assert "<form method" not in signed_in(member).get(f"{URL}/{key.public_id}").content.decode().split("<main")[1]


def test_a_first_visit_says_what_to_do(owner, member, organization):
    assert "Create key" in text_of(signed_in(owner).get(URL))
    assert "Ask an owner or admin" in text_of(signed_in(member).get(URL))


def test_the_secret_is_shown_once_with_four_snippets(owner, organization, settings):
    client = signed_in(owner)
    response = client.post(f"{URL}/new", new_form(client, models="gpt-4, gpt-3.5-turbo"))
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    text = text_of(response)
    [secret] = set(re.findall(r"hflow_[0-9A-Za-z]{49}", text))
    key = ApiKey.objects.get()
    assert bytes(key.digest) == auth.digests(secret)[0]
    assert key.allowed_models == ["gpt-4", "gpt-3.5-turbo"]
    for name in ("curl", "python", "javascript", "go"):
        panel = response.content.decode().split(f'id="first-call-{name}"')[1].split("</pre>")[0]
        code = unescape(re.sub(r"<[^>]+>", "", panel))
        assert secret in code
        assert f"{settings.PUBLIC_URL}/v1" in code
        assert '"gpt-4"' in code
    assert f'data-copy="{secret}"' in response.content.decode()
    for url in (URL, f"{URL}/new", f"{URL}/{key.public_id}", f"{URL}?show=all"):
        assert secret not in client.get(url).content.decode()
    assert secret not in str(dict(client.session))


def test_sending_the_form_again_makes_no_second_key_and_shows_no_secret(owner, organization):
    client = signed_in(owner)
    form = new_form(client)
    client.post(f"{URL}/new", form)
    response = client.post(f"{URL}/new", form, follow=True)
    assert response.redirect_chain == [(URL, 302)]
    assert "exists already" in text_of(response)
    assert ApiKey.objects.count() == 1
    client.post(f"{URL}/new", new_form(client))
    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\x01b"},
        {"environment": "moon"},
        {"expires_at": "2001-01-01"},
        {"expires_at": "soon"},
        {"expires_at": "9999-12-31"},
        {"models": "two words', oops"},
        {"models": ",".join(f"m{n}" for n in range(101))},
        {"once": ""},
    ],
)
def test_a_bad_form_comes_back_with_its_error(owner, organization, bad):
    client = signed_in(owner)
    response = client.post(f"{URL}/new", new_form(client) | bad)
    assert response.status_code == 200
    assert 'role="alert"' in response.content.decode()
    assert not ApiKey.objects.exists()


def test_fields_of_no_form_are_ignored(owner, organization, outsider):
    foreign = access.memberships(outsider)[0].organization
    client = signed_in(owner)
    client.post(
        f"{URL}/new",
        new_form(client, organization_id=foreign.public_id, organization=str(foreign.id), revoked_at="x", plan="pro"),
    )
    assert ApiKey.objects.get().organization == organization


def test_a_last_day_ends_at_midnight_utc(owner, organization):
    client = signed_in(owner)
    client.post(f"{URL}/new", new_form(client, expires_at="2199-05-31"))
    assert ApiKey.objects.get().expires_at == datetime(2199, 6, 1, tzinfo=UTC)
    assert 'value="2199-05-31"' in client.get(f"{URL}/{ApiKey.objects.get().public_id}").content.decode()


def test_a_post_without_csrf_token_is_refused(owner, key):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    assert client.post(f"{URL}/{key.public_id}/revoke").status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is None


@pytest.mark.parametrize("path", PAGES)
def test_script_in_a_name_is_inert(owner, organization, path):
    key, _ = api_keys.create(organization=organization, user=owner, name=EVIL)
    page = signed_in(owner).get(URL + path.format(id=key.public_id)).content.decode()
    assert "<script>alert" not in page
    assert "&quot;&#x27;&gt;{{7*7}}" in page or path == "/new"


def test_script_in_a_name_is_inert_where_the_secret_is_shown(owner, organization):
    client = signed_in(owner)
    page = client.post(f"{URL}/new", new_form(client, name=EVIL)).content.decode()
    assert keys.PREFIX in page
    assert "<script>alert" not in page


def test_the_list_shows_active_keys_first_and_all_on_demand(owner, organization, key):
    gone, _ = api_keys.create(organization=organization, user=owner, name="Gone")
    api_keys.revoke(key=gone, user=owner)
    client = signed_in(owner)
    assert gone.hint not in client.get(URL).content.decode()
    every = client.get(f"{URL}?show=all")
    assert gone.hint in every.content.decode()
    assert "Revoked" in text_of(every)
    api_keys.revoke(key=key, user=owner)
    assert "No active keys" in text_of(client.get(URL))


def test_the_list_is_paged_by_key(owner, organization, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr("accounts.api_key_views.PAGE", 3)
    for n in range(7):
        api_keys.create(organization=organization, user=owner, name=f"key-number-{n}")
    client, url, seen = signed_in(owner), URL, []
    while url:
        with django_assert_max_num_queries(6):
            page = client.get(url).content.decode()
        seen.append(re.findall(r"key-number-(\d)</a>", page))
        following = re.search(r'rel="next" href="\?([^"]+)"', page)
        url = f"{URL}?{unescape(following[1])}" if following else ""
    assert seen == [["6", "5", "4"], ["3", "2", "1"], ["0"]]


@pytest.mark.parametrize("query", ["page=-1", "limit=1000000000", "show=%00", "show=all&limit=abc"])
def test_odd_queries_change_nothing(owner, key, query):
    assert signed_in(owner).get(f"{URL}?{query}").status_code == 200


def test_a_made_up_cursor_is_a_clear_400(owner, key):
    response = signed_in(owner).get(f"{URL}?cursor=abc")
    assert response.status_code == 400
    assert "cursor" in text_of(response)


def test_editing_saves_and_keeps_an_expiry_to_the_second(owner, organization):
    end = timezone.now().replace(microsecond=0) + timedelta(days=30, seconds=7)
    key, _ = api_keys.create(organization=organization, user=owner, name="CI", expires_at=end)
    client = signed_in(owner)
    page = client.get(f"{URL}/{key.public_id}").content.decode()
    [day] = re.findall(r'name="expires_at" value="([^"]+)"', page)
    form = {"name": "Deploys", "environment": "staging", "expires_at": day, "models": "gpt-4"}
    response = client.post(f"{URL}/{key.public_id}", form, follow=True)
    assert "“Deploys” saved." in text_of(response)
    key.refresh_from_db()
    assert (key.name, key.environment, key.allowed_models, key.expires_at) == ("Deploys", "staging", ["gpt-4"], end)
    client.post(f"{URL}/{key.public_id}", form | {"expires_at": "", "models": ""})
    key.refresh_from_db()
    assert (key.allowed_models, key.expires_at) == (None, None)


def test_a_revoked_key_has_no_form_and_cannot_be_edited(owner, key):
    api_keys.revoke(key=key, user=owner)
    client = signed_in(owner)
    assert 'name="environment"' not in client.get(f"{URL}/{key.public_id}").content.decode()
    client.post(f"{URL}/{key.public_id}", FORM | {"name": "zombie"})
    key.refresh_from_db()
    assert key.name == "CI"


def test_rotating_shows_the_new_secret_once(owner, key):
    client = signed_in(owner)
    response = client.post(f"{URL}/{key.public_id}/rotate", {"grace_days": "2"})
    assert "no-store" in response["Cache-Control"]
    [secret] = set(re.findall(r"hflow_[0-9A-Za-z]{49}", text_of(response)))
    key.refresh_from_db()
    assert key.rotated_to is not None
    assert bytes(key.rotated_to.digest) == auth.digests(secret)[0]
    assert timedelta(days=1.99) < key.expires_at - timezone.now() <= timedelta(days=2)
    again = client.post(f"{URL}/{key.public_id}/rotate", {"grace_days": "2"}, follow=True)
    assert "rotated already" in text_of(again)
    assert secret not in again.content.decode()
    assert ApiKey.objects.count() == 2


def test_a_rotated_key_leads_to_its_successor_and_a_revoked_one_has_no_end_ahead(owner, key):
    client = signed_in(owner)
    successor, _ = api_keys.rotate(key=key, user=owner, grace=timedelta(days=1))
    page = client.get(f"{URL}/{key.public_id}")
    assert f'href="{URL}/{successor.public_id}"' in page.content.decode()
    assert "Rotating makes a new key" not in text_of(page)
    assert "Ends" in text_of(page)
    api_keys.revoke(key=key, user=owner)
    assert "Ends" not in text_of(client.get(f"{URL}/{key.public_id}"))


@pytest.mark.parametrize("grace", ["-1", "8", "soon", ""])
def test_rotating_with_another_grace_comes_back_with_its_error(owner, key, grace):
    response = signed_in(owner).post(f"{URL}/{key.public_id}/rotate", {"grace_days": grace})
    assert response.status_code == 200
    assert "field__error" in response.content.decode()
    assert ApiKey.objects.count() == 1


def test_revoking_asks_with_the_keys_name_and_then_revokes(owner, key):
    client = signed_in(owner)
    assert "Revoke “CI”?" in text_of(client.get(f"{URL}/{key.public_id}/revoke"))
    key.refresh_from_db()
    assert key.revoked_at is None
    response = client.post(f"{URL}/{key.public_id}/revoke", follow=True)
    assert "“CI” is revoked." in text_of(response)
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_an_admin_may_do_it_all(organization, key):
    admin = factories.user("admin", organization=organization, role=Role.ADMIN)
    client = signed_in(admin)
    assert client.post(f"{URL}/new", new_form(client)).status_code == 200
    assert ApiKey.objects.filter(created_by=admin).exists()


def test_a_disabled_organization_can_look_and_not_touch(owner, organization, key):
    organization.disabled_at = timezone.now()
    organization.save()
    client = signed_in(owner)
    assert client.get(URL).status_code == 200
    assert client.post(f"{URL}/{key.public_id}/revoke").status_code == 403


def test_of_several_organizations_the_chosen_one_is_shown(owner, organization, key):
    second = factories.organization(owner=owner, name="Second")
    client = signed_in(owner)
    assert f'value="{second.public_id}"' in client.get(URL).content.decode()
    assert "keys of Second" in text_of(
        client.post(CHOICE, {"organization": second.public_id, "page": "api-keys"}, follow=True)
    )
    assert client.get(f"{URL}/{key.public_id}").status_code == 404
    second.memberships.all().delete()
    assert client.get(f"{URL}/{key.public_id}").status_code == 200


def test_there_is_nothing_to_choose_in_one_organization(owner, organization):
    assert f'action="{CHOICE}"' not in signed_in(owner).get(URL).content.decode()


@pytest.mark.parametrize("choice", ["", "org-" + "0" * 22, "Acme", "%00"])
def test_no_other_organization_can_be_chosen(outsider, organization, choice):
    client = signed_in(outsider)
    assert client.post(CHOICE, {"organization": organization.public_id}).status_code == 404
    assert client.post(CHOICE, {"organization": choice}).status_code == 404
    assert access.SESSION_CHOICE not in client.session
    assert client.get(CHOICE).status_code == 405


def test_choosing_requires_a_login(client, organization):
    assert client.post(CHOICE, {"organization": organization.public_id}).status_code == 302


def test_someone_without_an_organization_is_told(db):
    response = signed_in(factories.user("nobody")).get(URL)
    assert response.status_code == 403
    assert "no organization" in text_of(response)


def test_the_form_names_the_models_that_are_there_for_this_organization(organization, owner, outsider, upstream):
    factories.deploy(upstream, name="open", model="open-model")
    closed = factories.deploy(upstream, name="closed", model="closed-model").model
    closed.only_for.add(outsider.memberships.get().organization)
    factories.reread_catalogue()
    page = text_of(signed_in(owner).get(f"{URL}/new"))
    assert "open-model" in page
    assert "closed-model" not in page


def test_a_list_that_names_no_model_is_warned_of_when_the_key_is_made(organization, owner, upstream):
    factories.deploy(upstream, model="open-model")
    client = signed_in(owner)
    made = client.post(f"{URL}/new", new_form(client, models="open-model, opem-model"))
    assert "No such model now: opem-model" in text_of(made)
    made = client.post(f"{URL}/new", new_form(client, models="open-model"))
    assert "No such model now" not in text_of(made)
