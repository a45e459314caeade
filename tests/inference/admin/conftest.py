"""An operator, and the rows that they look after."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import User
from inference.models import Deployment, Model, Provider, ProviderKind
from tests import factories
from tests.inference.admin.pages import SECRET


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(factories.superuser("root"))
    return client


@pytest.fixture
def clerk(db: None) -> User:
    """Staff who may look and change nothing."""
    user = factories.user("clerk")
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return user


@pytest.fixture
def provider(db: None) -> Provider:
    made = Provider(name="somewhere", kind=ProviderKind.OPENAI, base_url="http://127.0.0.1:9/v1")
    made.credential = SECRET
    made.save()
    return made


@pytest.fixture
def model(provider: Provider) -> Model:
    made = Model.objects.create(name="gpt-4", owned_by="openai")
    Deployment.objects.create(name="gpt-4-1", model=made, provider=provider, upstream_model="gpt-4-0613")
    return made
