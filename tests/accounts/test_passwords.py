"""How passwords are kept."""

import getpass

import pytest
from django.core.management import call_command

from accounts import sessions
from accounts.models import User
from tests.factories import PASSWORD

pytestmark = pytest.mark.usefixtures("real_hashes")
OLD = "argon2$argon2id$v=19$m=102400,t=2,p=8$AXGMTRTvuGuYyQ9KhJaUwA$vODb1k56R/YeMjTGkFFDMNOFjq4zgd9ShGGnBuK42KQ"


def test_a_hash_is_argon2id_and_takes_little_memory() -> None:
    user = User()
    user.set_password(PASSWORD)
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert user.check_password(PASSWORD)
    assert not user.check_password(f"{PASSWORD} ")


def test_a_hash_of_other_numbers_still_opens() -> None:
    """Made with Django's own, and made anew when its owner logs in."""
    user = User(password=OLD)
    user.save = lambda **kwargs: None  # type: ignore[method-assign]  # no row to save
    assert user.check_password(PASSWORD)
    assert "m=19456" in user.password


def test_the_changepassword_command_ends_the_api_sessions(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.start(user=owner)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: "another secret 1")
    call_command("changepassword", owner.username)
    session.refresh_from_db()
    owner.refresh_from_db()
    assert session.ended_at is not None
    assert owner.check_password("another secret 1")
