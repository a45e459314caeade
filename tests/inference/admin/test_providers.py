"""Connecting a provider, trying the connection, importing its models."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse

from inference.models import Deployment, Model, Provider, ProviderKind
from tests.fakes.behaviours import status
from tests.fakes.upstream import Upstream
from tests.inference.admin.pages import SECRET, change_url, form, page_url, version

ADD = "/admin/inference/provider/add/"


@pytest.fixture
def connected(provider: Provider, upstream: Upstream) -> Provider:
    provider.kind, provider.base_url = ProviderKind.COMPATIBLE, upstream.url
    provider.save()
    return provider


def choose(admin, provider, *names: str):
    return admin.post(page_url(provider, "models"), {"chosen": names})


def confirm(admin, provider, rows: dict[str, str], **fields: str):
    """``rows``: the provider's names and ours."""
    options = {"confirmed": "yes", "owned_by": "acme", "priority": "0", "weight": "1", "enabled": "on"} | fields
    formset = {"form-TOTAL_FORMS": str(len(rows)), "form-INITIAL_FORMS": str(len(rows))}
    for n, (upstream_model, name) in enumerate(rows.items()):
        formset |= {f"form-{n}-upstream_model": upstream_model, f"form-{n}-name": name}
    return admin.post(page_url(provider, "models"), options | formset, follow=True)


def logged(row) -> list[str]:
    return [entry.get_change_message() for entry in LogEntry.objects.filter(object_id=str(row.pk))]


# The form


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "compatible"), ("base_url", "https://elsewhere.example/v1"), ("preset", "groq")]
)
def test_a_stored_credential_stays_with_what_it_was_entered_for(admin, connected, field, value):
    connected.kind = ProviderKind.OPENAI if field == "kind" else connected.kind
    connected.save()
    body = {"name": connected.name, "kind": connected.kind, "base_url": connected.base_url} | {field: value}
    page = admin.post(change_url(connected), body).content.decode()
    assert "The stored credential is for the old" in page
    assert SECRET not in page
    connected.refresh_from_db()
    assert connected.credential == SECRET
    assert getattr(connected, field) != value
    admin.post(change_url(connected), body | {"credential": "sk-the-new-one"})
    connected.refresh_from_db()
    assert (connected.credential, getattr(connected, field)) == ("sk-the-new-one", value)


@pytest.mark.parametrize(("field", "value"), [("region", "eu-west-1"), ("project", "another")])
def test_region_and_project_hold_it_too(admin, provider, field, value):
    provider.kind = ProviderKind.VERTEX
    provider.region, provider.project = "us-east-1", "one"
    provider.save()
    body = {"name": provider.name, "kind": provider.kind, "base_url": provider.base_url} | {
        "region": provider.region,
        "project": provider.project,
        field: value,
    }
    assert f"for the old {field}." in admin.post(change_url(provider), body).content.decode()


def test_what_the_kind_does_not_have_is_emptied(admin):
    admin.post(ADD, form(preset="groq", region="us-east-1", project="p", api_version="1", credential=SECRET))
    made = Provider.objects.get()
    assert (made.preset, made.region, made.project, made.api_version) == ("", "", "", "")


def test_a_credential_may_have_several_lines_and_be_long(admin, monkeypatch):
    monkeypatch.setattr("inference.forms.new_adapter", lambda account: None)
    credential = '{\n  "type": "service_account",\n  "private_key": "' + "x" * 4000 + '"\n}'
    response = admin.post(ADD, form(kind="vertex", region="r", project="p", base_url="", credential=credential))
    assert response.status_code == 302
    assert Provider.objects.get().credential.replace("\r\n", "\n") == credential
    assert "x" * 100 not in admin.get(change_url(Provider.objects.get())).content.decode()


def test_settings_that_the_kind_cannot_work_with_are_refused_in_its_words(admin, monkeypatch):
    def refuse(account):
        raise ValueError("This kind needs a region.")

    monkeypatch.setattr("inference.forms.new_adapter", refuse)
    page = admin.post(ADD, form(credential=SECRET)).content.decode()
    assert "This kind needs a region." in page
    assert SECRET not in page
    assert not Provider.objects.exists()


def test_a_compatible_provider_without_address_and_preset_is_refused(admin):
    assert "errorlist" in admin.post(ADD, form(kind="compatible", base_url="")).content.decode()
    assert not Provider.objects.exists()


def test_a_credential_that_no_key_opens_can_be_replaced(admin, provider, settings):
    settings.ENCRYPTION_KEYS = ["bm9ub25vbm9ub25vbm9ub25vbm9ub25vbm9ub25vbm8="]
    body = {"name": provider.name, "kind": "openai", "base_url": provider.base_url}
    assert "can&#x27;t be opened any more" in admin.post(change_url(provider), body).content.decode()
    assert admin.post(change_url(provider), body | {"credential": "sk-new-key"}).status_code == 302
    provider.refresh_from_db()
    assert provider.credential == "sk-new-key"


def test_each_kind_says_what_it_needs(admin):
    page = admin.get(ADD).content.decode()
    assert set(re.findall(r"kind kind--(\w+)", page)) == set(ProviderKind.values)


def test_deleting_a_provider_names_what_goes_with_it(admin, model, provider):
    page = admin.get(reverse("admin:inference_provider_delete", args=[provider.pk])).content.decode()
    assert "gpt-4-1" in page


def test_switching_off_the_last_provider_of_a_model_warns(admin, model, provider):
    body = {"name": provider.name, "kind": "openai", "base_url": provider.base_url}  # no "enabled"
    page = admin.post(change_url(provider), body, follow=True).content.decode()
    assert "No enabled deployment of an enabled provider answers for: gpt-4." in page


# Test connection


def test_a_connection_that_works(admin, connected, upstream):
    page = admin.post(page_url(connected, "test")).content.decode()
    assert f"{upstream.url}/models" in page
    assert "gpt-4o-mini" in page
    assert SECRET not in page
    assert upstream.last.headers["authorization"] == f"Bearer {SECRET}"
    assert logged(connected)[0].startswith("Tested: answered in ")


def test_a_connection_that_fails(admin, connected, upstream, monkeypatch):
    monkeypatch.setattr(upstream, "_list_models", status(401, f"Incorrect API key provided: {SECRET}."))
    page = admin.post(page_url(connected, "test")).content.decode()
    assert "Check the credential" in page
    assert "Incorrect API key provided: [key]" in page
    assert SECRET not in page
    assert logged(connected)[0].startswith("Tested: failed: ")
    assert SECRET not in logged(connected)[0]


@pytest.mark.parametrize("page", ["test", "models"])
def test_who_may_only_look_can_ask_nothing(client, clerk, connected, upstream, page):
    client.force_login(clerk)
    assert client.get(change_url(connected)).status_code == 200
    assert client.post(page_url(connected, page)).status_code == 403
    assert client.get(page_url(connected, page)).status_code in {403, 405}
    assert upstream.requests == []


def test_who_may_not_add_models_can_test_but_not_import(client, clerk, connected, upstream):
    clerk.user_permissions.add(Permission.objects.get(codename="change_provider"))
    client.force_login(clerk)
    assert page_url(connected, "models") not in client.get(change_url(connected)).content.decode()
    assert ">works<" in client.post(page_url(connected, "test")).content.decode()
    assert client.get(page_url(connected, "models")).status_code == 403
    assert confirm(client, connected, {"gpt-4o": "gpt-4o"}).status_code == 403
    assert not Model.objects.exists()


@pytest.mark.parametrize("page", ["test", "models"])
def test_strangers_are_sent_to_the_login(client, owner, organization, connected, upstream, page):
    client.force_login(owner)
    response = client.post(page_url(connected, page))
    assert response.status_code == 302
    assert "/admin/login" in response["Location"]
    assert upstream.requests == []


def test_a_test_needs_a_post_with_its_token(admin, connected, upstream):
    assert admin.get(page_url(connected, "test")).status_code == 405
    admin.handler.enforce_csrf_checks = True
    assert admin.post(page_url(connected, "test")).status_code == 403
    assert upstream.requests == []


def test_a_provider_that_is_not_there(admin, connected):
    url = page_url(connected, "test")
    connected.delete()
    assert admin.post(url).status_code == 404


# Import


def test_the_list_says_what_is_here_already(admin, connected):
    made = Model.objects.create(name="ours", owned_by="x")
    Deployment.objects.create(name="d", model=made, provider=connected, upstream_model="gpt-4o")
    page = admin.get(page_url(connected, "models")).content.decode()
    assert page.count('name="chosen"') == 2
    assert page.count("here already, as ours") == 1


def test_nothing_is_imported_before_it_is_confirmed(admin, connected):
    page = choose(admin, connected, "gpt-4o").content.decode()
    assert 'value="gpt-4o"' in page
    assert "gpt-4o-mini" not in page
    assert not Model.objects.exists()
    assert not Deployment.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_was_chosen_is_imported(admin, connected):
    confirm(admin, connected, {"gpt-4o": "gpt-4o", "gpt-4o-mini": "acme/small"}, priority="3", weight="5")
    assert set(Model.objects.values_list("name", "owned_by", "enabled")) == {
        ("gpt-4o", "acme", True),
        ("acme/small", "acme", True),
    }
    made = Deployment.objects.get(model__name="acme/small")
    assert (made.name, made.upstream_model) == ("somewhere/gpt-4o-mini", "gpt-4o-mini")
    assert (made.priority, made.weight, made.enabled, made.provider) == (3, 5, True, connected)
    assert logged(connected) == ["Imported gpt-4o, gpt-4o-mini"]
    assert logged(made) == logged(made.model) == ["Imported from somewhere"]
    assert version() is not None


def test_a_repeat_changes_nothing(admin, connected):
    for _ in range(2):
        page = confirm(admin, connected, {"gpt-4o": "gpt-4o"}).content.decode()
    assert "0 models and 0 deployments added. 1 deployment there already." in page
    assert (Model.objects.count(), Deployment.objects.count()) == (1, 1)


def test_a_model_that_is_here_gets_a_further_deployment(admin, connected, model):
    assert "a further deployment" in choose(admin, connected, "gpt-4").content.decode()
    confirm(admin, connected, {"gpt-4": "gpt-4"}, owned_by="somebody else")
    model.refresh_from_db()
    assert model.owned_by == "openai"
    assert model.deployments.count() == 2


def test_two_of_theirs_can_be_one_of_ours(admin, connected):
    confirm(admin, connected, {"a b": "one", "a-b": "one"})
    assert sorted(Deployment.objects.values_list("name", flat=True)) == ["somewhere/a-b", "somewhere/a-b-2"]


def test_what_is_imported_can_wait(admin, connected):
    confirm(admin, connected, {"gpt-4o": "gpt-4o"}, enabled="")
    assert not Model.objects.get().enabled
    assert not Deployment.objects.get().enabled


@pytest.mark.parametrize("name", ["", "with space", "<script>", "x" * 201, "-dash"])
def test_a_name_that_no_model_can_have_is_refused(admin, connected, name):
    page = confirm(admin, connected, {"gpt-4o": name}).content.decode()
    assert "errorlist" in page
    assert "<script>" not in page
    assert not Model.objects.exists()


def test_choosing_nothing_says_so(admin, connected):
    page = admin.post(page_url(connected, "models"), {}).content.decode()
    assert "Choose at least one model" in page


def test_a_provider_that_does_not_answer_has_no_list(admin, connected, upstream):
    upstream.stop()
    page = admin.get(page_url(connected, "models")).content.decode()
    assert "Nothing listens" in page
    assert 'name="chosen"' not in page


def test_names_of_theirs_are_suggested_as_ours_can_be(admin, connected):
    page = choose(admin, connected, "~weird model", "meta-llama/Llama-3.1-8B:free").content.decode()
    assert 'value="weird-model"' in page
    assert 'value="meta-llama/Llama-3.1-8B:free"' in page


def test_markup_in_a_list_is_text(admin, connected, upstream):
    upstream.models = ["<script>alert(1)</script>"]
    assert "<script>alert" not in admin.get(page_url(connected, "models")).content.decode()
