"""Providers' credentials: sealed at rest, under keys that can be changed, and shown to nobody."""

import re
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.test import Client

from helixflow.lib import crypto
from helixflow.management.commands.reseal_credentials import sealed_columns
from inference import catalogue
from inference.models import Deployment, Model, Provider
from tests import factories

SECRET = "sk-provider-secret-0123456789"
OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider(settings) -> Provider:
    settings.ENCRYPTION_KEYS = [OLD]
    made = Provider(name="sealed-long-ago", base_url="https://x.example/v1")
    made.credential = SECRET
    made.save()
    model = Model.objects.create(name="gpt-4", owned_by="openai")
    Deployment.objects.create(name="there", model=model, provider=made, upstream_model="m")
    return made


def stored(provider: Provider) -> str:
    return Provider.objects.get(id=provider.id).sealed_credential


def test_a_key_can_be_changed_step_by_step(settings, provider, capsys):
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    assert Provider.objects.get().credential == SECRET
    call_command("reseal_credentials")
    assert "inference.Provider: 1 encrypted anew, 0 already under the first key." in capsys.readouterr().out
    settings.ENCRYPTION_KEYS = [NEW]
    assert Provider.objects.get().credential == SECRET
    assert catalogue.read().models["gpt-4"].deployments


def test_without_it_the_old_key_can_t_go(settings, provider, caplog):
    settings.ENCRYPTION_KEYS = [NEW]
    with pytest.raises(crypto.Undecryptable):
        _ = Provider.objects.get().credential
    assert not [model.deployments for model in catalogue.read().models.values() if model.deployments]
    assert "deployment there is left out" in caplog.text
    assert stored(provider) not in caplog.text


def test_repeating_it_changes_nothing(settings, provider, capsys):
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    call_command("reseal_credentials")
    sealed = stored(provider)
    capsys.readouterr()
    call_command("reseal_credentials")
    assert stored(provider) == sealed
    assert "inference.Provider: 0 encrypted anew, 1 already under the first key." in capsys.readouterr().out


def test_what_no_key_opens_is_named_and_left_alone(settings, provider, capsys):
    settings.ENCRYPTION_KEYS = [OTHER]
    openable = Provider(name="openable", base_url="https://x.example/v1")
    openable.credential = "sk-another"
    openable.save()
    settings.ENCRYPTION_KEYS = [NEW, OTHER]
    sealed = stored(provider)
    with pytest.raises(CommandError) as failed:
        call_command("reseal_credentials")
    assert str(provider.id) in str(failed.value)
    assert str(openable.id) not in str(failed.value)
    assert stored(provider) == sealed
    assert "1 encrypted anew" in capsys.readouterr().out
    for text in (str(failed.value), *capsys.readouterr()):
        assert SECRET not in text
        assert sealed not in text


def test_providers_without_a_credential_have_none_to_encrypt(settings):
    settings.ENCRYPTION_KEYS = [NEW]
    Provider.objects.create(name="open", base_url="http://127.0.0.1:1/v1")
    call_command("reseal_credentials")
    assert Provider.objects.get().sealed_credential == ""


def test_a_credential_entered_meanwhile_wins(settings, provider, monkeypatch):
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    entered = crypto.encrypt("sk-entered-meanwhile")
    reseal = crypto.reseal

    def slowly(sealed: str) -> str:
        Provider.objects.filter(id=provider.id).update(sealed_credential=entered)
        return reseal(sealed)

    monkeypatch.setattr(crypto, "reseal", slowly)
    call_command("reseal_credentials")
    assert Provider.objects.get().credential == "sk-entered-meanwhile"


def test_every_column_that_is_encrypted_is_found_by_its_name():
    assert ("inference.Provider", "sealed_credential") in [(name, column) for name, _, column in sealed_columns()]
    root = Path(__file__).parents[2]
    sealing = re.compile(r"(\S+)\s*=\s*crypto\.encrypt\(")
    for app in ("accounts", "billing", "inference", "webhooks", "helixflow"):
        for path in (root / app).rglob("*.py"):
            targets = sealing.findall(path.read_text())
            assert all(target.rpartition(".")[2].startswith("sealed_") for target in targets), path


def test_no_page_of_the_admin_site_shows_a_credential(settings, provider):
    client = Client()
    client.force_login(factories.superuser("root"))
    deployment = provider.deployments.get()
    places = {"provider": provider.pk, "model": deployment.model_id, "deployment": deployment.pk}
    for name, key in places.items():
        for page in ("", "add/", f"{key}/change/", f"{key}/history/", f"{key}/delete/"):
            response = client.get(f"/admin/inference/{name}/{page}")
            assert response.status_code == 200
            for secret in (SECRET, SECRET[-10:], provider.sealed_credential):
                assert secret not in response.content.decode()
