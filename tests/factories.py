"""Makes the rows tests need, in one line each."""

from functools import cache

from django.contrib.auth.hashers import make_password

from accounts.models import Membership, Organization, Role, User

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


def organization(*, owner: User, name: str = "Acme") -> Organization:
    made = Organization.objects.create(name=name)
    Membership.objects.create(organization=made, user=owner, role=Role.OWNER)
    return made
