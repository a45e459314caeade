"""Makes the rows tests need, in one line each."""

from accounts.models import Membership, Organization, Role, User

PASSWORD = "correct horse 42"  # every test user's


def user(name: str, *, organization: Organization | None = None, role: str = Role.MEMBER) -> User:
    made = User.objects.create_user(username=f"{name}@example.com", email=f"{name}@example.com", password=PASSWORD)
    if organization is not None:
        Membership.objects.create(organization=organization, user=made, role=role)
    return made


def organization(*, owner: User, name: str = "Acme") -> Organization:
    made = Organization.objects.create(name=name)
    Membership.objects.create(organization=made, user=owner, role=Role.OWNER)
    return made
