"""Makes the rows tests need, in one line each."""

import base64
from functools import cache

from django.contrib.auth.hashers import make_password

from accounts.models import Membership, Organization, Role, User
from helixflow.lib import crypto, ids
from inference import catalogue
from inference.models import Deployment, Model, Provider
from tests.fakes.upstream import Upstream
from webhooks.models import Attempt, Delivery, Endpoint, Event, EventType

MODEL = "gpt-3.5-turbo"
PASSWORD = "correct horse 42"  # every test user's
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()  # every test endpoint's


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


def endpoint(organization: Organization, url: str = "https://hooks.example.com/in", **fields: object) -> Endpoint:
    """Of all events unless ``events`` says otherwise."""
    known = {"events": EventType.values, "sealed_secret": crypto.encrypt(SECRET)}
    return Endpoint.objects.create(organization=organization, url=url, **(known | fields))


def delivery(
    endpoint: Endpoint, *, event_type: str = EventType.COMPLETION_CREATED, data: object = None, **fields: object
) -> Delivery:
    """Of an event of its own; pending and due unless ``fields`` say otherwise."""
    known = {"id": ids.new_id(ids.COMPLETION), "model": MODEL}
    event = Event.objects.create(
        organization=endpoint.organization, type=event_type, data=known if data is None else data
    )
    return Delivery.objects.create(organization=endpoint.organization, endpoint=endpoint, event=event, **fields)


def attempt(delivery: Delivery, **fields: object) -> Attempt:
    """One that succeeded unless ``fields`` say otherwise."""
    known = {
        "started_at": delivery.created_at,
        "duration_ms": 12.5,
        "url": delivery.endpoint.url,
        "request_headers": {"webhook-id": ids.public_id(ids.EVENT, delivery.event_id)},
        "succeeded": True,
        "status": 204,
    }
    return Attempt.objects.create(delivery=delivery, endpoint=delivery.endpoint, **(known | fields))
