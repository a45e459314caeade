from collections.abc import Iterator

import pytest

from accounts import services
from accounts.models import Role, User
from helixflow.lib.errors import InvalidRequest

pytestmark = pytest.mark.django_db


def register(
    username: str = "ada@example.com", email: str = "ada@example.com", password: str = "a long secret 1"
) -> User:
    return services.register(username=username, email=email, password=password)


def test_it_makes_a_user_who_owns_an_organization() -> None:
    user = register()
    assert user.check_password("a long secret 1")
    assert not user.is_verified
    membership = user.memberships.get()
    assert membership.role == Role.OWNER
    assert membership.organization.name == "ada's organization"


@pytest.mark.parametrize(
    ("username", "email", "field"),
    [
        ("Owner@Example.com", "owner@example.COM", "email"),
        ("someone", "OWNER@example.com", "email"),
        ("other@example.com", "ada@example.com", "username"),
        ("ab", "ada@example.com", "username"),
        ("a b c", "ada@example.com", "username"),
        ("a\0bc", "ada@example.com", "username"),
        ("ada", "ada@example\0.com", "email"),
        ("ada", "not an address", "email"),
        ('"a\x0bBcc:b"@example.com', '"a\x0bBcc:b"@example.com', "email"),
    ],
)
def test_it_refuses_bad_and_taken_names(owner: User, username: str, email: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        register(username, email)
    assert field in refused.value.details


@pytest.mark.parametrize("password", ["short", "password", "12345678901", "ada@example.com", "x" * 1025])
def test_it_refuses_bad_passwords(password: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        register(password=password)
    assert set(refused.value.details) == {"password"}


def test_it_accepts_the_password_the_reference_prints() -> None:
    assert register("user@example.com", "user@example.com", "password123").pk


def test_losing_a_race_is_the_same_error_and_leaves_nothing(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    look = services._taken
    answers: Iterator[dict[str, str]] = iter([{}])  # the first look sees nobody, as if the other had not committed yet
    monkeypatch.setattr(services, "_taken", lambda user: next(answers, look(user)))
    with pytest.raises(InvalidRequest) as refused:
        register("owner@example.com", "owner@example.com")
    assert set(refused.value.details) == {"username", "email"}
    assert User.objects.count() == 1
