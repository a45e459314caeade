"""Makes the rows tests need, in one line each."""

from functools import cache

from django.contrib.auth.hashers import make_password

from accounts.models import Membership, Organization, Role, User
from inference import catalogue
from inference.models import Deployment, Model, Provider
from tests.fakes.upstream import Upstream

MODEL = "gpt-3.5-turbo"
PASSWORD = "correct horse 42"  # every test user's


@cache
def _password_hash() -> str:
    """Hashed once a process: Argon2 is slow by intent."""
    return make_password(PASSWORD)


def user(name: str, *, organization: Organization | None = None, role: str = Role.MEMBER) -> User:
    address = f"{name}@example.com"
    made = User.objects.create(username=address, email=address, password=_password_hash())
    if organization is not None:
        Membership.objects.create(organization=organization, user=made, role=role)
    return made


def superuser(name: str) -> User:
    made = user(name)
    made.is_staff = made.is_superuser = True
    made.save()
    return made


def organization(*, owner: User, name: str = "Acme") -> Organization:
    made = Organization.objects.create(name=name)
    Membership.objects.create(organization=made, user=owner, role=Role.OWNER)
    return made


def deploy(
    upstream: Upstream | str, *, name: str = "first", model: str = MODEL, priority: int = 0, **provider: object
) -> Deployment:
    """A deployment of ``model`` at ``upstream``; what the upstream calls it is its behaviour (tests/fakes)."""
    url = upstream if isinstance(upstream, str) else upstream.url
    row, _ = Model.objects.get_or_create(name=model, defaults={"owned_by": "openai"})
    home = Provider(name=f"provider-{name}", base_url=url, **provider)
    home.credential = "sk-provider-secret-0123456789"
    home.save()
    made = Deployment.objects.create(
        name=name, model=row, provider=home, upstream_model=f"upstream-{model}", priority=priority
    )
    reread_catalogue()
    return made


def reread_catalogue() -> None:
    """Other processes look once a second; a test in the same process need not wait."""
    catalogue.keeper.forget()
    catalogue.current()
