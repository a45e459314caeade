"""POST /v1/auth/refresh."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import jwt, sessions
from accounts.models import TokenSession, User
from tests import factories
from tests.accounts.conftest import Post

URL = "/v1/auth/refresh"
pytestmark = pytest.mark.django_db


@pytest.fixture
def session(owner: User) -> TokenSession:
    return sessions.start(user=owner)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


def body(token: str) -> dict[str, str]:
    return {"refresh_token": token}


def test_it_answers_in_logins_shape_and_rotates(post: Post, session: TokenSession, owner: User) -> None:
    first = jwt.refresh_token(session)
    response = post(URL, body(first))
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    assert set(answer) == {"access_token", "token_type", "expires_in", "user", "refresh_token"}
    assert answer["user"]["id"] == owner.public_id
    assert answer["refresh_token"] != first
    assert post(URL, body(answer["refresh_token"])).status_code == 200


def test_a_repeat_within_ten_seconds_gets_the_same_successor(post: Post, session: TokenSession, clock) -> None:
    first = jwt.refresh_token(session)
    successor = post(URL, body(first)).json()["refresh_token"]
    clock.shift(timedelta(seconds=10))
    assert post(URL, body(first)).json()["refresh_token"] == successor
    assert post(URL, body(successor)).status_code == 200


def test_later_reuse_ends_the_session(post: Post, session: TokenSession, clock) -> None:
    first = jwt.refresh_token(session)
    successor = post(URL, body(first)).json()
    clock.shift(timedelta(seconds=11))
    assert post(URL, body(first)).status_code == 401
    assert post(URL, body(successor["refresh_token"])).status_code == 401
    session.refresh_from_db()
    assert session.ended_at is not None


def test_reuse_of_an_older_ancestor_ends_the_session_at_once(post: Post, session: TokenSession) -> None:
    first = jwt.refresh_token(session)
    second = post(URL, body(first)).json()["refresh_token"]
    third = post(URL, body(second)).json()["refresh_token"]
    assert post(URL, body(first)).status_code == 401
    assert post(URL, body(third)).status_code == 401


def test_a_session_lives_seven_days_from_its_last_refresh(post: Post, session: TokenSession, clock) -> None:
    token = jwt.refresh_token(session)
    for _ in range(3):
        clock.shift(timedelta(days=6))
        token = post(URL, body(token)).json()["refresh_token"]
    clock.shift(timedelta(days=7, seconds=1))
    assert post(URL, body(token)).status_code == 401


def test_an_inactive_user_gets_none(post: Post, session: TokenSession, owner: User) -> None:
    User.objects.update(is_active=False)
    assert post(URL, body(jwt.refresh_token(session))).status_code == 401


def test_other_tokens_are_refused(post: Post, session: TokenSession) -> None:
    good = jwt.refresh_token(session)
    head, payload, signature = good.split(".")
    for bad in (
        jwt.access_token(session),
        "hflow_" + "a" * 49,
        "nonsense",
        f"{head}.{payload}.{'A' * len(signature)}",
        f"{payload}.{head}.{signature}",
        "..",
    ):
        response = post(URL, body(bad))
        assert response.status_code == 401, bad
        assert response.json()["error"]["code"] == "authentication_failed"
    session.refresh_from_db()
    assert session.ended_at is None


@pytest.mark.parametrize("sent", [{}, {"refresh_token": None}, {"refresh_token": 7}, {"refresh_token": "x" * 5000}])
def test_bad_fields_are_400(post: Post, sent: dict[str, object]) -> None:
    response = post(URL, sent)
    assert response.status_code == 400
    assert "refresh_token" in response.json()["error"]["details"]


@pytest.mark.django_db(transaction=True)
def test_eight_refreshes_at_once_get_one_successor() -> None:
    user = factories.user("parallel")
    token = jwt.refresh_token(sessions.start(user=user))
    together = Barrier(8)

    def refresh(_: int) -> str:
        together.wait(timeout=10)
        try:
            answer = Client().post(URL, body(token), content_type="application/json")
            assert answer.status_code == 200
            return str(answer.json()["refresh_token"])
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        successors = set(pool.map(refresh, range(8)))
    assert len(successors) == 1
    assert Client().post(URL, body(successors.pop()), content_type="application/json").status_code == 200
