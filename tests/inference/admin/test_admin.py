"""The catalogue's pages: credentials that never come out, bad values, and changes that are announced."""

import pytest
from django.urls import reverse

from inference.models import Deployment, Model, Provider
from tests.inference.admin.pages import SECRET, change_url, form, version


@pytest.mark.parametrize("name", ["provider", "model", "deployment"])
@pytest.mark.parametrize("query", ["", "?q=gpt", "?enabled__exact=1"])
def test_the_lists_work_and_can_be_searched(admin, model, name, query):
    assert admin.get(reverse(f"admin:inference_{name}_changelist") + query).status_code == 200


@pytest.mark.parametrize("name", ["provider", "model", "deployment"])
def test_the_admin_is_for_staff(client, owner, organization, model, name):
    client.force_login(owner)
    response = client.get(reverse(f"admin:inference_{name}_changelist"))
    assert response.status_code == 302
    assert "/admin/login" in response["Location"]


def test_the_list_of_models_costs_the_same_for_many(admin, provider, django_assert_max_num_queries):
    for n in range(30):
        made = Model.objects.create(name=f"m{n}", owned_by="openai")
        Deployment.objects.create(name=f"m{n}-1", model=made, provider=provider, upstream_model="x")
    with django_assert_max_num_queries(12):
        admin.get(reverse("admin:inference_model_changelist"))
    with django_assert_max_num_queries(12):
        admin.get(reverse("admin:inference_deployment_changelist"))


def test_a_credential_goes_in_and_never_comes_out(admin):
    response = admin.post(reverse("admin:inference_provider_add"), form(credential=SECRET), follow=True)
    assert SECRET not in response.content.decode()
    provider = Provider.objects.get()
    assert provider.credential == SECRET
    assert SECRET not in provider.sealed_credential
    for url in (
        change_url(provider),
        reverse("admin:inference_provider_changelist"),
        f"/admin/inference/provider/{provider.pk}/history/",
    ):
        page = admin.get(url).content.decode()
        assert SECRET not in page
        assert provider.sealed_credential not in page


def test_a_refused_form_does_not_show_the_credential_either(admin):
    response = admin.post(reverse("admin:inference_provider_add"), form(credential=SECRET, base_url="ftp://x"))
    assert response.status_code == 200
    assert SECRET not in response.content.decode()


def test_an_empty_credential_keeps_the_old_one_and_a_box_forgets_it(admin, provider):
    admin.post(change_url(provider), form(name="renamed", credential="", base_url=provider.base_url))
    provider.refresh_from_db()
    assert (provider.name, provider.credential) == ("renamed", SECRET)
    admin.post(change_url(provider), form(credential="sk-another"))
    provider.refresh_from_db()
    assert provider.credential == "sk-another"
    admin.post(change_url(provider), form(forget_credential="on"))
    provider.refresh_from_db()
    assert provider.credential == ""


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, None),
        ({"credential": " "}, None),
        ({"credential": "sk-another"}, "sk-another"),
        ({"forget_credential": "on"}, ""),
    ],
)
def test_a_stored_credential_does_not_follow_to_another_address(admin, provider, fields, kept):
    old = provider.base_url
    response = admin.post(change_url(provider), form(base_url="https://elsewhere.example/v1", **fields))
    provider.refresh_from_db()
    if kept is None:
        assert "for the old base URL" in response.content.decode()
        assert (provider.base_url, provider.credential) == (old, SECRET)
    else:
        assert (provider.base_url, provider.credential) == ("https://elsewhere.example/v1", kept)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/v1",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "api.example.com/v1",
        "https://",
        "https://user:pass@example.com/v1",
        "https://example.com/v1?key=1",
        "https://example.com/v1#x",
        "https://example.com:99999/v1",
        "https://exa mple.com/v1",
        "https://example.com/v1\r\nX-Evil: 1",
    ],
)
def test_a_base_url_that_cannot_be_called_is_refused(admin, url):
    response = admin.post(reverse("admin:inference_provider_add"), form(base_url=url))
    assert response.status_code == 200
    assert "errorlist" in response.content.decode()
    assert not Provider.objects.exists()


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://127.0.0.1:8001/v1", "http://vllm:8000/v1"])
def test_other_base_urls_are_fine(admin, url):
    admin.post(reverse("admin:inference_provider_add"), form(base_url=url))
    assert Provider.objects.get().base_url == url


@pytest.mark.parametrize("credential", ["sk-\u2028x", "sk-é", "a\nb\rX-Evil: 1"])
def test_a_credential_that_no_header_carries_is_refused(admin, credential):
    admin.post(reverse("admin:inference_provider_add"), form(credential=credential))
    assert not Provider.objects.exists()


@pytest.mark.django_db(transaction=True)
class TestEveryChangeIsAnnounced:
    def test_saving_a_provider(self, admin, provider):
        admin.post(change_url(provider), form(base_url=provider.base_url))
        assert version() is not None

    def test_deleting_a_model(self, admin, model):
        admin.post(reverse("admin:inference_model_delete", args=[model.pk]), {"post": "yes"})
        assert not Model.objects.exists()
        assert version() is not None

    def test_deleting_several(self, admin, model):
        admin.post(
            reverse("admin:inference_model_changelist"),
            {"action": "delete_selected", "_selected_action": [str(model.pk)], "post": "yes"},
        )
        assert not Model.objects.exists()
        assert version() is not None

    def test_editing_the_list_of_deployments(self, admin, model):
        deployment = model.deployments.get()
        admin.post(
            reverse("admin:inference_deployment_changelist"),
            {
                "form-TOTAL_FORMS": "1",
                "form-INITIAL_FORMS": "1",
                "form-0-id": str(deployment.pk),
                "form-0-priority": "5",
                "form-0-weight": "7",
                "_save": "Save",
            },
        )
        deployment.refresh_from_db()
        assert (deployment.priority, deployment.weight, deployment.enabled) == (5, 7, False)
        assert version() is not None

    def test_adding_a_deployment_inline(self, admin, model, provider, organization):
        first = model.deployments.get()
        common = {"model": str(model.pk), "provider": str(provider.pk), "upstream_model": "x"}
        rows = [
            common | {"id": str(first.pk), "name": first.name, "priority": "0", "weight": "1", "enabled": "on"},
            common | {"id": "", "name": "gpt-4-2", "priority": "1", "weight": "1", "enabled": "on"},
        ]
        body = {
            "name": "gpt-4",
            "owned_by": "openai",
            "enabled": "on",
            "routing": "weighted",
            "created_at_0": "2026-01-01",
            "created_at_1": "00:00:00",
            "only_for": [str(organization.pk)],
            "deployments-TOTAL_FORMS": "2",
            "deployments-INITIAL_FORMS": "1",
            "fallbacks-TOTAL_FORMS": "0",
            "fallbacks-INITIAL_FORMS": "0",
        } | {f"deployments-{n}-{name}": value for n, row in enumerate(rows) for name, value in row.items()}
        response = admin.post(change_url(model), body)
        assert response.status_code == 302, response.content.decode()
        assert set(model.deployments.values_list("name", flat=True)) == {"gpt-4-1", "gpt-4-2"}
        assert model.only_for.get() == organization
        assert version() is not None


def test_zero_weight_is_refused(admin, model):
    deployment = model.deployments.get()
    body = {"name": "d", "model": str(model.pk), "provider": str(deployment.provider_id), "upstream_model": "x"}
    response = admin.post(change_url(deployment), body | {"priority": "0", "weight": "0"})
    assert response.status_code == 200
    assert "errorlist" in response.content.decode()
